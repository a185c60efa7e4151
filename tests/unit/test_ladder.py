"""When a machine gives up frames, how it gets them back, and where its figures come from."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.agent.pressure import Machine, Relief, hot_from
from edge_runtime.contract.device import Thermal
from edge_runtime.contract.status import CameraState, CameraStatus
from edge_runtime.settings.resilience import DegradeSettings
from edge_runtime.video.ladder import STEPS, Ladder, LadderOptions, Pressure

OPTIONS = LadderOptions(hot_c=80, memory_free_share=0.05, late_s=1.0, down_after_s=10, up_after_s=60)
HOT = Pressure(temperature_c=85)
COOL = Pressure(temperature_c=50)


def walk(ladder: Ladder, pressure: Pressure, seconds: int, from_s: float) -> list[tuple[float, int]]:
    """Look once a second; give when it changed, and to what."""
    times = (from_s + second for second in range(seconds))
    return [(now_s, ladder.level) for now_s in times if ladder.look(pressure, now_s)]


@pytest.mark.parametrize(
    ("pressure", "reason"),
    [
        (Pressure(temperature_c=80), "80 °C, and 80 °C is too hot"),
        (Pressure(throttled=True), "the processor slows itself down for its heat"),
        (Pressure(memory_free_share=0.04), "4.0% of the memory is free, and 5.0% is too little"),
        (Pressure(age_s=1.5), "answers are 1.5 s old, and 1 s is too old"),
        (Pressure(temperature_c=79.9, memory_free_share=0.05, age_s=1.0), ""),
        (Pressure(), ""),
    ],
)
def test_reasons_to_give_way(pressure: Pressure, reason: str) -> None:
    ladder = Ladder(OPTIONS)
    walk(ladder, pressure, 15, 0)
    assert (ladder.level, ladder.reason) == (int(bool(reason)), reason)


def test_one_step_each_ten_seconds_down_to_the_last_and_each_minute_up_again() -> None:
    ladder = Ladder(OPTIONS)
    assert walk(ladder, HOT, 100, 0) == [(10, 1), (20, 2), (30, 3), (40, 4)]
    assert walk(ladder, COOL, 300, 100) == [(160, 3), (220, 2), (280, 1), (340, 0)]
    assert ladder.reason == ""


def test_extras_go_after_frames_and_before_the_last_step() -> None:
    assert [step.extras for step in STEPS] == [True, True, True, False, False]
    shares = [step.share for step in STEPS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1


def test_between_hot_and_cool_nothing_changes() -> None:
    ladder = Ladder(OPTIONS)
    walk(ladder, HOT, 12, 0)
    assert walk(ladder, Pressure(temperature_c=77), 1000, 12) == []
    assert ladder.level == 1


def test_a_peak_is_no_reason() -> None:
    ladder = Ladder(OPTIONS)
    for second in range(100):
        assert not ladder.look(HOT if second % 9 else COOL, second)


def test_who_climbed_too_early_waits_twice_as_long() -> None:
    ladder = Ladder(OPTIONS)
    walk(ladder, HOT, 12, 0)
    assert walk(ladder, COOL, 80, 20) == [(80, 0)]
    walk(ladder, HOT, 15, 100)
    assert walk(ladder, COOL, 200, 120) == [(240, 0)]


@given(
    st.lists(
        st.builds(
            Pressure,
            temperature_c=st.none() | st.floats(20, 110),
            throttled=st.booleans(),
            memory_free_share=st.none() | st.floats(0, 1),
            age_s=st.none() | st.floats(0, 10),
        ),
        max_size=200,
    )
)
def test_laws(looks: list[Pressure]) -> None:
    ladder = Ladder(LadderOptions(hot_c=80, down_after_s=2, up_after_s=3))
    for second, pressure in enumerate(looks):
        before = ladder.level
        changed = ladder.look(pressure, second)
        assert abs(ladder.level - before) == int(changed), "one step at a time"
        assert 0 <= ladder.level < len(STEPS)
        assert bool(ladder.reason) == (ladder.level > 0)


@pytest.mark.parametrize(
    ("hot_c", "throttle_c", "high_c", "expected"),
    [(70, 80, 105, 70), (None, 80, 105, 75), (None, None, 105, 95), (None, None, None, None)],
    ids=["settings", "profile", "sensor", "nobody knows"],
)
def test_what_is_hot(
    hot_c: float | None, throttle_c: float | None, high_c: float | None, expected: float | None
) -> None:
    assert hot_from(DegradeSettings(hot_c=hot_c), Thermal(throttle_c=throttle_c), high_c) == expected


def counter(system: Path, cpu: int, count: int) -> None:
    path = system / f"devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{count}\n")


def test_an_intel_processor_that_throttles(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    counter(tmp_path, 0, 7)
    counter(tmp_path, 1, 0)
    assert not machine.throttled(), "what was before the start"
    assert not machine.throttled()
    counter(tmp_path, 1, 1)
    assert machine.throttled()
    assert not machine.throttled()


@pytest.mark.parametrize(
    ("bits", "throttled"), [("0", False), ("50000", False), ("50005", True), ("8", True)]
)
def test_a_raspberry_pi_that_throttles(tmp_path: Path, bits: str, throttled: bool) -> None:
    path = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True)
    path.write_text(bits)
    assert Machine(tmp_path).throttled() is throttled


def test_memory_of_a_container(tmp_path: Path) -> None:
    group = tmp_path / "fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("990000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 20000\n")
    assert Machine(tmp_path).memory_free_share() == pytest.approx(0.03)
    (group / "memory.max").write_text("max\n")
    assert Machine(tmp_path).memory_free_share() > 0.03


def test_answers_of_live_cameras_that_are_online_count(tmp_path: Path) -> None:
    cameras = [
        CameraStatus("live", CameraState.ONLINE, age_s=0.2),
        CameraStatus("gone", CameraState.OFFLINE, age_s=9.0),
        CameraStatus("new", CameraState.STARTING),
    ]
    assert Machine(tmp_path).pressure(cameras).age_s == 0.2


def test_relief_gives_a_step_when_the_level_changes(tmp_path: Path) -> None:
    late = [CameraStatus("live", CameraState.ONLINE, age_s=5.0)]
    relief = Relief(DegradeSettings(), Thermal(), Machine(tmp_path))
    steps = [relief.look(late, second / 4) for second in range(100)]
    assert [step for step in steps if step] == [STEPS[1], STEPS[2]]
    assert relief.ladder.reason == "answers are 5.0 s old, and 1 s is too old"
