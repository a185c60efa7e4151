"""MqttSink: events and state to an MQTT 5 broker, over a spool on disk.

    {prefix}/{site}/{camera}/events   each event, QoS 1
    {prefix}/{site}/{camera}/state    the camera now, retained, at most once a second
    {prefix}/{site}/answers/{id}      a late answer of the cloud, QoS 1
    {prefix}/{site}/level             what the machine has given up so as not to break, and why, retained
    {prefix}/{site}/store             who came and went today, where that is counted, retained
    {prefix}/{site}/models/{model}    the version of a model that a fleet updates, retained
    {prefix}/{site}/status            "online" or "offline", retained, the last will

An event or an answer leaves the spool when the broker acknowledges it, not before. Receives no messages; the
fleet's link is another client. With an `Announcer`, Home Assistant is told what there is.
"""

import json
import logging
import random
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.errors import RemoteError, StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.status import AgentStatus, CameraStatus, SinkStatus
from edge_runtime.sinks.announcer import Announcer
from edge_runtime.sinks.home_assistant import StorePlan
from edge_runtime.sinks.mqtt_link import Broker, Link, Tls
from edge_runtime.sinks.spool import Spool
from edge_runtime.sinks.states import of_the_store
from edge_runtime.sinks.topics import level

__all__ = ["MqttOptions", "MqttSink", "Tls"]

log = logging.getLogger(__name__)

