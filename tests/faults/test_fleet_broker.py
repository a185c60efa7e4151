"""The fleet's broker as it is shipped: who may say and hear what, who is let in, and what a kill costs."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from cloud_fallback.fleet.broker import MANAGER_USER, BrokerFiles, access_list, configuration
from tests.simulators.broker import MOSQUITTO, wait_until
from tests.simulators.fleet_broker import TENANT, FleetBroker, Person

ETC = Path("/etc/mosquitto/fleet")
REFUSED = 0x87  # not authorized

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FleetBroker]:
    broker = FleetBroker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


def own(device: str, channel: str) -> str:
    return f"v1/{TENANT}/d/{device}/{channel}"


def test_the_packaged_files_are_what_fleet_init_writes() -> None:
    packaging = Path(__file__).parents[2] / "packaging"
    files = BrokerFiles(
        ETC / "ca.crt", ETC / "broker.crt", ETC / "broker.key", ETC / "revoked.pem", ETC / "acl",
        Path("/var/lib/mosquitto"),
    )  # fmt: skip
    assert (packaging / "mosquitto.conf").read_text() == configuration(files)
    assert (packaging / "mosquitto.acl").read_text() == access_list(TENANT)


@pytest.mark.broker
@needs_mosquitto
def test_a_device_has_its_own_topics_and_no_others(broker: FleetBroker) -> None:
    manager, one, two = (Person(broker, name) for name in (MANAGER_USER, "one", "two"))
    manager.subscribe("#")
    one.subscribe("#")
    one.subscribe(own("two", "#"))
    assert one.says(own("one", "reported"), "mine").value < 0x80
    for topic in (
        own("two", "reported"), own("two", "presence"), own("two", "desired"), own("one", "desired"),
        own("one", "cmd"), f"v1/{TENANT}/all/notice", "v1/other/d/one/reported", "anything",
    ):  # fmt: skip
        assert one.says(topic, "not mine").value == REFUSED, topic
    for channel in ("reported", "event", "presence"):
        assert two.says(own("two", channel), channel).value < 0x80
    for device in ("one", "two"):
        manager.says(own(device, "desired"), f"for {device}", retain=True)
    manager.says(f"v1/{TENANT}/all/notice", "for all")
    wait_until(lambda: len(manager.heard) == 7)
    wait_until(lambda: (f"v1/{TENANT}/all/notice", b"for all") in one.heard)
    assert sorted(one.heard) == [
        (f"v1/{TENANT}/all/notice", b"for all"), (own("one", "desired"), b"for one"),
    ]  # fmt: skip
    assert all(b"not mine" not in payload for _, payload in manager.heard)
    for each in (manager, one, two):
        each.leave()


@pytest.mark.broker
@needs_mosquitto
def test_a_device_cannot_take_over_anothers_session(broker: FleetBroker) -> None:
    one = Person(broker, "one")
    thief = Person(broker, "two", client_id="one", clean=False)
    assert thief.says(own("two", "event"), "here").value < 0x80
    assert one.says(own("one", "event"), "still here").value < 0x80
    assert not one.ended
    thief.leave()
    one.leave()


@pytest.mark.broker
@needs_mosquitto
def test_nobody_comes_in_without_a_certificate_that_counts(broker: FleetBroker, tmp_path: Path) -> None:
    import socket

    context = ssl.create_default_context(cafile=broker.ca)
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("127.0.0.1", broker.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"\x10\x00")
        assert connection.recv(10) == b""
        raise ConnectionResetError("closed")
    one = Person(broker, "one")
    one.leave()
    serial = x509.load_pem_x509_certificate((broker.folder / "one.pem").read_bytes()).serial_number
    broker.revoke(f"{serial:x}")
    broker.reload()

    def shut_out() -> bool:
        context = ssl.create_default_context(cafile=broker.ca)
        context.load_cert_chain(broker.folder / "one.pem", broker.folder / "one.key")
        try:
            with (
                socket.create_connection(("127.0.0.1", broker.port), 5) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
            ):
                connection.sendall(b"\xc0\x00")
                return connection.recv(10) == b""
        except ssl.SSLError as error:
            return "REVOKED" in str(error).upper()

    wait_until(shut_out)
    two = Person(broker, "two")
    assert two.welcome is not None
    assert not two.welcome.is_failure
    two.leave()


@pytest.mark.broker
@needs_mosquitto
def test_what_was_acknowledged_and_saved_survives_a_kill(broker: FleetBroker) -> None:
    manager = Person(broker, MANAGER_USER)
    for device in ("one", "two"):
        assert manager.says(own(device, "desired"), f"for {device}", retain=True).value < 0x80
    kept = broker.folder / "state" / "mosquitto.db"
    wait_until(lambda: kept.exists() and b"for two" in kept.read_bytes())
    manager.leave()
    broker.kill()
    broker.start()
    one = Person(broker, "one", clean=False)
    one.subscribe(own("one", "desired"))
    wait_until(lambda: one.heard == [(own("one", "desired"), b"for one")])
    one.leave()
