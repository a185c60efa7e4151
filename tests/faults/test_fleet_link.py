"""The link to a broker that is not there, not ours, none at all, or not for us: it says why and goes on."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.fleet.outbound import presence
from edge_runtime.fleet.paho_link import LinkOptions, PahoLink
from edge_runtime.fleet.ports import Connected, Happened, Lost, Message, Post, Settled
from edge_runtime.fleet.topics import Channel
from tests.simulators.broker import MOSQUITTO, free_port
from tests.simulators.fleet_broker import FleetBroker
from tests.simulators.fleet_device import enrolled, quick
from tests.simulators.fleet_manager import MINE, Manager

WILL = presence(MINE, online=False, time=None)
PLAIN = LinkOptions("127.0.0.1", 0, "d1", None, answer_s=0.3, retry_first_s=0.01, retry_longest_s=0.05)
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto"
)


def link_to(options: LinkOptions) -> PahoLink:
    return PahoLink(options, MINE.taken(), WILL, dice=lambda: 0.5)


def until(link: PahoLink, wanted: Callable[[Happened], bool], timeout_s: float = 20.0) -> list[Happened]:
    """Poll until something happens; give everything up to it."""
    found: list[Happened] = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found += link.poll(0.5)
        if any(wanted(each) for each in found):
            return found
    raise AssertionError(f"in vain: {found[-5:]}")


def lost(text: str) -> Callable[[Happened], bool]:
    return lambda each: isinstance(each, Lost) and text in each.reason


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FleetBroker]:
    broker = FleetBroker(tmp_path / "broker")
    yield broker
    broker.stop()


class Strange:
    """A server that is no broker: sends something to whoever comes, or nothing."""

    def __init__(self, says: bytes, *, hangs_up: bool) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._says, self._hangs_up = says, hangs_up
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._open.append(connection)
                with suppress(OSError):  # it may have hung up itself
                    connection.recv(4096)
                    connection.sendall(self._says)
                if self._hangs_up:
                    connection.close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for each in self._open:
            each.close()


@pytest.mark.parametrize(
    ("says", "hangs_up", "reason"),
    [
        (b"", True, "the connection was lost"),
        (b"", False, "does not answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, ""),
        (b"\x20\x03\x00\x87\x00", False, "Not authorized"),
        (b"\x20\x7f" + b"\xff" * 127, False, ""),
        (bytes(range(256)) * 4, False, ""),
    ],
)
def test_what_is_no_broker(says: bytes, hangs_up: bool, reason: str) -> None:
    strange = Strange(says, hangs_up=hangs_up)
    link = link_to(replace(PLAIN, port=strange.port))
    for _ in range(2):
        until(link, lost(reason))
    assert link.publish(WILL) is None
    link.close(WILL)
    strange.close()


def test_nobody_is_there_and_somebody_calls() -> None:
    link = link_to(replace(PLAIN, port=free_port(), retry_first_s=60, retry_longest_s=60))
    until(link, lost("cannot connect"))
    threading.Timer(0.05, link.wake).start()
    began_s = time.monotonic()
    assert list(link.poll(30)) == []
    assert time.monotonic() - began_s < 20, "a call ends the wait"
    link.close(WILL)
    link.wake()


@pytest.mark.parametrize("host", ["", "no such host", "a" * 300])
def test_a_host_that_cannot_be(host: str) -> None:
    link = link_to(replace(PLAIN, host=host, port=1))
    until(link, lost("cannot connect"))
    link.close(WILL)


@pytest.mark.broker
@needs_mosquitto
def test_certificates_are_checked_at_both_ends(broker: FleetBroker, tmp_path: Path) -> None:
    broker.start()
    good = enrolled(tmp_path / "d1", broker)
    link = link_to(quick(good))
    until(link, lambda each: isinstance(each, Connected))
    link.close(WILL)
    other = FleetBroker(tmp_path / "other")
    stranger = enrolled(tmp_path / "stranger", other)
    (tmp_path / "stranger" / "ca.crt").write_bytes(broker.ca.read_bytes())
    link = link_to(quick(replace(stranger, broker_port=broker.port)))
    until(link, lost(""))  # the broker hangs up; with TLS 1.3 that looks like any loss
    link.close(WILL)
    (tmp_path / "d1" / "ca.crt").write_bytes(other.ca.read_bytes())
    link = link_to(quick(good))
    until(link, lost("CERTIFICATE_VERIFY_FAILED"))
    (tmp_path / "d1" / "ca.crt").write_bytes(broker.ca.read_bytes())
    until(link, lambda each: isinstance(each, Connected))
    (tmp_path / "d1" / "device.key").unlink()
    broker.kill()
    until(link, lost("the connection was lost"))
    broker.start()
    until(link, lost("cannot connect"))
    link.close(WILL)


@pytest.mark.broker
@needs_mosquitto
def test_a_message_goes_and_comes_with_all_it_has(broker: FleetBroker, tmp_path: Path) -> None:
    broker.start()
    manager = Manager(broker, events=False)
    link = link_to(quick(enrolled(tmp_path / "d1", broker)))
    manager.say(MINE.of(Channel.DESIRED), b"kept", retain=True)
    until(link, lambda each: isinstance(each, Message))
    manager.say(
        MINE.of(Channel.COMMAND),
        b"do",
        ResponseTopic="v1/acme/m/r1/reply",
        CorrelationData=b"\x00\xff",
        MessageExpiryInterval=30,
    )
    found = until(link, lambda each: isinstance(each, Message) and each.payload == b"do")
    assert found[-1] == Message(
        MINE.of(Channel.COMMAND), b"do", False, "v1/acme/m/r1/reply", b"\x00\xff", 30.0
    )
    ticket = link.publish(Post(MINE.of(Channel.REPORTED), b"{}"))
    assert ticket is not None
    until(link, lambda each: each == Settled(ticket))
    unheard = link.publish(Post(MINE.of(Channel.EVENT), b"{}"))
    found = until(link, lambda each: isinstance(each, Settled))
    assert found[-1] == Settled(unheard or 0, "No matching subscribers")
    forbidden = link.publish(Post("v1/acme/d/d2/reported", b"{}"))
    found = until(link, lambda each: isinstance(each, Settled))
    assert found[-1] == Settled(forbidden or 0, "Not authorized")
    link.close(WILL)
    manager.close()


@pytest.mark.broker
@needs_mosquitto
def test_a_session_brings_what_came_meanwhile_and_is_not_too_old(broker: FleetBroker, tmp_path: Path) -> None:
    broker.start()
    manager = Manager(broker)
    options = quick(enrolled(tmp_path / "d1", broker))
    link = link_to(options)
    until(link, lambda each: isinstance(each, Connected))
    link.close(WILL)
    manager.say(MINE.of(Channel.COMMAND), b"too old", MessageExpiryInterval=1)
    manager.say(MINE.of(Channel.COMMAND), b"in time", MessageExpiryInterval=60)
    threading.Event().wait(2.1)  # the broker's own clock counts whole seconds
    link = link_to(options)
    found = until(link, lambda each: isinstance(each, Message))
    assert [each.payload for each in found if isinstance(each, Message)] == [b"in time"]
    link.close(WILL)
    manager.close()
