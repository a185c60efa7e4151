"""Faults of this program itself: they cost the camera or the frames they came with, and nothing else."""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edge_runtime.contract.event import Event
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.status import CameraState
from edge_runtime.video.sampler import Sampler
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.square_detector import SquareDetector, find
from tests.simulators.watcher import Watcher, plan

SECOND = 1_000_000_000


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    yield watcher
    watcher.runtime.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(100))


class DyingDetector:
    """Ends the thread that calls it, at some calls."""

    def __init__(self, dies_at: frozenset[int]) -> None:
        self.batch = 1
        self.calls = 0
        self._dies_at = dies_at
        self._lock = threading.Lock()

    def predict_many(self, pictures: Sequence[Picture]) -> list[Detections]:
        with self._lock:
            call, self.calls = self.calls, self.calls + 1
        if call in self._dies_at:
            raise SystemExit
        return [find(picture) for picture in pictures]


def test_workers_that_die_are_replaced_and_no_frame_is_waited_for(watcher: Watcher, clip: Path) -> None:
    detector = DyingDetector(frozenset({3, 4, 5, 50}))
    watcher.runtime.add(plan("door", clip, detector))  # type: ignore[arg-type]
    watcher.runtime.add(plan("yard", clip))
    statuses = watcher.finish()
    assert statuses["door"].state is statuses["yard"].state is CameraState.ENDED
    assert len(watcher.of("door")) == 96
    assert len(watcher.of("yard")) == 100


class BrokenOnce:
    """Stands at the end of a runtime and fails at the first words of one camera."""

    def __init__(self, watcher: Watcher, camera: str, times: int) -> None:
        self._watcher = watcher
        self._camera = camera
        self.left = times

    def hear(self, events: tuple[Event, ...]) -> None:
        if self.left and any(event.camera == self._camera for event in events):
            self.left -= 1
            raise RuntimeError("this program is wrong")
        self._watcher.events.extend(events)


@pytest.mark.parametrize("live", [True, False], ids=["camera", "recording"])
def test_a_camera_that_meets_a_fault_starts_again_alone(clip: Path, live: bool) -> None:
    watcher = Watcher()
    broken = BrokenOnce(watcher, "door", times=2)
    watcher.runtime._on_events = broken.hear
    watcher.runtime.add(plan("yard", clip, realtime=True, loop=True))
    watcher.runtime.add(plan("door", clip, realtime=True, loop=live))
    watcher.wait(lambda: not broken.left or not live, "the fault")
    if live:
        watcher.wait(lambda: len(watcher.of("door")) > 20, "the camera to be back")
    else:
        watcher.wait(lambda: watcher.runtime.status()[1].state is CameraState.FAILED, "the end")
        assert "this program is wrong" in watcher.runtime.status()[1].reason
    watcher.wait(lambda: len(watcher.of("yard")) > 20, "the other one")
    assert watcher.states("yard") == ["online"]
    watcher.runtime.close()


def test_how_long_an_inference_has_been_out(watcher: Watcher, clip: Path) -> None:
    gate = threading.Event()
    assert watcher.runtime.stuck_s() == 0.0
    watcher.runtime.add(plan("door", clip, SquareDetector(gate=gate)))
    watcher.wait(lambda: watcher.runtime.stuck_s() > 0.05, "an inference that does not come back")
    gate.set()
    watcher.wait(watcher.runtime.finished, "the end")
    watcher.wait(lambda: watcher.runtime.stuck_s() == 0.0, "the last one to come back")
    with watcher.runtime._lock:
        assert watcher.runtime.stuck_s(patience_s=0.01) == math.inf


def picked(sampler: Sampler, frames: int, period_ns: int = SECOND // 25) -> int:
    return sum(sampler.due(number * period_ns) for number in range(frames))


@pytest.mark.parametrize(
    ("fps", "share", "longest_s", "expected"),
    [(None, 1.0, None, 250), (None, 0.5, None, 125), (5.0, 0.2, None, 11), (5.0, 1.0, None, 50),
     (1.0, 0.2, 0.8, 11), (5.0, 0.2, 0.8, 13), (50.0, 0.5, None, 125)],
    ids=["all", "half", "a fifth", "usual", "is slow already", "tracks live no longer", "more than come"],
)  # fmt: skip
def test_a_slower_sampler(fps: float | None, share: float, longest_s: float | None, expected: int) -> None:
    sampler = Sampler(fps, longest_s)
    sampler.slow(share, SECOND // 25)
    assert picked(sampler, 250) == expected
    sampler.slow(1.0, SECOND // 25)
    assert sampler.due(100 * SECOND)


def test_the_runtime_slows_live_cameras_and_no_recording(watcher: Watcher, clip: Path) -> None:
    watcher.runtime.share = 0.2
    watcher.runtime.add(plan("live", clip, realtime=True))
    watcher.runtime.add(plan("recording", clip))
    statuses = watcher.finish()
    assert statuses["recording"].inferred == 100
    assert statuses["live"].inferred <= 21
