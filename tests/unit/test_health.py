"""What a camera's health says of pictures made from the shipped clip, and its laws on any picture."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.analytics.rules import RuleContext
from edge_runtime.contract.event import CameraHealthChanged, Event
from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.contract.status import CameraState, Condition
from edge_runtime.video.clock import Stamp
from edge_runtime.video.decode import to_picture
from edge_runtime.video.glance import HealthWatch
from edge_runtime.video.health import COLUMNS, RELEARN_S, ROWS, Health, HealthOptions
from edge_runtime.video.tally import Tally

CLIP = Path(__file__).parents[2] / "edge_runtime" / "media" / "pedestrians.mp4"
SECOND = 1_000_000_000
CONTEXT = RuleContext(site="shop", camera="door", epoch="now", model="m", model_version="1")

Luma = NDArray[np.uint8]
Spoil = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@cache
def lumas() -> tuple[Luma, ...]:
    """About two pictures a second of a street with people."""
    with av.open(str(CLIP)) as container:
        frames = [frame for number, frame in enumerate(container.decode(video=0)) if number % 12 == 0]
        return tuple(np.ascontiguousarray(to_picture(frame).luma[::2, ::2]) for frame in frames)


class Eye:
    """Shows pictures to the health of one camera, one a second, with the noise of a sensor."""

    def __init__(
        self, options: HealthOptions | None = None, masks: tuple[tuple[tuple[float, float], ...], ...] = ()
    ):
        self.events: list[CameraHealthChanged] = []
        self.tally = Tally("door")
        self._watch = HealthWatch(options or HealthOptions(), masks, CONTEXT, self.tally, self._hear)
        self._dice = np.random.default_rng(0)
        self._now_s = 0

    def _hear(self, events: tuple[Event, ...]) -> None:
        self.events += [event for event in events if isinstance(event, CameraHealthChanged)]

    def show(
        self, seconds: int, spoil: Spoil = lambda luma: luma, *, noise: float = 2.0, every_s: int = 1
    ) -> list[tuple[str, bool]]:
        """Show spoilt pictures and give what was said of them."""
        before = len(self.events)
        for _ in range(0, seconds, every_s):
            self._now_s += every_s
            luma = spoil(lumas()[self._now_s % len(lumas())].astype(np.float64))
            luma = luma + self._dice.normal(0, noise, luma.shape) if noise else luma
            self.look(np.clip(luma, 0, 255).astype(np.uint8))
        return [(event.condition, event.present) for event in self.events[before:]]

    def look(self, luma: Luma) -> None:
        """Show one picture."""
        picture = Picture(PixelFormat.I420, (luma, luma, luma), *luma.shape)
        now_ns = self._now_s * SECOND
        self._watch.look(picture, Stamp(now_ns, now_ns), now_ns=now_ns, wall_ns=now_ns)

    @property
    def present(self) -> tuple[Condition, ...]:
        return self.tally.status(0).health


def dimmed(share: float) -> Spoil:
    return lambda luma: 16 + (luma - 16) * share


def blurred(sigma: float) -> Spoil:
    return lambda luma: cv2.GaussianBlur(luma, (0, 0), sigma / 2)


def frosted(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spray on the lens: a bright veil over a blur."""
    return 0.15 * cv2.GaussianBlur(luma, (0, 0), 10) + 0.85 * 150


def shifted(share: float) -> Spoil:
    return lambda luma: np.roll(luma, round(luma.shape[1] * share), axis=1)


def constant(level: float) -> Spoil:
    return lambda luma: np.full_like(luma, level)


