"""The stream clock, the sampler and the backoff: decision tables and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.video.backoff import FIRST_S, LONGEST_S, backoff_s
from edge_runtime.video.clock import MAX_JUMP_NS, StreamClock
from edge_runtime.video.sampler import Sampler

MS = 1_000_000
S = 1_000_000_000


@pytest.mark.parametrize(
    ("live", "source", "arrived", "step"),
    [
        pytest.param(True, 40 * MS, 45 * MS, 40 * MS, id="steady"),
        pytest.param(True, 4 * S, 50 * MS, 4 * S, id="gap of dropped frames"),
        pytest.param(True, -20 * S, 50 * MS, 50 * MS, id="live stream jumps back"),
        pytest.param(True, MAX_JUMP_NS + 1, 50 * MS, 50 * MS, id="live stream leaps ahead"),
        pytest.param(True, None, 50 * MS, 50 * MS, id="live stream gives no time"),
        pytest.param(True, 0, 50 * MS, 50 * MS, id="live stream repeats a time"),
        pytest.param(False, -20 * S, 50 * MS, 33 * MS, id="recording jumps back"),
        pytest.param(False, None, 50 * MS, 33 * MS, id="recording gives no time"),
    ],
)
def test_step_of_the_clock(live: bool, source: int | None, arrived: int, step: int) -> None:
    clock = StreamClock(live=live, period_ns=33 * MS)
    clock.stamp(30 * S, arrived_ns=0, wall_ns=0)
    stamp = clock.stamp(None if source is None else 30 * S + source, arrived_ns=arrived, wall_ns=arrived)
    assert stamp.pts_ns == step


def test_reconnect_counts_the_time_away() -> None:
    clock = StreamClock(live=True, period_ns=40 * MS)
    clock.stamp(500 * S, arrived_ns=0, wall_ns=1000 * S)
    clock.reopen()
    stamp = clock.stamp(3 * S, arrived_ns=7 * S, wall_ns=1007 * S)
    assert stamp.pts_ns == 7 * S
    assert abs(stamp.time_ns - 1007 * S) < S


def test_wall_time_follows_a_camera_whose_clock_runs_slow() -> None:
    clock = StreamClock(live=True, period_ns=40 * MS)
    for frame in range(20_000):  # 0.1 % slow over 800 s: 0.8 s off without correction
        arrived = frame * 40 * MS
        stamp = clock.stamp(frame * 39_960_000, arrived_ns=arrived, wall_ns=arrived)
    assert abs(stamp.time_ns - arrived) < 5 * MS


def test_backlog_does_not_move_wall_time() -> None:
    clock = StreamClock(live=True, period_ns=40 * MS)
    for frame in range(100):
        late = 3 * S if frame > 50 else 0
        stamp = clock.stamp(
            frame * 40 * MS,
            arrived_ns=frame * 40 * MS + late,
            wall_ns=frame * 40 * MS + late,
            on_time=not late,
        )
    assert stamp.time_ns == 99 * 40 * MS


@given(
    st.booleans(),
    st.lists(
        st.tuples(st.none() | st.integers(-(2**62), 2**62), st.integers(0, 20 * S), st.booleans()),
        max_size=40,
    ),
)
def test_clock_never_runs_backwards(live: bool, frames: list[tuple[int | None, int, bool]]) -> None:
    clock = StreamClock(live=live, period_ns=40 * MS)
    arrived = 0
    last = None
    for source, passed, on_time in frames:
        arrived += passed
        stamp = clock.stamp(source, arrived_ns=arrived, wall_ns=10**18 + arrived, on_time=on_time)
        if last is not None:
            assert last.pts_ns < stamp.pts_ns <= last.pts_ns + max(MAX_JUMP_NS, passed)
            assert stamp.time_ns >= last.time_ns
        last = stamp


@pytest.mark.parametrize(
    ("source_fps", "target", "frames"),
    [(25, None, 250), (25, 25.0, 250), (25, 10.0, 100), (30, 7.0, 70), (25, 60.0, 250), (10, 0.5, 5)],
)
def test_sampler_keeps_its_rate(source_fps: int, target: float | None, frames: int) -> None:
    sampler = Sampler(target)
    taken = sum(sampler.due(frame * S // source_fps) for frame in range(10 * source_fps))
    assert abs(taken - frames) <= 1


def test_sampler_does_not_catch_up_after_a_gap() -> None:
    sampler = Sampler(10.0)
    sampler.due(0)
    assert [sampler.due(60 * S + step * 40 * MS) for step in range(5)] == [True, False, False, True, False]


@given(st.floats(0.1, 60), st.lists(st.integers(1, 3 * S), min_size=2, max_size=100))
def test_sampler_never_exceeds_its_rate(fps: float, gaps: list[int]) -> None:
    sampler = Sampler(fps)
    pts = 0
    taken = []
    for gap in gaps:
        pts += gap
        if sampler.due(pts):
            taken.append(pts)
    period = 1e9 / fps
    assert len(taken) - 1 <= (taken[-1] - taken[0] + period / 8) / period


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_jittered(attempt: int, dice: float) -> None:
    assert FIRST_S / 2 <= backoff_s(attempt, dice) <= LONGEST_S
    assert backoff_s(attempt, 0.0) < backoff_s(attempt, 0.9)
    assert backoff_s(attempt, dice) <= backoff_s(attempt + 1, dice)
