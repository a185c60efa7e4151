"""What one run owes to who starts it again, and what of its troubles a person sees."""

from pathlib import Path

import pytest

from edge_runtime.agent.starts import SAFE_S, STEADY_S, StartJournal, Verdict
from edge_runtime.agent.watchdog import Notifier
from edge_runtime.cli.status_table import status_lines
from edge_runtime.cli.supervised import Supervised
from edge_runtime.contract.status import AgentStatus, CameraState, CameraStatus, Condition


def status(uptime_s: float, *cameras: CameraStatus, level: int = 0) -> AgentStatus:
    reason = "82 °C, and 80 °C is too hot" if level else ""
    return AgentStatus(cameras, (), uptime_s, 1.0, 1, level=level, level_reason=reason)


class Run:
    """One run of an agent that only tells the time."""

    def __init__(self, folder: Path, verdict: Verdict) -> None:
        self.path = folder / "starts.json"
        self.restarts = 0
        self.shown: list[AgentStatus] = []
        journal = StartJournal(self.path)
        journal.begin(b"settings", 0)
        self.turn = Supervised(
            Notifier(), journal, verdict, stuck_s=lambda: 0.0, restart=self._restart, show=self.shown.append
        )

    def _restart(self) -> None:
        self.restarts += 1


def test_a_steady_minute_makes_it_a_good_start(tmp_path: Path) -> None:
    run = Run(tmp_path, Verdict())
    run.turn(status(STEADY_S - 1))
    assert StartJournal(run.path).begin(b"settings", 1).careful
    run = Run(tmp_path / "other", Verdict())
    run.turn(status(STEADY_S))
    assert StartJournal(run.path).begin(b"settings", 1) == Verdict()
    assert [shown.uptime_s for shown in run.shown] == [STEADY_S]


@pytest.mark.parametrize(
    ("safe", "uptime_s", "restarts"), [(True, SAFE_S - 1, 0), (True, SAFE_S, 1), (False, 10 * SAFE_S, 0)]
)
def test_a_safe_start_gives_way_after_a_while(
    tmp_path: Path, safe: bool, uptime_s: float, restarts: int
) -> None:
    run = Run(tmp_path, Verdict(safe=safe))
    run.turn(status(uptime_s))
    assert run.restarts == restarts


def test_a_person_sees_pictures_that_are_wrong_and_what_was_given_up() -> None:
    covered = CameraStatus("door", CameraState.ONLINE, health=(Condition.BLINDED, Condition.FROZEN))
    lines = list(status_lines(status(1, covered, level=2)))
    assert "camera door: its picture is blinded and frozen" in lines
    assert "level 2: fewer frames are looked at: 82 °C, and 80 °C is too hot" in lines
