"""A device's certificate and standing: renewed in time, and doubted where the broker turns it away."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from edge_runtime.contract.errors import RemoteError
from edge_runtime.fleet.papers import Papers, RevokedError


@dataclass
class Time:
    s: float = 1000.0

    def now_s(self) -> float:
        return self.s

    def steady_s(self) -> float:
        return self.s

    def local(self) -> datetime:
        return datetime.fromtimestamp(self.s, UTC)


@dataclass
class Manager:
    """What it is asked, and when."""

    time: Time
    refuses: Exception | None = None
    renewed: list[float] = field(default_factory=list[float])
    asked: list[float] = field(default_factory=list[float])

    def renew(self) -> bool:
        self.renewed.append(self.time.s)
        return False

    def confirm(self) -> None:
        self.asked.append(self.time.s)
        if self.refuses is not None:
            raise self.refuses


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def manager(time: Time) -> Manager:
    return Manager(time)


@pytest.fixture
def papers(time: Time, manager: Manager) -> Papers:
    return Papers(manager.renew, manager.confirm, clock=time, dice=lambda: 0.5)


def test_the_certificate_is_looked_at_every_few_hours(papers: Papers, time: Time, manager: Manager) -> None:
    assert papers.step() == 6 * 3600.0
    time.s += 6 * 3600.0 - 1
    papers.step()
    assert len(manager.renewed) == 1
    time.s += 1
    papers.step()
    assert len(manager.renewed) == 2 and manager.asked == []


def test_one_lost_connection_is_no_reason_to_ask(papers: Papers, time: Time, manager: Manager) -> None:
    for _ in range(5):
        papers.lost()
        papers.connected()
    time.s += 3600
    papers.step()
    assert manager.asked == []


def test_where_the_link_cannot_be_made_the_manager_is_asked_after_a_while(
    papers: Papers, time: Time, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.refuses = RevokedError("it was revoked")
    papers.step()
    for _ in range(100):
        papers.lost()
    assert papers.step() == 16.0  # two seconds, and half of the spread
    time.s += 16.0
    papers.step()
    assert manager.asked == [1016.0]
    assert papers.revoked and papers.trouble == "revoked: it was revoked"
    for _ in range(100):
        papers.lost()
    assert papers.step() == 600.0  # a manager is not asked all the time
    time.s += 600.0
    papers.step()
    assert len(manager.asked) == 2
    assert [each.levelname for each in caplog.records] == ["ERROR"]  # once
    manager.refuses = None
    papers.lost()
    time.s += 600.0
    papers.step()
    assert not papers.revoked and papers.trouble is None


def test_a_manager_that_does_not_answer_revokes_nobody(papers: Papers, time: Time, manager: Manager) -> None:
    manager.refuses = RemoteError("no answer", retryable=True)
    papers.lost()
    papers.lost()
    time.s += 30.0
    papers.step()
    assert len(manager.asked) == 1 and not papers.revoked
    assert papers.trouble is not None and "no answer" in papers.trouble


def test_a_link_that_is_back_ends_the_doubt(papers: Papers, time: Time, manager: Manager) -> None:
    papers.step()
    papers.lost()
    papers.lost()
    papers.connected()
    time.s += 60.0
    papers.step()
    assert manager.asked == []


def test_its_thread_ends_when_it_is_told_to(papers: Papers, manager: Manager) -> None:
    closing = threading.Event()
    thread = threading.Thread(target=papers.run, args=(closing,))
    thread.start()
    closing.set()
    papers.wake()
    thread.join(10)
    assert not thread.is_alive()
