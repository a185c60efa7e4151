"""The motion gate: what opens it, what does not, and how long it stays open, in source time."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.video.motion import MotionGate, MotionOptions

S = 1_000_000_000
HEIGHT, WIDTH = 720, 1280
RNG = np.random.default_rng(3)
SCENE = np.clip(RNG.normal(110, 30, (HEIGHT // 40, WIDTH // 40)), 0, 255).repeat(40, 0).repeat(40, 1)


def picture(luma: NDArray[np.floating] | NDArray[np.uint8]) -> Picture:
    plane = np.clip(luma, 16, 235).astype(np.uint8)
    chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    return Picture(PixelFormat.I420, (plane, chroma, chroma), HEIGHT, WIDTH)


def with_person(at: float, height: int = 80) -> Picture:
    """The scene with a dark upright figure, `at` a share of the width."""
    luma = SCENE.copy()
    left = int(at * (WIDTH - height // 3))
    luma[300 : 300 + height, left : left + height // 3] = 20
    return picture(luma)


def still_gate(**options: object) -> MotionGate:
    """A gate that has seen the empty scene for a while and is shut."""
    gate = MotionGate(MotionOptions(gate=True, **options))  # type: ignore[arg-type]
    for frame in range(80):
        gate.passes(picture(SCENE), frame * S // 25)
    assert not gate.passes(picture(SCENE), 4 * S)
    return gate


def test_without_a_gate_everything_passes() -> None:
    gate = MotionGate(MotionOptions())
    assert all(gate.passes(picture(SCENE), frame) for frame in range(5))


@pytest.mark.parametrize("height", [80, 160, 400])
def test_somebody_who_walks_in_opens_it(height: int) -> None:
    assert still_gate().passes(with_person(0.5, height), 5 * S)


def test_somebody_who_walks_slowly_keeps_it_open() -> None:
    gate = still_gate(hold_s=0.5)
    passed = [gate.passes(with_person(0.2 + step * 0.002), 5 * S + step * S // 25) for step in range(200)]
    assert all(passed)


@pytest.mark.parametrize("sigma", [2, 5, 8])
def test_sensor_noise_does_not_open_it(sigma: int) -> None:
    gate = MotionGate(MotionOptions(gate=True, look_every_s=1e9))
    passed = [
        gate.passes(picture(SCENE + RNG.normal(0, sigma, SCENE.shape)), frame * S // 10)
        for frame in range(60)
    ]
    assert not any(passed[25:])


def test_a_cloud_or_the_exposure_does_not_open_it() -> None:
    gate = still_gate()
    assert not gate.passes(picture(SCENE + 25), 5 * S)


def test_motion_under_a_mask_does_not_open_it() -> None:
    mask = ((0.4, 0.3), (0.6, 0.3), (0.6, 0.8), (0.4, 0.8))
    assert not still_gate(masks=(mask,)).passes(with_person(0.5), 5 * S)
    assert still_gate(masks=(mask,)).passes(with_person(0.1), 5 * S)


def test_it_stays_open_for_a_while_and_looks_now_and_then() -> None:
    gate = still_gate(hold_s=2.0, look_every_s=10.0)
    assert gate.passes(with_person(0.5), 5 * S)
    open_at = [second / 10 for second in range(51, 250) if gate.passes(picture(SCENE), second * S // 10)]
    closed_at = open_at.index(next(at for at in open_at if at > 12))
    assert 7.0 <= open_at[closed_at - 1] <= 8.5, "the figure leaving is motion, too"
    assert open_at[closed_at:] == pytest.approx([open_at[closed_at - 1] + 10.0], abs=0.11)