def crowded(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """A third of the picture is somebody's back."""
    luma = luma.copy()
    luma[:, : luma.shape[1] // 3] = 60
    return luma


@pytest.mark.parametrize(
    ("spoil", "noise"),
    [
        (dimmed(1.0), 2.0), (dimmed(0.3), 2.0), (dimmed(0.15), 3.0), (dimmed(0.05), 3.0),
        (lambda luma: luma * 1.5, 2.0), (shifted(0.01), 2.0), (crowded, 2.0), (blurred(3), 2.0),
    ],
    ids=["as it is", "evening", "night", "moonlight", "glaring", "wind", "a back", "bad focus"],
)  # fmt: skip
def test_what_is_no_fault(spoil: Spoil, noise: float) -> None:
    eye = Eye()
    eye.show(30)
    assert eye.show(60, spoil, noise=noise) == []
    assert eye.present == ()


@pytest.mark.parametrize(
    ("spoil", "noise", "condition", "after_s"),
    [
        (constant(16), 1.0, "black", 5), (dimmed(0.02), 1.0, "black", 5),
        (constant(90), 3.0, "blinded", 10), (constant(235), 1.0, "blinded", 10),
        (blurred(80), 2.0, "blinded", 10), (frosted, 2.0, "blinded", 10),
        (shifted(0.05), 2.0, "moved", 20), (shifted(0.2), 2.0, "moved", 20),
        (lambda luma: luma[:, ::-1], 2.0, "moved", 20),
    ],
    ids=["cap", "cellar", "hand", "lamp", "grease", "spray", "nudged", "turned", "elsewhere"],
)  # fmt: skip
def test_a_fault_is_said_once_it_has_lasted_and_once_it_is_over(
    spoil: Spoil, noise: float, condition: str, after_s: int
) -> None:
    eye = Eye()
    eye.show(30)
    assert eye.show(after_s, spoil, noise=noise) == []
    assert eye.show(30, spoil, noise=noise) == [(condition, True)]
    assert eye.present == (Condition(condition),)
    assert eye.show(30) == [(condition, False)]
    assert eye.present == ()
    began, ended = eye.events
    assert began.since == "1970-01-01T00:00:31.000Z"
    assert began.id != ended.id


def test_a_frozen_picture() -> None:
    eye = Eye()
    eye.show(5)
    still = lumas()[0]
    freeze: Spoil = lambda _: still.astype(np.float64)  # noqa: E731
    assert eye.show(30, freeze, noise=0) == [("frozen", True)]
    assert eye.show(1) == []
    assert eye.show(5) == [("frozen", False)]


def test_a_still_place_with_a_sensor_in_front_of_it_is_not_frozen() -> None:
    eye = Eye()
    still = lumas()[0].astype(np.float64)
    assert eye.show(60, lambda _: still, noise=0.5) == []


def test_a_camera_that_is_blind_from_the_start_is_found_without_a_reference() -> None:
    assert Eye().show(15, constant(120)) == [("blinded", True)]


def test_a_new_place_becomes_the_usual_one() -> None:
    eye = Eye()
    eye.show(30)
    assert eye.show(int(RELEARN_S) + 60, shifted(0.3), every_s=10) == [("moved", True), ("moved", False)]
    assert eye.show(60, shifted(0.3)) == []
    assert eye.show(40) == [("moved", True)], "and the old one is another place by now"


def test_what_is_masked_is_not_looked_at() -> None:
    clock = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
    eye = Eye(masks=(clock,))
    still = lumas()[0].astype(np.float64)
    dice = np.random.default_rng(1)

    def ticking(_: NDArray[np.float64]) -> NDArray[np.float64]:
        shown = still.copy()
        shown[:100, :150] = dice.integers(0, 255)
        return shown

    assert eye.show(20, ticking, noise=0) == [("frozen", True)]


def test_null_switches_one_condition_off() -> None:
    eye = Eye(HealthOptions(black_s=None))
    eye.show(20)
    assert eye.show(30, constant(16), noise=1.0) == []


def test_a_gap_says_nothing_about_the_time_between() -> None:
    eye = Eye()
    eye.show(20)
    eye.show(5, shifted(0.3))
    eye._now_s += 3600
    assert eye.show(5, shifted(0.3)) == []


SMALL = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 256, (ROWS, COLUMNS), np.uint8)
)


@given(st.lists(st.tuples(SMALL, st.integers(0, 3), st.integers(1, 20)), max_size=60))
def test_every_fault_begins_before_it_ends_and_lasts(looks: list[tuple[Luma, int, int]]) -> None:
    health = Health(HealthOptions(frozen_s=2, black_s=2, blinded_s=2, moved_s=2))
    present: set[Condition] = set()
    now_ns = 0
    for small, digest, step in looks:
        now_ns += step * SECOND
        for change in health.look(small, digest, now_ns):
            assert change.present == (change.condition not in present)
            assert change.since_ns <= now_ns - (2 * SECOND if change.present else 0)
            (present.add if change.present else present.discard)(change.condition)
        assert set(health.present) == present


@given(SMALL, st.integers(1, 40))
def test_looks_are_a_second_apart(small: Luma, tenths: int) -> None:
    health = Health()
    assert health.due(0)
    health.look(small, 1, 0)
    assert health.due(tenths * SECOND // 10) == (tenths >= 10)


def test_a_recording_read_at_full_speed_is_not_looked_at(tmp_path: Path) -> None:
    from tests.simulators.clips import write_clip
    from tests.simulators.watcher import Watcher, plan

    clip = write_clip(tmp_path / "grey.mp4", [np.full((240, 320, 3), 90, np.uint8)] * 50)
    watcher = Watcher()
    watcher.runtime.add(plan("door", clip, health=HealthOptions(frozen_s=1, blinded_s=1)))
    assert watcher.finish()["door"].state is CameraState.ENDED
    assert not [event for event in watcher.events if isinstance(event, CameraHealthChanged)]


def test_a_live_camera_says_what_is_wrong_with_its_picture(tmp_path: Path) -> None:
    from tests.simulators.clips import write_clip
    from tests.simulators.watcher import Watcher, plan

    clip = write_clip(tmp_path / "grey.mp4", [np.full((240, 320, 3), 90, np.uint8)] * 50)
    watcher = Watcher()
    options = HealthOptions(frozen_s=None, blinded_s=1)
    watcher.runtime.add(plan("door", clip, realtime=True, loop=True, health=options))
    watcher.wait(
        lambda: any(isinstance(event, CameraHealthChanged) for event in watcher.events), "the covered lens"
    )
    assert watcher.runtime.status()[0].health == (Condition.BLINDED,)
    watcher.runtime.close()
