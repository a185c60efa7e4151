"""What goes to the broker: presence, reports, events and answers; few of each are under way at a time.

Says when it has something to do; belongs to the thread that has the link. Decides nothing about messages.
"""

import logging
import math
from collections.abc import Callable
from typing import Literal

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import Presence, Reported
from edge_runtime.contract.update import UpdateFailedError
from edge_runtime.fleet.desk import Answer
from edge_runtime.fleet.event_box import EventBox
from edge_runtime.fleet.parsing import encode, encode_report
from edge_runtime.fleet.ports import Link, Post, Settled
from edge_runtime.fleet.reporting import ReportPlan
from edge_runtime.fleet.times import rfc3339
from edge_runtime.fleet.topics import Channel, Topics
from edge_runtime.update.ports import Clock

log = logging.getLogger(__name__)

_EVENTS = 8
_REPLIES = 16
_REPLY_EXPIRY_S = 60
AGAIN_S = 30.0
"""Until an event that nobody took is sent again."""
_Kind = Literal["presence", "report", "event", "reply"]


def presence(mine: Topics, *, online: bool, time: str | None) -> Post:
    """Make the retained message that says whether a device is there."""
    payload = encode(Presence(online=online, time=time))
    return Post(mine.of(Channel.PRESENCE), payload, retain=True)


class Outbound:
    """Sends.

    Args:
        link: The connection.
        mine: The device's topics.
        box: Events that wait.
        plan: Says when a report is due.
        report: Makes one.
        clock: The device's.
        dice: Gives numbers in [0, 1) that spread reports.
    """

    def __init__(
        self,
        link: Link,
        mine: Topics,
        *,
        box: EventBox,
        plan: ReportPlan,
        report: Callable[[], Reported],
        clock: Clock,
        dice: Callable[[], float],
    ) -> None:
        self._link = link
        self._mine = mine
        self._box = box
        self._plan = plan
        self._report = report
        self._clock = clock
        self._dice = dice
        self._connected = False
        self._under_way: dict[int, tuple[_Kind, int]] = {}
        self._events_from_s = -math.inf

    def connected(self) -> None:
        """There is a new connection: say so, then report."""
        now_s = self._clock.steady_s()
        self._connected = True
        self._events_from_s = now_s
        self._publish("presence", presence(self._mine, online=True, time=rfc3339(self._clock.now_s())))
        self._plan.connected(now_s)

    def lost(self) -> None:
        """There is no connection; what was under way is sent again, but for answers: too late."""
        self._connected = False
        self._under_way.clear()
        self._plan.lost()

    def settled(self, settled: Settled) -> None:
        """The broker answered for something."""
        kind, number = self._under_way.pop(settled.ticket, (None, 0))
        if settled.refusal is not None:
            log.debug("%s: %s", kind, settled.refusal)
        match kind:
            case "report" if settled.refusal is not None:
                self._plan.unheard(self._clock.steady_s(), self._dice())
            case "report":
                self._plan.settled()
            case "event" if settled.refusal is not None:
                # Nobody subscribes, as after a broker that lost its state: the manager will.
                self._events_from_s = self._clock.steady_s() + AGAIN_S
            case "event":
                try:
                    self._box.done(number)
                except StorageError:  # the manager knows its id if it comes again
                    self._events_from_s = self._clock.steady_s() + AGAIN_S
            case _:
                pass

    def answer(self, answer: Answer) -> None:
        """Send the answer to a command, if somebody wants it."""
        topic = answer.topic
        if topic is None:
            return
        if self._count("reply") >= _REPLIES:
            log.warning("an answer is not sent: %d are under way", _REPLIES)
            return
        payload = encode(answer.reply)
        self._publish("reply", Post(topic, payload, correlation=answer.correlation, expiry_s=_REPLY_EXPIRY_S))

    def send(self) -> None:
        """Send what is due."""
        if not self._connected:
            return
        now_s = self._clock.steady_s()
        if self._plan.wake_at() <= now_s:
            self._send_report(now_s)
        if self._events_from_s <= now_s:
            self._send_events(now_s)

    def wake_at(self) -> float:
        """Say when something is due, on a steady clock; infinity: not before something happens."""
        room = self._connected and len(self._box) > self._count("event") and self._count("event") < _EVENTS
        return min(self._plan.wake_at(), self._events_from_s if room else math.inf)

    def _send_report(self, now_s: float) -> None:
        try:
            payload = encode_report(self._report())
        except UpdateFailedError as error:
            log.error("no report: %s", error)
            self._plan.sent(now_s, self._dice())
            self._plan.settled()
            return
        if self._publish("report", Post(self._mine.of(Channel.REPORTED), payload)):
            self._plan.sent(now_s, self._dice())

    def _send_events(self, now_s: float) -> None:
        under_way = {number for kind, number in self._under_way.values() if kind == "event"}
        room = min(_EVENTS, len(self._box)) - len(under_way)
        if room <= 0:
            return
        found = self._box.waiting(room, under_way)
        if not found:  # the disk does not give them now
            self._events_from_s = now_s + AGAIN_S
        for number, body in found:
            self._publish("event", Post(self._mine.of(Channel.EVENT), body), number)

    def _publish(self, kind: _Kind, post: Post, number: int = 0) -> bool:
        ticket = self._link.publish(post)
        if ticket is not None:
            self._under_way[ticket] = kind, number
        return ticket is not None

    def _count(self, kind: _Kind) -> int:
        return sum(each == kind for each, _ in self._under_way.values())
