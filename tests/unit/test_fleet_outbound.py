"""What goes to the broker, over a link that does as it is told, in virtual time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_runtime.contract.fleet import DeviceEvent, Reply, Reported
from edge_runtime.fleet.desk import Answer
from edge_runtime.fleet.event_box import EventBox
from edge_runtime.fleet.outbound import AGAIN_S, Outbound
from edge_runtime.fleet.parsing import parse
from edge_runtime.fleet.ports import Happened, Post, Settled
from edge_runtime.fleet.reporting import ReportPlan
from edge_runtime.fleet.times import rfc3339
from edge_runtime.fleet.topics import Channel, Topics
from tests.simulators.updates import World

MINE = Topics("acme", "d1")


@dataclass
class ScriptedLink:
    """Keeps what is published; `up` says whether there is a connection."""

    up: bool = True
    sent: list[Post] = field(default_factory=list[Post])

    def poll(self, timeout_s: float) -> Sequence[Happened]:
        return ()

    def publish(self, post: Post) -> int | None:
        if not self.up:
            return None
        self.sent.append(post)
        return len(self.sent)

    def wake(self) -> None: ...

    def close(self, farewell: Post) -> None: ...

    def channels(self) -> list[str]:
        return [post.topic.rpartition("/")[2] for post in self.sent]

    def tickets(self, channel: Channel) -> list[int]:
        return [n for n, each in enumerate(self.channels(), 1) if each == channel]


class Desk:
    """An `Outbound` with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.world, self.link = World("http://127.0.0.1:1", steady=1000.0), ScriptedLink()
        self.folder, self.plan = folder, ReportPlan(300.0)
        self.box = EventBox(folder / "events.db")
        self.outbound = Outbound(
            self.link, MINE, box=self.box, plan=self.plan, report=self.report,
            clock=self.world, dice=lambda: 0.5,
        )  # fmt: skip

    def report(self) -> Reported:
        number = self.box.next_number()
        return Reported(seq=number, device="d1", time=rfc3339(0), profile="store-pc", agent="1")

    def happens(self, count: int) -> None:
        for n in range(count):
            self.box.put(DeviceEvent(id=f"e{n}", time=rfc3339(n), level="info", code="c", text=""))

    def connect(self) -> None:
        self.outbound.connected()
        self.outbound.send()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.box.close()


def test_presence_then_a_report_then_events_and_nothing_before(desk: Desk) -> None:
    desk.happens(1)
    desk.outbound.send()
    assert (desk.link.sent, desk.outbound.wake_at()) == ([], math.inf)
    desk.connect()
    assert desk.link.channels() == ["presence", "reported", "event"]
    assert [post.retain for post in desk.link.sent] == [True, False, False]
    desk.outbound.send()
    assert len(desk.link.sent) == 3


def test_few_events_are_under_way_and_the_next_follow(desk: Desk) -> None:
    desk.happens(20)
    desk.connect()
    first = desk.link.tickets(Channel.EVENT)
    assert len(first) == 8
    desk.outbound.send()
    assert desk.link.tickets(Channel.EVENT) == first
    for ticket in first[:3]:
        desk.outbound.settled(Settled(ticket))
    desk.outbound.send()
    sent = [parse(DeviceEvent, each.payload).id for each in desk.link.sent if each.topic.endswith("event")]
    assert sent == [f"e{n}" for n in range(11)]
    assert len(desk.box) == 17


def test_an_event_that_nobody_took_is_sent_again_later(desk: Desk) -> None:
    desk.happens(1)
    desk.connect()
    (ticket,) = desk.link.tickets(Channel.EVENT)
    desk.outbound.settled(Settled(ticket, "No matching subscribers"))
    desk.outbound.send()
    assert desk.link.tickets(Channel.EVENT) == [ticket]
    desk.outbound.settled(Settled(desk.link.tickets(Channel.REPORTED)[0]))
    assert desk.outbound.wake_at() == desk.world.steady + AGAIN_S
    desk.world.steady += AGAIN_S
    desk.outbound.send()
    assert len(desk.link.tickets(Channel.EVENT)) == 2
    assert len(desk.box) == 1


def test_what_a_connection_took_with_it_is_sent_again(desk: Desk) -> None:
    desk.happens(2)
    desk.connect()
    desk.outbound.lost()
    desk.outbound.settled(Settled(desk.link.tickets(Channel.EVENT)[0]))
    assert len(desk.box) == 2, "a word about an earlier connection means nothing"
    desk.connect()
    assert desk.link.channels() == ["presence", "reported", "event", "event"] * 2


def test_a_report_that_nobody_heard_is_made_again(desk: Desk) -> None:
    desk.connect()
    desk.outbound.settled(Settled(desk.link.tickets(Channel.REPORTED)[0], "No matching subscribers"))
    desk.outbound.send()
    assert len(desk.link.tickets(Channel.REPORTED)) == 1
    desk.world.steady = desk.outbound.wake_at()
    assert 1015 <= desk.world.steady <= 1030
    desk.outbound.send()
    assert len(desk.link.tickets(Channel.REPORTED)) == 2


def test_a_report_that_could_not_be_sent_stays_due(desk: Desk) -> None:
    desk.link.up = False
    desk.connect()
    assert (desk.link.sent, desk.outbound.wake_at()) == ([], 1000.0)
    desk.link.up = True
    desk.outbound.send()
    assert desk.link.channels() == ["reported"]


def test_answers_do_not_pile_up(desk: Desk) -> None:
    answer = Answer("v1/acme/m/r1/reply", b"7", Reply(id="c1", ok=True))
    desk.connect()
    for _ in range(20):
        desk.outbound.answer(answer)
    sent = [post for post in desk.link.sent if post.topic.endswith("reply")]
    assert len(sent) == 16
    assert {(post.correlation, post.expiry_s) for post in sent} == {(b"7", 60)}
    desk.outbound.settled(Settled(desk.link.tickets(Channel.REPLY)[0]))
    desk.outbound.answer(answer)
    assert len(desk.link.tickets(Channel.REPLY)) == 17
    desk.outbound.answer(Answer(None, None, Reply(id="c1", ok=True)))
    assert len(desk.link.tickets(Channel.REPLY)) == 17


def test_a_disk_that_gives_no_events_is_asked_later_and_not_all_the_time(desk: Desk) -> None:
    desk.happens(1)
    desk.box.close()
    for each in desk.folder.iterdir():
        each.unlink()
    (desk.folder / "events.db").mkdir()
    desk.connect()
    assert desk.link.channels() == ["presence", "reported"]
    desk.outbound.settled(Settled(2))
    assert desk.outbound.wake_at() == desk.world.steady + AGAIN_S
    (desk.folder / "events.db").rmdir()
