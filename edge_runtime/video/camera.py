"""Camera: the thread that opens one source, reads it, and opens it again when it fails.

Decides what is read, sampled and gated; schedules and infers nothing.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from edge_runtime.contract.errors import CameraError, EdgeRuntimeError
from edge_runtime.contract.event import CameraStateChanged, Event, event_id, iso_time
from edge_runtime.contract.frame import Frame
from edge_runtime.contract.status import CameraState, DropCause
from edge_runtime.video.backoff import backoff_s
from edge_runtime.video.blackout import Blackout
from edge_runtime.video.clock import Stamp, StreamClock
from edge_runtime.video.glance import HealthWatch
from edge_runtime.video.isolated import IsolatedSource
from edge_runtime.video.lane import Lane
from edge_runtime.video.motion import MotionGate
from edge_runtime.video.plan import CameraPlan
from edge_runtime.video.sampler import Sampler
from edge_runtime.video.source import Decoded, VideoSource
from edge_runtime.video.tally import Tally

log = logging.getLogger(__name__)

Told: TypeAlias = Literal[CameraState.ONLINE, CameraState.OFFLINE, CameraState.ENDED, CameraState.FAILED]
"""States that are events."""

_SAID = {
    CameraState.ONLINE: "is online",
    CameraState.OFFLINE: "is offline",
    CameraState.ENDED: "was read to its end",
    CameraState.FAILED: "failed",
}

STILL_EVERY_S = 0.5
"""While nothing moves, the rules hear this often that everybody is still there, so that stays go on."""

LONGEST_LOST = 0.4
"""Of the time that a track outlives its last detection: the furthest that frames may be apart on a machine
that cannot do more, or no track would live to the next one but one."""

STEADY_S = 60.0
"""A camera that worked for this long after a fault of this program starts with short pauses again."""

BEHIND_S = 1.0
"""A reader that has not had to wait for its live stream for this long has a backlog and must skip."""


class Camera:
    """One camera's reader.

    Args:
        plan: What to read and how.
        lane: Asked whether objects are being followed while nothing moves.
        tally: Where its figures go.
        offer: Takes a frame to look at; blocks while a recording has no room; False: stop reading.
        still: Takes a frame that shows nothing new while objects are being followed.
        tell: Takes events about the camera itself.
        stop: Set when the camera is to end.
        share: Asked for the share of its inferences that the machine can afford.
    """

    def __init__(
        self,
        plan: CameraPlan,
        lane: Lane,
        tally: Tally,
        *,
        offer: Callable[[Frame], bool],
        still: Callable[[Frame], None],
        tell: Callable[[tuple[Event, ...]], None],
        stop: threading.Event,
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._plan = plan
        self._lane = lane
        self._tally = tally
        self._offer = offer
        self._still = still
        self._tell = tell
        self._stop = stop
        self._share = share
        self._slowed = 1.0
        self._renew()
        self._blackout = Blackout(plan.never_look)
        health = plan.health if plan.live else None
        self._health = HealthWatch(health, plan.motion.masks, plan.context, tally, tell)
        self._clock = StreamClock(live=plan.source.live, period_ns=40_000_000)
        self._stamp = Stamp(0, time.time_ns())
        self._index = 0
        self._attempt = 0
        self._changes = 0
        self._faults = 0
        self._fault_s = 0.0
        self._started_ns: int | None = None
        self._on_time_ns = 0
        self._still_ns = 0
        self._trouble = ""
        self._tape = plan.tape

    def run(self) -> CameraState:
        """Read until the recording ends, the camera cannot work, or it is told to stop.

        Returns:
            ENDED or FAILED as it came, ONLINE or OFFLINE when told to stop.
        """
        if self._tape is not None:
            self._tape.reset()
        while not self._stop.is_set():
            try:
                self._read_once()
                if self._stop.is_set():
                    break
                if not self._plan.loop:
                    return CameraState.ENDED
                if self._trouble:
                    self._change(CameraState.ONLINE, self._trouble)
                self._clock.reopen()
            except CameraError as error:
                if self._once:
                    return self._fail(str(error))
                self._change(CameraState.OFFLINE, str(error))
                self._again(self._attempt)
            except EdgeRuntimeError as error:
                return self._fail(str(error))
            except Exception as error:
                log.exception("camera '%s': a fault of this program", self._plan.name)
                reason = f"fault of this program: {error!r}"
                if self._once:
                    return self._fail(reason)
                self._faulted(reason)
        return CameraState.OFFLINE if self._attempt else CameraState.ONLINE

    @property
    def _once(self) -> bool:
        """Whether the source is read once: it would come to the same place again, with the same events."""
        return not (self._plan.source.live or self._plan.loop)

    def _fail(self, reason: str) -> CameraState:
        self._change(CameraState.FAILED, reason)
        return CameraState.FAILED

    def _again(self, attempt: int) -> None:
        """Wait, longer each time, before the source is opened again."""
        pause = backoff_s(attempt, random.random())  # noqa: S311 - spreads load, hides nothing
        self._attempt += 1
        self._clock.reopen()
        self._stop.wait(pause)
        self._tally.reconnected()

    def _faulted(self, reason: str) -> None:
        """Start again after a fault of this program, with nothing that it may have left half done."""
        now_s = time.monotonic()
        if now_s - self._fault_s > STEADY_S:
            self._faults = 0
        self._renew()
        try:
            self._change(CameraState.OFFLINE, reason)
        except Exception:
            log.exception("camera '%s': nobody can be told", self._plan.name)
        self._again(self._faults)
        self._faults, self._fault_s = self._faults + 1, time.monotonic()

    def _renew(self) -> None:
        plan = self._plan
        self._sampler = Sampler(plan.fps, plan.tracker.max_lost_s * LONGEST_LOST)
        self._slowed = 1.0
        self._gate = MotionGate(plan.motion)

    def end(self, state: CameraState) -> None:
        """Say the last state once everything read is through."""
        if state is CameraState.ENDED:
            self._change(state, self._trouble)

    def _read_once(self) -> None:
        tape = None if self._tape is None or self._tape.own_reader else self._tape
        open_source = IsolatedSource if self._plan.isolate else VideoSource
        source = open_source(self._plan.source, tape)
        try:
            if self._tally.opened(source.decoder):
                self._tell_decoder(source.decoder)
            self._clock.period_ns = source.period_ns
            self._on_time_ns = time.monotonic_ns()
            cpu_ns = time.thread_time_ns()
            for decoded in source.frames():
                if self._stop.is_set() or not self._take(decoded, source):
                    return
                spent_ns, cpu_ns = time.thread_time_ns() - cpu_ns, time.thread_time_ns()
                self._tally.spent(spent_ns + source.elsewhere_ns, source.progress)
            self._trouble = source.trouble
        finally:
            source.close()

    def _tell_decoder(self, decoder: str) -> None:
        wanted = self._plan.source.decoding.hardware
        if wanted is not None:
            level = logging.INFO if decoder == wanted else logging.WARNING
            log.log(level, "camera '%s' is decoded by %s", self._plan.name, decoder)

    def _take(self, decoded: Decoded, source: VideoSource | IsolatedSource) -> bool:
        """Do with one step of the source what is to be done; False: stop reading."""
        if decoded.passed is not None:
            self._tally.decoded(decoded.passed)
            self._tally.dropped(DropCause.STILL, decoded.passed)
            self._on_time_ns = time.monotonic_ns() if decoded.on_time else self._on_time_ns
            return True
        if decoded.picture is not None:
            self._health.look(
                decoded.picture, self._stamp, now_ns=time.monotonic_ns(), wall_ns=time.time_ns()
            )
        if decoded.glance and decoded.picture is not None and self._gate.moving(decoded.picture):
            source.doze(False)
            return True
        self._tally.decoded(1)
        frame = self._frame(decoded, source)
        if frame is not None and self._due(frame) and not self._offer(self._blackout.of(frame)):
            self._tally.dropped(DropCause.STOPPED)
            return False
        source.doze(self._gate.calm(self._stamp.pts_ns))
        return True

    def _frame(self, decoded: Decoded, source: VideoSource | IsolatedSource) -> Frame | None:
        if decoded.picture is None:
            self._tally.dropped(DropCause.CORRUPT)
            return None
        arrived_ns = time.monotonic_ns()
        on_time = decoded.on_time
        self._stamp = self._clock.stamp(
            decoded.source_ns, arrived_ns=arrived_ns, wall_ns=time.time_ns(), on_time=on_time
        )
        if self._tape is not None:
            source_ns = arrived_ns if decoded.source_ns is None else decoded.source_ns
            self._tape.stamped(source_ns, self._stamp)
        if self._plan.realtime:
            on_time = self._pace(arrived_ns)
            arrived_ns = time.monotonic_ns()
        if self._plan.live:
            self._keep_up(source, arrived_ns, on_time=on_time)
        if self._index == 0 or self._attempt:
            self._attempt = 0
            self._change(CameraState.ONLINE)
        self._index += 1
        return Frame(
            camera=self._plan.name,
            index=self._index - 1,
            pts_ns=self._stamp.pts_ns,
            time_ns=self._stamp.time_ns,
            received_ns=arrived_ns,
            picture=decoded.picture,
        )

    def _due(self, frame: Frame) -> bool:
        share = self._share() if self._plan.live else 1.0
        if share != self._slowed:
            self._slowed = share
            self._sampler.slow(share, self._clock.period_ns)
        if not self._sampler.due(frame.pts_ns):
            self._tally.dropped(DropCause.SAMPLED)
            return False
        if not self._gate.passes(frame.picture, frame.pts_ns):
            self._tally.dropped(DropCause.STILL)
            if self._tape is not None:
                self._tape.still(frame.pts_ns)
            if self._lane.occupied and frame.pts_ns - self._still_ns >= STILL_EVERY_S * 1e9:
                self._still_ns = frame.pts_ns
                self._still(self._blackout.of(frame))
            return False
        if self._tape is not None:
            self._tape.moved()
        return True

    def _pace(self, arrived_ns: int) -> bool:
        """Wait until a recording's frame is due; tell whether there was anything to wait for."""
        if self._started_ns is None:
            self._started_ns = arrived_ns - self._stamp.pts_ns
        early_ns = self._started_ns + self._stamp.pts_ns - arrived_ns
        if early_ns > 0:
            self._stop.wait(early_ns / 1e9)
        return early_ns > 0

    def _keep_up(self, source: VideoSource | IsolatedSource, arrived_ns: int, *, on_time: bool) -> None:
        if on_time:
            self._on_time_ns = arrived_ns
        source.catch_up(arrived_ns - self._on_time_ns > BEHIND_S * 1e9)

    def _change(self, state: Told, reason: str = "") -> None:
        if not self._tally.changed(state, reason):
            return
        well = state in {CameraState.ONLINE, CameraState.ENDED} and not reason
        told = reason.removeprefix(f"camera '{self._plan.name}': ")
        log.log(
            logging.INFO if well else logging.WARNING,
            "camera '%s' %s%s",
            self._plan.name,
            _SAID.get(state, state.value),
            f": {told}" if told else "",
        )
        self._changes += 1
        context, stamp = self._plan.context, self._stamp
        now_ns = time.time_ns() if self._plan.source.live else stamp.time_ns
        self._tell(
            (
                CameraStateChanged(
                    id=event_id(
                        context.site, context.camera, context.epoch, "camera_state", state, self._changes
                    ),
                    site=context.site,
                    camera=context.camera,
                    time=iso_time(now_ns),
                    pts_ns=stamp.pts_ns,
                    state=state.value,
                    reason=reason,
                ),
            )
        )


def yield_to_workers() -> None:
    """Let this thread not interrupt others when it wakes, where the system knows such threads (sched(7)).

    A reader that wakes for a packet otherwise takes the core from a worker in the middle of an inference, and
    both find the caches emptied by the other.
    """
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
