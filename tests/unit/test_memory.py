"""What was freed goes back to the system, now and then."""

import platform

import pytest

from edge_runtime.agent.memory import GIVE_BACK_EVERY_S, Upkeep


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_it_gives_back_once_a_minute() -> None:
    upkeep = Upkeep()
    times = [second for second in range(200) if upkeep.look(float(second))]
    assert times == [0, GIVE_BACK_EVERY_S, 2 * GIVE_BACK_EVERY_S, 3 * GIVE_BACK_EVERY_S]


@pytest.mark.skipif(platform.libc_ver()[0] == "glibc", reason="elsewhere")
def test_elsewhere_nothing_is_done() -> None:
    assert not Upkeep().look(0.0)
