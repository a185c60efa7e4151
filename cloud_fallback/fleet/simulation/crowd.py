"""Drives many simulated devices over one selector in one thread: connects, pings, connects again.

What a device says and when is its own (`behaviour`). Measures nothing but counts.
"""

import heapq
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from cloud_fallback.fleet.simulation.behaviour import Gone, Out, Said, SimulatedDevice
from cloud_fallback.fleet.simulation.line import Greeting, Line
from cloud_fallback.fleet.simulation.wire import Kind, Packet
from edge_runtime.contract.errors import RemoteError
from edge_runtime.contract.update import UpdateFailedError

log = logging.getLogger(__name__)

_OPENING = 16
"""Connections that are being made at the same time."""
_GREETING_S = 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Absence:
    """When a device is away: `share` of every `period_s`, at a place of its own in it.

    Args:
        period_s: Of going and coming.
        share: In [0, 1).
    """

    period_s: float = 1.0
    share: float = 0.0

    def online(self, spread: float, at_s: float) -> bool:
        """Say whether a device with this place is here at a time."""
        return (at_s / self.period_s + spread) % 1.0 >= self.share

    def change_s(self, spread: float, at_s: float) -> float:
        """Say when that changes next; infinity: never."""
        if not self.share:
            return float("inf")
        place = (at_s / self.period_s + spread) % 1.0
        return at_s + ((self.share if place < self.share else 1.0) - place) * self.period_s


@dataclass(slots=True)
class _Seat:
    device: SimulatedDevice
    line: Line | None = None
    was_ready: bool = False
    since_s: float = 0.0
    failures: int = 0
    wanted: bool = True
    """Whether it should be connected."""
    wake_s: float = float("inf")
    ping_s: float = 0.0


@dataclass(slots=True)
class Counts:
    """What happened so far."""

    connected: int = 0
    heard: int = 0
    said: int = 0
    settled: int = 0
    lost: int = 0
    refused: int = 0
    """Messages that were none of the protocol's."""


