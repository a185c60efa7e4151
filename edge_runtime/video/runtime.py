"""VideoRuntime: the threads of the frame route; one reader a camera, workers that infer for all of them.

The schedule is `pipeline`'s, the reading `camera`'s, the meaning `lane`'s; this module only runs them, under
one lock that is never held while anything is decoded, inferred, tracked or written.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.event import Event
from edge_runtime.contract.frame import Frame
from edge_runtime.contract.result import Detections
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import CameraState, CameraStatus, DropCause
from edge_runtime.video.camera import Camera, yield_to_workers
from edge_runtime.video.lane import Lane
from edge_runtime.video.pipeline import Pipeline, Ticket
from edge_runtime.video.plan import CameraPlan, Detector
from edge_runtime.video.tally import Tally

log = logging.getLogger(__name__)


REPLACE_S = 0.1
"""Before another worker takes the place of one that died, so that a lasting fault does not eat a core."""


@dataclass(slots=True)
class _Running:
    plan: CameraPlan
    lane: Lane
    tally: Tally
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    ticket: Ticket[Frame]
    running: _Running
    detector: Detector
    """Of the moment it was taken: a swap must not come between frames that are inferred together."""


class VideoRuntime:
    """Runs cameras through shared inference.

    Args:
        workers: Threads that infer; as many as cores when a session uses one thread.
        on_scene: Gets every inferred frame, in order for each camera; called from the workers.
        on_events: Gets events that no frame caused: a camera's state, stays closed at the end.
    """

    def __init__(
        self,
        *,
        workers: int,
        on_scene: Callable[[Scene], None],
        on_events: Callable[[tuple[Event, ...]], None],
    ) -> None:
        self._on_scene = on_scene
        self._on_events = on_events
        self._pipeline: Pipeline[Frame, Detections | None] = Pipeline()
        self._cameras: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._space = threading.Condition(self._lock)
        self._closing = False
        self._inside: Counter[int] = Counter()
        """Frames that a detector is looking at, by its identity."""
        self._leaving: dict[int, Callable[[], None]] = {}
        self._tap: Callable[[Frame], None] | None = None
        self.share = 1.0
        """Of live cameras' inferences that this machine can afford; whoever knows better sets it."""
        self._busy_since: dict[int, float] = {}
        """By worker's thread: when it took what it is at."""
        self._workers: dict[int, threading.Thread] = {}
        for number in range(workers):
            self._start_worker(number)

    def add(self, plan: CameraPlan) -> None:
        """Start a camera; the others go on.

        Raises:
            ConfigError: A camera of that name is running.
        """
        deadline_ns = None if plan.deadline_s is None else round(plan.deadline_s * 1e9)
        lane, tally = Lane(plan), Tally(plan.name, live=plan.live)
        running = _Running(plan, lane, tally)
        with self._lock:
            self._pipeline.add(plan.name, live=plan.live, deadline_ns=deadline_ns)
            self._cameras[plan.name] = running
        camera = Camera(
            plan,
            lane,
            tally,
            offer=self._offer(running),
            still=self._still(running),
            tell=self._on_events,
            stop=running.stop,
            share=lambda: self.share,
        )
        running.thread = threading.Thread(
            target=self._run_camera, args=(running, camera), name=f"camera-{plan.name}", daemon=True
        )
        running.thread.start()

    def remove(self, *names: str, timeout_s: float = 15.0) -> None:
        """Stop cameras and forget them; the others go on. Unknown names are fine.

        Args:
            names: The cameras; they stop side by side, so that one that hangs is waited for once.
            timeout_s: How long their last frames may take, all together.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            leaving = {name: self._cameras[name] for name in names if name in self._cameras}
            for running in leaving.values():
                running.stop.set()
            self._space.notify_all()
        for running in leaving.values():
            if running.thread is not None:
                running.thread.join(max(0.1, deadline - time.monotonic()))
        with self._lock:
            for name in leaving:
                self._cameras.pop(name, None)
                self._pipeline.remove(name)
            self._space.notify_all()

    def swap(self, old: Detector, plans: Mapping[str, CameraPlan], left: Callable[[], None]) -> None:
        """Let cameras go on with another detector from their next frame on; not one is lost.

        Args:
            old: What they have.
            plans: By camera: as before, with the new detector. Unknown names are fine.
            left: Called once when no frame is in `old` any more, perhaps by a worker.
        """
        with self._lock:
            for name, plan in plans.items():
                running = self._cameras.get(name)
                if running is not None:
                    running.plan = plan
                    running.lane.adopt(plan)
            busy = self._inside[id(old)] > 0
            if busy:
                self._leaving[id(old)] = left
        if not busy:
            left()

    def tap(self, give: Callable[[Frame], None] | None) -> None:
        """Show every inferred frame to somebody, who must not keep a worker; None: to nobody any more."""
        self._tap = give

    def finished(self) -> bool:
        """Tell whether every camera is through: ended, or failed for good."""
        with self._lock:
            return all(
                running.thread is not None and not running.thread.is_alive()
                for running in self._cameras.values()
            )

    def close(self, timeout_s: float = 15.0) -> None:
        """Stop reading, let what was read go through, end the threads."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            cameras = list(self._cameras.values())
            for running in cameras:
                running.stop.set()
            self._space.notify_all()
        for running in cameras:
            if running.thread is not None:
                running.thread.join(max(0.1, deadline - time.monotonic()))
                if running.thread.is_alive():
                    log.warning("camera '%s' did not stop in time and is left behind", running.plan.name)
        with self._lock:
            self._closing = True
            self._work.notify_all()
        for worker in tuple(self._workers.values()):
            worker.join(max(0.1, deadline - time.monotonic()))

    def status(self) -> tuple[CameraStatus, ...]:
        """Tell how every camera is doing."""
        with self._lock:
            cameras = list(self._cameras.values())
        now_ns = time.monotonic_ns()
        return tuple(running.tally.status(now_ns) for running in cameras)

    def _offer(self, running: _Running) -> Callable[[Frame], bool]:
        name = running.plan.name

        def offer(frame: Frame) -> bool:
            with self._lock:
                while not self._pipeline.room(name) and not running.stop.is_set():
                    self._space.wait()
                if running.stop.is_set():
                    return False
                replaced = self._pipeline.offer(name, frame, frame.received_ns)
                self._work.notify()
            if replaced is not None:
                running.tally.dropped(DropCause.REPLACED)
            return True

        return offer

    def _still(self, running: _Running) -> Callable[[Frame], None]:
        def still(frame: Frame) -> None:
            with self._lock:
                if not self._pipeline.idle(running.plan.name):
                    return
            # Only this thread brings frames of this camera: while it is here, no worker can be in its lane.
            self._on_events(running.lane.still(frame))

        return still

    def _run_camera(self, running: _Running, camera: Camera) -> None:
        yield_to_workers()
        try:
            state = camera.run()
            with self._lock:
                while not self._pipeline.idle(running.plan.name):
                    self._space.wait()
            self._on_events(running.lane.finish())
            camera.end(state)
        except Exception as error:
            log.exception("camera '%s' stopped on a fault of this program", running.plan.name)
            running.tally.changed(CameraState.FAILED, f"fault of this program: {error!r}")

    def stuck_s(self, patience_s: float = 1.0) -> float:
        """Tell for how long the worker that is at it longest has been at the same frames.

        Args:
            patience_s: How long to wait for the lock of this runtime, which nobody holds that long.

        Returns:
            Seconds; infinite: the lock is held.
        """
        if not self._lock.acquire(timeout=patience_s):
            return math.inf
        try:
            now_s = time.monotonic()
            return max((now_s - since_s for since_s in self._busy_since.values()), default=0.0)
        finally:
            self._lock.release()

    def _start_worker(self, number: int) -> None:
        worker = threading.Thread(
            target=self._run_worker, args=(number,), name=f"worker-{number}", daemon=True
        )
        self._workers[number] = worker
        worker.start()

    def _run_worker(self, number: int) -> None:
        try:
            while self._work_once():
                continue
        except BaseException:
            log.critical("worker %d died; another takes its place", number, exc_info=True)
            time.sleep(REPLACE_S)
            self._start_worker(number)

    def _work_once(self) -> bool:
        """Infer once; False: the runtime is closing. Whatever happens, no camera waits for these frames."""
        with self._lock:
            jobs = self._next_jobs()
            self._busy_since[threading.get_ident()] = time.monotonic()
        try:
            if not jobs:
                return False
            outcomes: list[Detections] | list[None] = [None] * len(jobs)
            try:
                outcomes = self._infer(jobs)
            finally:
                with self._lock:
                    for job, outcome in zip(jobs, outcomes, strict=True):
                        self._pipeline.finish(job.ticket, outcome)
                    left = self._leave(jobs)
                if left is not None:
                    left()
                for name in dict.fromkeys(job.ticket.camera for job in jobs):
                    self._deliver(name)
        finally:
            with self._lock:
                self._busy_since.pop(threading.get_ident(), None)
        return True

    def _leave(self, jobs: list[_Job]) -> Callable[[], None] | None:
        """Note that frames came out of their detector; give whom to tell that it was the last. Lock held."""
        detector = id(jobs[0].detector)
        self._inside[detector] -= len(jobs)
        if self._inside[detector] > 0:
            return None
        del self._inside[detector]
        return self._leaving.pop(detector, None)

    def _next_jobs(self) -> list[_Job]:
        """Wait for a frame, and take others along that are cheaper with it; the lock is held.

        Returns:
            Frames for one detector; none: the runtime is closing and nothing waits.
        """
        while True:
            job = self._take(None)
            if job is not None:
                jobs = [job, *self._company(job.detector)]
                self._inside[id(job.detector)] += len(jobs)
                return jobs
            if self._closing:
                return []
            self._work.wait()

    def _company(self, detector: Detector) -> Iterator[_Job]:
        mates = [name for name, running in self._cameras.items() if running.plan.detector is detector]
        for _ in range(detector.batch - 1):
            job = self._take(mates)
            if job is None:
                return
            yield job

    def _take(self, among: list[str] | None) -> _Job | None:
        ticket, late = self._pipeline.take(time.monotonic_ns(), among)
        for name, _ in late:
            self._cameras[name].tally.dropped(DropCause.LATE)
        if ticket is not None or late:
            self._space.notify_all()
        if ticket is None:
            return None
        running = self._cameras[ticket.camera]
        return _Job(ticket, running, running.plan.detector)

    def _infer(self, jobs: list[_Job]) -> list[Detections] | list[None]:
        started_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
        detector = jobs[0].detector
        try:
            found = detector.predict_many([job.ticket.item.picture for job in jobs])
        except Exception as error:  # noqa: BLE001 - reported; one bad frame must not end the worker
            for job in jobs:
                self._trouble(job.running, error)
                job.running.tally.dropped(DropCause.CORRUPT)
            return [None] * len(jobs)
        share_ns = (time.thread_time_ns() - cpu_ns) // len(jobs)
        for job in jobs:
            job.running.tally.inferred(time.monotonic_ns() - started_ns, share_ns)
        return found

    def _deliver(self, name: str) -> None:
        """Work off a camera's results in order, unless another worker is at it."""
        while True:
            with self._lock:
                claimed = self._pipeline.claim(name)
                running = self._cameras.get(name)
            if claimed is None:
                return
            ticket, detections = claimed
            try:
                if running is not None and detections is not None:
                    self._step(running, ticket.item, detections)
            except Exception as error:  # noqa: BLE001 - reported; the other cameras go on
                if running is not None:
                    self._trouble(running, error)
            finally:
                with self._lock:
                    self._pipeline.release(ticket)
                    self._space.notify_all()

    def _step(self, running: _Running, frame: Frame, detections: Detections) -> None:
        cpu_ns = time.thread_time_ns()
        scene = running.lane.step(frame, detections)
        self._on_scene(scene)
        if (tap := self._tap) is not None:
            tap(frame)
        if running.trouble:
            running.trouble = ""
            running.tally.changed(CameraState.ONLINE)
        now_ns = time.monotonic_ns()
        running.tally.delivered(
            now_ns,
            now_ns - frame.received_ns,
            time.thread_time_ns() - cpu_ns,
            scene.occupancy,
            scene.crossings,
        )

    @staticmethod
    def _trouble(running: _Running, error: Exception) -> None:
        """Say once what is wrong with a camera's frames; the camera goes on."""
        message = str(error) if isinstance(error, EdgeRuntimeError) else repr(error)
        if message == running.trouble:
            return
        running.trouble = message
        known = isinstance(error, EdgeRuntimeError)
        log.error("camera '%s': %s", running.plan.name, message, exc_info=None if known else error)
        running.tally.changed(CameraState.ONLINE, message)
