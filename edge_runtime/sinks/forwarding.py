"""Forwarder: events into a spool on disk, and from there to a server, for as long as it takes.

The one loop between a spool and a server that takes batches; the server's side is an `Outgoing`. A letter
leaves the spool when the server has acknowledged it, not before. Knows no protocol and no broker (MQTT has
a loop of its own, for it acknowledges one message at a time).
"""

import logging
import random
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_runtime.contract.errors import RemoteError, StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.status import SinkStatus
from edge_runtime.sinks.pace import Pace, PaceOptions
from edge_runtime.sinks.spool import Letter, Spool

log = logging.getLogger(__name__)

_IDLE_S = 60.0
_ASIDE_BYTES = 16 * 2**20
"""Letters that a server rejected are kept for a person, so many bytes of them."""


class Outgoing(Protocol):
    """A server's side. Belongs to one thread, which calls `send` and, last, `close`."""

    target: str
    """Where it sends, for people: no path, no secret."""

    def send(self, letters: Sequence[Letter]) -> None:
        """Hand letters over, in order; return when the server has acknowledged all of them.

        A letter's topic is its camera, its payload the event as JSON. Takes no longer than its own timeout.

        Raises:
            RejectedError: The server will never take them, or one of them.
            OverloadedError: It asks for a pause.
            RemoteError: They did not all arrive; says whether trying again can help.
        """
        ...

    def close(self) -> None:
        """Release everything."""
        ...


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """What is forwarded, and how patiently.

    Args:
        events: Only these kinds; None: all.
        cameras: Only these; empty: all.
        queue_max_bytes: Events kept on disk at most; then the oldest are dropped and counted.
        pace: How patient to be with the server.
        farewell_s: How long `close` goes on sending.
    """

    events: frozenset[str] | None = None
    cameras: frozenset[str] = frozenset()
    queue_max_bytes: int = 256 * 2**20
    pace: PaceOptions = field(default_factory=PaceOptions)
    farewell_s: float = 3.0


class Forwarder:
    """An event sink that keeps events on disk and sends them on.

    Args:
        outgoing: Takes them; closed by this.
        spool: The SQLite file that holds what the server has not acknowledged. What it rejected is kept
            beside it, as `NAME.rejected.sqlite`.
        name: What statuses and messages call this sink.
        options: What, and how patiently.
    """

    def __init__(self, outgoing: Outgoing, spool: Path, *, name: str, options: ForwardOptions) -> None:
        self.name = name
        self._outgoing = outgoing
        self._options = options
        self._spool = Spool(spool, max_bytes=options.queue_max_bytes)
        self._aside = Spool(spool.with_name(f"{spool.stem}.rejected.sqlite"), max_bytes=_ASIDE_BYTES)
        self._pace = Pace(options.pace)
        self._damage = ""
        self._arrived: list[int] = []
        self._delivered = 0
        self._rejected = 0
        self._trouble = ""
        self._closing = threading.Event()
        self._rung = threading.Event()
        self._until: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def write(self, events: Sequence[Event]) -> None:
        """Put those events into the spool that are wanted.

        Raises:
            StorageError: The disk did not take them.
        """
        chosen = [event for event in events if self._wants(event)]
        if chosen:
            self._spool.append([(event.camera, event.model_dump_json().encode()) for event in chosen])
            self._rung.set()

    def sync(self) -> None:
        """Make the spool survive a power cut.

        Raises:
            StorageError: The disk reports a failure.
        """
        self._spool.sync()

    def status(self) -> SinkStatus:
        """Say how many events the server acknowledged, and how many wait for it."""
        return SinkStatus(
            self.name,
            written=self._delivered,
            # What has arrived and cannot be forgotten yet waits for the disk, not for the server.
            waiting=max(0, len(self._spool) - len(self._arrived)),
            dropped=self._spool.dropped + self._rejected,
            trouble=self._trouble or self._spool.damage,
        )

    def close(self) -> None:
        """Send what can be sent within `farewell_s`. The rest stays on disk."""
        self._until = time.monotonic() + self._options.farewell_s
        self._closing.set()
        self._rung.set()
        self._thread.join(self._options.farewell_s + 10.0)
        self._spool.close()
        self._aside.close()

    def _wants(self, event: Event) -> bool:
        kinds, cameras = self._options.events, self._options.cameras
        return (kinds is None or event.type in kinds) and (not cameras or event.camera in cameras)

    def _run(self) -> None:
        try:
            while self._goes_on():
                self._step()
        finally:
            self._outgoing.close()

    def _goes_on(self) -> bool:
        until = self._until
        return until is None or (time.monotonic() < until and len(self._spool) > 0)

    def _step(self) -> None:
        letters: Sequence[Letter] = ()
        try:
            # Cleared before the look: what comes after it rings again.
            self._rung.clear()
            self._settle()
            letters = self._spool.peek(self._pace.size, after=max(self._arrived, default=0))
            if letters:
                self._outgoing.send(letters)
                self._took([letter.id for letter in letters])
            elif self._arrived:
                self._rest(self._options.pace.first_s)
            elif not self._closing.is_set():
                self._set_trouble("")
                self._rung.wait(_IDLE_S)
        except RemoteError as error:
            self._failed(error, letters)
        except StorageError as error:
            self._set_trouble(str(error))
            self._rest(self._options.pace.first_s)
        except Exception:
            log.exception("sink %s failed", self.name)
            self._trouble = "a fault of the sink itself; see the log"
            self._rest(self._options.pace.refused_s)

    def _took(self, ids: Collection[int]) -> None:
        """Take in that letters need not be sent again, whatever the disk says now."""
        self._arrived += ids
        self._delivered += len(ids)
        self._pace.delivered(len(ids))
        self._set_trouble("")
        self._settle()

    def _settle(self) -> None:
        if self._spool.damage != self._damage:
            # Another file has been begun, and its letters have the numbers of those that are gone.
            self._damage, self._arrived = self._spool.damage, []
        if not self._arrived:
            return
        try:
            self._spool.ack(self._arrived)
        except StorageError as error:
            # A full disk cannot forget either. The server is there: go on, and send nothing twice.
            self._set_trouble(str(error))
        else:
            self._arrived = []

    def _failed(self, error: RemoteError, letters: Sequence[Letter]) -> None:
        self._set_trouble(str(error))
        dice = random.random()  # noqa: S311 - spreads load, hides nothing
        step = self._pace.failed(error, len(letters), dice)
        if step.give_up:
            self._set_aside(letters[0])
        self._rest(step.pause_s)

    def _set_aside(self, letter: Letter) -> None:
        log.error("sink %s: an event of %s is set aside: %s", self.name, letter.topic, self._trouble)
        self._rejected += 1
        self._arrived.append(letter.id)
        try:
            self._aside.append([(letter.topic, letter.payload)])
        except StorageError as error:
            log.error("sink %s: it could not be kept: %s", self.name, error)

    def _rest(self, pause_s: float) -> None:
        until = self._until
        left_s = pause_s if until is None else min(pause_s, max(0.0, until - time.monotonic()))
        if until is None:
            self._closing.wait(left_s)
        else:
            time.sleep(left_s)

    def _set_trouble(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("sink %s: %s", self.name, trouble)
        self._trouble = trouble