class Crowd:
    """Devices that are connected while the block lasts.

    Args:
        devices: Which.
        address: Of the broker.
        context_of: Gives TLS with a device's certificate, by its name, or None for plain TCP; asked at every
            connection, so one context may be filled anew each time.
        absence: When devices are away.
        keepalive_s: Between signs of life.
    """

    def __init__(
        self,
        devices: Iterable[SimulatedDevice],
        address: tuple[str, int],
        *,
        context_of: Callable[[str], ssl.SSLContext | None],
        absence: Absence = Absence(),
        keepalive_s: int = 60,
    ) -> None:
        self.counts = Counts()
        self._address = address
        self._context_of = context_of
        self._absence = absence
        self._keepalive_s = keepalive_s
        self._seats = {each.name: _Seat(each) for each in devices}
        self._selector = selectors.DefaultSelector()
        self._alarms: list[tuple[float, str]] = []
        self._waiting: dict[str, None] = {}
        self._opening = 0
        self._bell, self._ear = socket.socketpair()
        self._ear.setblocking(False)
        self._stopping = False
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="simulated-devices", daemon=True)

    @property
    def devices(self) -> Mapping[str, SimulatedDevice]:
        """The devices by name; read only."""
        return {name: seat.device for name, seat in self._seats.items()}

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Have everybody leave politely."""
        self._stopping = True
        self._bell.send(b"!")
        self._thread.join()
        self._bell.close()
        self._ear.close()

    def _run(self) -> None:
        self._selector.register(self._ear, selectors.EVENT_READ)
        for name in self._seats:
            heapq.heappush(self._alarms, (self._began_s, name))
        while not self._stopping:
            now_s = time.monotonic()
            self._ring(now_s)
            self._open(now_s)
            due_s = self._alarms[0][0] - now_s if self._alarms else 1.0
            busy = self._waiting and self._opening < _OPENING
            for key, _ in self._selector.select(0.0 if busy else max(0.0, min(due_s, 1.0))):
                if key.fileobj is self._ear:
                    with suppress(BlockingIOError):
                        self._ear.recv(64)
                else:
                    self._work(self._seats[key.data])
        for seat in self._seats.values():
            if seat.line is not None:
                seat.line.close(politely=not seat.device.gone)
        self._selector.close()

    def _ring(self, now_s: float) -> None:
        """Wake everybody whose time has come."""
        while self._alarms and self._alarms[0][0] <= now_s:
            at_s, name = heapq.heappop(self._alarms)
            seat = self._seats[name]
            if at_s >= seat.wake_s or seat.wake_s == float("inf"):
                self._attend(name, seat, now_s)

    def _attend(self, name: str, seat: _Seat, now_s: float) -> None:
        device, line = seat.device, seat.line
        seat.wake_s = float("inf")
        here = self._absence.online(device.spread, now_s - self._began_s)
        if line is None:
            if here and not device.gone and now_s >= seat.since_s and name not in self._waiting:
                self._waiting[name] = None
        elif not here:
            self._drop(seat, politely=False)
        elif not seat.was_ready:
            if now_s - seat.since_s > _GREETING_S:
                self._lose(seat, "no greeting")
        else:
            if now_s >= seat.ping_s:
                line.ping()
                seat.ping_s = now_s + self._keepalive_s
            self._say(seat, device.poll(time.time()))
        self._set_alarm(name, seat, now_s)

    def _set_alarm(self, name: str, seat: _Seat, now_s: float) -> None:
        """Choose when to attend to a seat again."""
        spread, at_s = seat.device.spread, now_s - self._began_s
        times_s = [self._began_s + self._absence.change_s(spread, at_s) + 0.001]
        if seat.line is None:
            here = self._absence.online(spread, at_s)
            if here and not seat.device.gone and name not in self._waiting:
                times_s.append(max(seat.since_s, now_s))
        elif not seat.was_ready:
            times_s.append(seat.since_s + _GREETING_S)
        else:
            times_s += [seat.ping_s, now_s + seat.device.wake_at() - time.time()]
        wake_s = min(times_s)
        if wake_s < seat.wake_s and wake_s != float("inf"):
            seat.wake_s = wake_s
            heapq.heappush(self._alarms, (wake_s, name))

    def _open(self, now_s: float) -> None:
        while self._waiting and self._opening < _OPENING:
            name = next(iter(self._waiting))
            del self._waiting[name]
            seat = self._seats[name]
            device, will = seat.device, seat.device.will
            greeting = Greeting(
                name, device.topics.taken(), will.topic, will.payload, keepalive_s=2 * self._keepalive_s
            )
            seat.since_s, seat.was_ready = now_s, False
            try:
                seat.line = Line(self._address, self._context_of(name), greeting)
            except (RemoteError, OSError) as error:
                self._pause(seat, f"{error}")
                continue
            self._opening += 1
            self._selector.register(seat.line.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, name)
            self._set_alarm(name, seat, now_s)

    def _work(self, seat: _Seat) -> None:
        if seat.line is None:
            return
        try:
            packets = seat.line.work()
        except RemoteError as error:
            self._lose(seat, str(error))
            return
        if seat.line.ready and not seat.was_ready:
            seat.was_ready, seat.failures = True, 0
            self._opening -= 1
            self.counts.connected += 1
            seat.ping_s = time.monotonic() + self._keepalive_s * (0.5 + seat.device.spread / 2)
            self._say(seat, seat.device.connected(time.time()))
        for packet in packets:
            self._hear(seat, packet)
        self._listen(seat)
        self._set_alarm(seat.device.name, seat, time.monotonic())

    def _hear(self, seat: _Seat, packet: Packet) -> None:
        if packet.kind is Kind.PUBACK:
            self.counts.settled += 1
            return
        self.counts.heard += 1
        try:
            outs = seat.device.hear(
                packet.topic, packet.payload, packet.correlation, packet.response_topic, time.time()
            )
        except UpdateFailedError as error:
            self.counts.refused += 1
            log.warning("%s: %s", seat.device.name, error)
            return
        self._say(seat, outs)

    def _say(self, seat: _Seat, outs: Iterable[Out]) -> None:
        for out in outs:
            if isinstance(out, Gone):
                self._drop(seat, politely=False)
                return
            if seat.line is None:
                return  # the next connection begins with a whole report
            self._publish(seat.line, out)
        if seat.line is not None:
            try:
                seat.line.flush()
            except RemoteError as error:
                self._lose(seat, str(error))
                return
            self._listen(seat)

    def _publish(self, line: Line, said: Said) -> None:
        self.counts.said += 1
        line.publish(said.topic, said.payload, retain=said.retain, correlation=said.correlation)

    def _listen(self, seat: _Seat) -> None:
        if seat.line is not None:
            self._selector.modify(seat.line.socket, seat.line.events, seat.device.name)

    def _lose(self, seat: _Seat, why: str) -> None:
        self.counts.lost += 1
        self._drop(seat, politely=False)
        self._pause(seat, why)

    def _pause(self, seat: _Seat, why: str) -> None:
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(seat.failures, 8))
        seat.failures += 1
        now_s = time.monotonic()
        seat.since_s = now_s + pause_s * (0.5 + seat.device.spread / 2)
        log.debug("%s: %s", seat.device.name, why)
        self._set_alarm(seat.device.name, seat, now_s)

    def _drop(self, seat: _Seat, *, politely: bool) -> None:
        line, seat.line = seat.line, None
        if line is None:
            return
        if seat.was_ready:
            self.counts.connected -= 1
        else:
            self._opening -= 1
        seat.was_ready = False
        with suppress(KeyError, ValueError):
            self._selector.unregister(line.socket)
        line.close(politely=politely)