_STATE_EVERY_S = 1.0
_STEADY_S = 30.0


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """A broker and how to use it.

    Args:
        host: Name or address of the broker.
        port: TCP port.
        username: None: none is sent.
        password: None: none is sent.
        tls: None: plain TCP.
        prefix: Topics begin with it.
        queue_max_bytes: Events kept on disk at most; then the oldest are dropped and counted.
        window: Events sent and not acknowledged at most; the broker may ask for fewer.
        retry_first_s: Wait before connecting again; doubles with every failure, half of it left to the dice.
        retry_longest_s: Longest such wait.
        refused_s: Wait when trying again cannot help before somebody changes something.
        farewell_s: How long `close` goes on sending.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    prefix: str = "edge"
    queue_max_bytes: int = 256 * 2**20
    window: int = 64
    retry_first_s: float = 1.0
    retry_longest_s: float = 30.0
    refused_s: float = 30.0
    farewell_s: float = 3.0


class MqttSink:
    """Keeps events on disk and sends them to a broker, for as long as it takes.

    Args:
        options: The broker.
        site: This store; part of every topic and of the client's id.
        spool: The SQLite file that holds what the broker has not acknowledged.
        name: What statuses and messages call this sink.
        announcer: Tells Home Assistant what there is; None: nobody does.

    Raises:
        ConfigError: A certificate cannot be read.
    """

    def __init__(
        self,
        options: MqttOptions,
        *,
        site: str,
        spool: Path,
        name: str = "mqtt",
        announcer: Announcer | None = None,
    ) -> None:
        self.name = name
        self._options = options
        self._context = None if options.tls is None else options.tls.context()
        self._announcer = announcer
        self._root = f"{options.prefix}/{level(site)}"
        self._broker = Broker(
            options.host,
            options.port,
            client_id=f"edge-runtime-{site}",
            username=options.username,
            password=options.password,
            tls=options.tls,
        )
        self._spool = Spool(spool, max_bytes=options.queue_max_bytes)
        self._states: dict[str, bytes] = {}
        self._store_states: dict[str, bytes] = {}
        self._delivered = 0
        self._trouble = ""
        self._closing = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def write(self, events: Sequence[Event]) -> None:
        """Put events into the spool.

        Raises:
            StorageError: The disk did not take them.
        """
        self._spool.append(
            [(f"{self._root}/{level(e.camera)}/events", e.model_dump_json().encode()) for e in events]
        )
        self._ring()

    def answer(self, request_id: str, document: bytes) -> None:
        """Put the late answer to a request into the spool.

        Args:
            request_id: Of the request.
            document: What is published.

        Raises:
            StorageError: The disk did not take it.
        """
        self._spool.append([(f"{self._root}/answers/{level(request_id)}", document)])
        self._ring()

    def sync(self) -> None:
        """Make the spool survive a power cut.

        Raises:
            StorageError: The disk reports a failure.
        """
        self._spool.sync()

    def report(self, status: AgentStatus) -> None:
        """Publish, retained, how the cameras are; at most once a second each, and only what changed."""
        there = {f"{self._root}/{level(c.name)}/state": _state(c) for c in status.cameras}
        gone = {
            topic: _stopped(payload, "the camera was removed")
            for topic, payload in self._states.items()
            if topic not in there
        }
        self._states = gone | there
        self._store_states = {f"{self._root}/{end}": state for end, state in of_the_store(status).items()}

    def describe(self, plan: StorePlan) -> None:
        """Take in which cameras, zones, lines and models there are from now on; returns at once."""
        if self._announcer is not None:
            self._announcer.plan = plan
            self._ring()

    def status(self) -> SinkStatus:
        """Say how many events the broker acknowledged, and how many wait for it."""
        return SinkStatus(
            self.name,
            written=self._delivered,
            waiting=len(self._spool),
            dropped=self._spool.dropped,
            trouble=self._trouble or self._spool.damage,
        )

    def close(self) -> None:
        """Send what can be sent within `farewell_s`, say "offline", disconnect. The rest stays on disk."""
        self._states = {
            topic: _stopped(payload, "the agent was stopped") for topic, payload in self._states.items()
        }
        self._closing.set()
        self._ring()
        self._thread.join(self._options.farewell_s + 10.0)
        self._spool.close()
        self._wake.close()
        self._waker.close()

    def _ring(self) -> None:
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            return  # rung often enough already

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._spool.open()
                with closing(Link(self._broker, self._context, f"{self._root}/status", self._wake)) as link:
                    link.open()
                    self._set_trouble("")
                    log.info("sink %s: connected to %s", self.name, self._broker)
                    self._serve(link)
            except (RemoteError, StorageError) as error:
                self._set_trouble(str(error))
                # A broker that lets us in only to throw us out is not asked every second either.
                failures = 0 if time.monotonic() - began > _STEADY_S else failures
                retryable = isinstance(error, StorageError) or error.retryable
                self._closing.wait(self._pause(failures) if retryable else self._options.refused_s)
                failures += 1
            except Exception:
                log.exception("sink %s failed", self.name)
                self._trouble = "a fault of the sink itself; see the log"
                self._closing.wait(self._options.refused_s)

    def _pause(self, failures: int) -> float:
        longest = min(self._options.retry_longest_s, self._options.retry_first_s * 2.0 ** min(failures, 16))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing

    def _serve(self, link: Link) -> None:
        """Send until the sink is closed."""
        # One place is for the availability.
        session = _Session(link, self._spool, max(1, min(self._options.window, link.receive_maximum - 1)))
        if self._announcer is not None:
            self._announcer.begin()
        told: dict[str, bytes] = {}
        tell_at = time.monotonic()
        until: float | None = None
        while until is None or (time.monotonic() < until and session.owes()):
            if until is None and self._closing.is_set():
                until = time.monotonic() + self._options.farewell_s
            self._send(link, session)
            if time.monotonic() >= tell_at:
                told = self._tell(link, told)
                tell_at = time.monotonic() + _STATE_EVERY_S
            link.poll(_STATE_EVERY_S if until is None else 0.1)
            self._settle(session, link.settled())
        self._tell(link, told)

    def _send(self, link: Link, session: "_Session") -> None:
        """Hand over as much as the broker allows: an announcement first, then what the spool has."""
        announcing = 0
        if self._announcer is not None:
            if session.room > 0:
                self._announcer.send(link)
            announcing = int(self._announcer.busy)
        session.send(session.room - announcing)

    def _settle(self, session: "_Session", mids: list[int]) -> None:
        if self._announcer is not None:
            self._announcer.settle(mids)
        try:
            self._delivered += session.settle(mids)
        except StorageError as error:
            # A full disk cannot forget either. The connection is good: go on, and send nothing twice.
            self._set_trouble(str(error))
        else:
            self._set_trouble("")

    def _tell(self, link: Link, told: dict[str, bytes]) -> dict[str, bytes]:
        states = self._states | self._store_states
        for topic, payload in states.items():
            if told.get(topic) != payload:
                # Lost with the connection at worst, and the next connection begins with all states.
                link.publish(topic, payload, qos=0, retain=True)
        return states

    def _set_trouble(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("sink %s: %s", self.name, trouble)
        self._trouble = trouble


class _Session:
    """What of the spool is on its way over one connection."""

    def __init__(self, link: Link, spool: Spool, window: int) -> None:
        self._link = link
        self._spool = spool
        self._window = window
        self._last = 0
        self._under_way: dict[int, int] = {}
        self._arrived: list[int] = []

    def owes(self) -> bool:
        return len(self._spool) > 0

    @property
    def room(self) -> int:
        return self._window - len(self._under_way)

    def send(self, room: int) -> None:
        for letter in self._spool.peek(room, after=self._last) if room > 0 else ():
            self._under_way[self._link.publish(letter.topic, letter.payload)] = letter.id
            self._last = letter.id

    def settle(self, mids: list[int]) -> int:
        """Take what the broker acknowledged out of the spool; give its number.

        Raises:
            StorageError: The spool cannot be written; the next call tries again.
        """
        for mid in mids:
            letter = self._under_way.pop(mid, None)
            if letter is not None:
                self._arrived.append(letter)
        count = len(self._arrived)
        if count:
            self._spool.ack(self._arrived)
            self._arrived = []
        return count


def _state(camera: CameraStatus) -> bytes:
    state = {
        "v": 1,
        "camera": camera.name,
        "state": camera.state,
        "reason": camera.reason,
        "health": list(camera.health),
        "fps": round(camera.inferred_fps, 1),
        "occupancy": dict(camera.occupancy),
        "crossings": {line: dict(counts) for line, counts in camera.crossings.items()},
    }
    return json.dumps(state, separators=(",", ":")).encode()


def _stopped(state: bytes, reason: str) -> bytes:
    """What is left on the broker of a camera that is read no more: nobody counts there."""
    last = json.loads(state)
    occupancy = dict.fromkeys(last["occupancy"], 0)
    last |= {"state": "stopped", "reason": reason, "fps": 0.0, "occupancy": occupancy}
    return json.dumps(last, separators=(",", ":")).encode()
