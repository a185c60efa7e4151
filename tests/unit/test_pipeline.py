"""Decision table of the schedule, and the promises it makes, over random histories."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_runtime.contract.errors import ConfigError
from edge_runtime.video.pipeline import RECORDING_DEPTH, SLACK, Pipeline, Ticket

Schedule = Pipeline[int, str]


def schedule(**cameras: bool) -> Schedule:
    pipeline: Schedule = Pipeline()
    for name, live in cameras.items():
        pipeline.add(name, live=live)
    return pipeline


def test_newest_frame_of_a_live_camera_wins() -> None:
    pipeline = schedule(door=True)
    assert pipeline.offer("door", 1, 10) is None
    assert pipeline.offer("door", 2, 20) == 1
    ticket, late = pipeline.take(30)
    assert ticket is not None
    assert (ticket.item, ticket.offered_ns, late) == (2, 20, [])
    assert pipeline.take(31) == (None, [])


def test_recording_waits_for_room_and_loses_nothing() -> None:
    pipeline = schedule(tape=False)
    for item in range(RECORDING_DEPTH):
        assert pipeline.room("tape")
        assert pipeline.offer("tape", item, item) is None
    assert not pipeline.room("tape")
    first, _ = pipeline.take(9)
    assert first is not None
    assert first.item == 0
    assert pipeline.room("tape")


def test_late_frames_are_dropped_and_named() -> None:
    pipeline: Schedule = Pipeline()
    pipeline.add("door", live=True, deadline_ns=100)
    pipeline.offer("door", 1, 0)
    assert pipeline.take(101) == (None, [("door", 1)])
    pipeline.offer("door", 2, 200)
    ticket, late = pipeline.take(300)
    assert ticket is not None
    assert (ticket.item, late) == (2, [])


def test_camera_served_longest_ago_goes_first() -> None:
    pipeline = schedule(fast=True, slow=True)
    order = []
    for turn in range(6):
        pipeline.offer("fast", turn, turn)
        pipeline.offer("slow", turn, turn)
        ticket, _ = pipeline.take(turn)
        assert ticket is not None
        order.append(ticket.camera)
    assert order in (["fast", "slow"] * 3, ["slow", "fast"] * 3)


def test_results_leave_in_order_and_one_worker_holds_a_camera() -> None:
    pipeline = schedule(tape=False)
    tickets = []
    for item in range(2):
        pipeline.offer("tape", item, 0)
        ticket, _ = pipeline.take(0)
        assert ticket is not None
        tickets.append(ticket)
    pipeline.finish(tickets[1], "second")
    assert pipeline.claim("tape") is None
    pipeline.finish(tickets[0], "first")
    assert pipeline.claim("tape") == (tickets[0], "first")
    assert pipeline.claim("tape") is None, "another worker must not get the second while the first is held"
    pipeline.release(tickets[0])
    assert pipeline.claim("tape") == (tickets[1], "second")
    pipeline.release(tickets[1])
    assert pipeline.idle("tape")


def test_name_taken() -> None:
    with pytest.raises(ConfigError, match="'door' is there already"):
        schedule(door=True).add("door", live=True)


def test_result_of_a_removed_camera_does_not_reach_its_successor() -> None:
    pipeline = schedule(door=True)
    pipeline.offer("door", 1, 0)
    old, _ = pipeline.take(0)
    assert old is not None
    pipeline.remove("door")
    assert pipeline.room("door")
    assert pipeline.idle("door")
    assert pipeline.offer("door", 2, 0) == 2
    pipeline.add("door", live=True)
    pipeline.finish(old, "stale")
    assert pipeline.claim("door") is None


def test_freshest_frame_goes_first_until_a_camera_is_too_far_ahead() -> None:
    pipeline = schedule(fresh=True, stale=True)
    pipeline.offer("stale", 0, 0)
    order = []
    for turn in range(1, SLACK + 2):
        pipeline.offer("fresh", turn, turn)
        ticket, _ = pipeline.take(turn)
        assert ticket is not None
        order.append(ticket.camera)
    assert order == ["fresh"] * SLACK + ["stale"]


def test_a_camera_that_had_nothing_to_show_is_owed_nothing() -> None:
    pipeline = schedule(busy=True, quiet=True)
    for turn in range(20):
        pipeline.offer("busy", turn, turn)
        pipeline.take(turn)
    order = []
    for turn in range(20, 32):
        pipeline.offer("busy", turn, turn)
        pipeline.offer("quiet", turn, turn)
        ticket, _ = pipeline.take(turn)
        assert ticket is not None
        order.append(ticket.camera)
    assert abs(order.count("busy") - order.count("quiet")) <= 2 * SLACK


def test_a_live_frame_goes_before_a_recording_that_can_wait() -> None:
    pipeline = schedule(tape=False, door=True)
    pipeline.offer("tape", 1, 0)
    pipeline.offer("door", 2, 0)
    assert [ticket.camera for ticket, _ in (pipeline.take(9), pipeline.take(9)) if ticket] == ["door", "tape"]


def test_takes_only_among_the_cameras_asked_for() -> None:
    pipeline = schedule(door=True, yard=True)
    pipeline.offer("door", 1, 0)
    assert pipeline.take(0, among=("yard",)) == (None, [])
    pipeline.offer("yard", 2, 0)
    ticket, _ = pipeline.take(0, among=("yard",))
    assert ticket is not None
    assert ticket.camera == "yard"


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(50, 200), st.randoms())
def test_cameras_get_equal_shares_under_overload(rates: list[int], takes: int, dice: Random) -> None:
    """However often each camera offers, and however old its frames are, the shares differ by the slack at
    most."""
    pipeline = schedule(**{f"c{number}": True for number in range(len(rates))})
    served = dict.fromkeys((f"c{number}" for number in range(len(rates))), 0)
    for now in range(takes):
        for number, rate in enumerate(rates):
            for repeat in range(rate):
                pipeline.offer(f"c{number}", now * 10 + repeat, now - dice.randrange(40))
        ticket, _ = pipeline.take(now)
        assert ticket is not None
        served[ticket.camera] += 1
    assert max(served.values()) - min(served.values()) <= SLACK


class Histories(RuleBasedStateMachine):
    """Random offers, takes, finishes and claims; nothing is lost, doubled or out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.pipeline = schedule(live=True, tape=False)
        self.now = 0
        self.next_item = 0
        self.offered = {"live": list[int](), "tape": list[int]()}
        self.replaced: list[int] = []
        self.running: list[Ticket[int]] = []
        self.held: list[Ticket[int]] = []
        self.delivered = {"live": list[int](), "tape": list[int]()}

    @rule(camera=st.sampled_from(["live", "tape"]))
    def offer(self, camera: str) -> None:
        if not self.pipeline.room(camera):
            return
        self.now += 1
        self.offered[camera].append(self.next_item)
        replaced = self.pipeline.offer(camera, self.next_item, self.now)
        if replaced is not None:
            assert camera == "live"
            self.replaced.append(replaced)
        self.next_item += 1

    @rule()
    def take(self) -> None:
        ticket, late = self.pipeline.take(self.now)
        assert late == []
        if ticket is not None:
            self.running.append(ticket)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.running:
            ticket = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            self.pipeline.finish(ticket, f"r{ticket.item}")

    @rule(camera=st.sampled_from(["live", "tape"]))
    def claim(self, camera: str) -> None:
        claimed = self.pipeline.claim(camera)
        if claimed is not None:
            ticket, outcome = claimed
            assert outcome == f"r{ticket.item}"
            assert camera not in [held.camera for held in self.held]
            self.held.append(ticket)
            self.delivered[camera].append(ticket.item)

    @rule()
    def release(self) -> None:
        if self.held:
            self.pipeline.release(self.held.pop())

    @invariant()
    def in_order_and_complete(self) -> None:
        for camera, delivered in self.delivered.items():
            kept = [item for item in self.offered[camera] if item not in self.replaced]
            assert delivered == kept[: len(delivered)]
        if self.pipeline.idle("tape"):
            assert self.delivered["tape"] == self.offered["tape"]


TestHistories = Histories.TestCase
