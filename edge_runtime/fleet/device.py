"""A device of a fleet: drives its updates, and keeps its manager and itself in step over a link.

One thread has the link, one the updates, one the slow commands, one the certificate's age. Knows no broker,
no camera and no model: these are behind `Link`, `Hands` and the updater's ports.
"""

import logging
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import Have, Health, Reported
from edge_runtime.contract.update import ENDS, State
from edge_runtime.fleet.commands import Doing
from edge_runtime.fleet.desk import Desk
from edge_runtime.fleet.enrolment import Enrolment
from edge_runtime.fleet.event_box import EventBox
from edge_runtime.fleet.inbound import Inbound
from edge_runtime.fleet.outbound import AGAIN_S, Outbound, presence
from edge_runtime.fleet.papers import Papers
from edge_runtime.fleet.ports import Connected, Hands, Happened, Link, Lost, Message
from edge_runtime.fleet.reporting import PROGRESS_S, ReportPlan, Watch
from edge_runtime.fleet.telling import Telling
from edge_runtime.fleet.times import rfc3339
from edge_runtime.update.ports import Clock
from edge_runtime.update.updater import Updater

log = logging.getLogger(__name__)

_IDLE_S = 30.0
_STOP_S = 15.0
_TROUBLE = 20
"""Lines of it in a report."""
_AT_REST = ENDS | {State.IDLE, State.WAITING_WINDOW}


class FleetDevice:
    """One device.

    Args:
        enrolment: Who it is.
        updater: Its updates; `step` is called from here alone.
        hands: What commands are done with.
        link: The way to its manager; polled from here alone.
        clock: The device's.
        dice: Gives numbers in [0, 1) that spread what a fleet would do at once.
        report_every_s: It reports at least so often, give or take a tenth.
        papers: Its certificate and standing; None: somebody else sees to them.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        updater: Updater,
        hands: Hands,
        link: Link,
        *,
        clock: Clock,
        dice: Callable[[], float],
        report_every_s: float = 300.0,
        papers: Papers | None = None,
    ) -> None:
        self._enrolment = enrolment
        self._updater = updater
        self._hands = hands
        self._link = link
        self._clock = clock
        self._dice = dice
        self._papers = papers
        self._mine = enrolment.topics
        self._agent = version("edge-runtime")
        self._box = EventBox(enrolment.folder / "events.db")
        self._telling = Telling(self._box, clock)
        self._plan = ReportPlan(report_every_s)
        self._watch = Watch()
        self._have: tuple[Have, ...] = ()
        self._trouble: dict[str, str] = {}
        """What is wrong now, by where."""
        self._stepped = threading.Event()
        self._nudged = threading.Event()
        self._closing = threading.Event()
        self._looked_s = -PROGRESS_S
        self._online = self._started = False
        self._desk = Desk(Doing(hands, self._cancel, self._ask_report), clock, link.wake)
        self._outbound = Outbound(
            link, self._mine, box=self._box, plan=self._plan, report=self._report, clock=clock, dice=dice
        )
        self._inbound = Inbound(
            self._mine,
            desire=updater.desire,
            taken_seq=lambda: updater.desired_seq,
            desk=self._desk,
            noticed=lambda: self._plan.noticed(clock.steady_s(), dice()),
            telling=self._telling,
            clock=clock,
        )
        self._threads = [
            threading.Thread(target=target, name=f"fleet-{name}", daemon=True)
            for name, target in (("link", self._run), ("updates", self._update))
        ]
        if papers is not None:
            renewing = threading.Thread(
                target=papers.run, args=(self._closing,), name="fleet-papers", daemon=True
            )
            self._threads.append(renewing)

    def start(self) -> None:
        """Begin: connect, report, and go on with updates where they were."""
        if self._updater.journal_damaged:
            self._telling.damaged("the end of the journal of updates could not be read")
        if self._box.damage:
            self._telling.damaged(self._box.damage)
        self._started = True
        self._desk.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Say goodbye and stop; a step of an update that is under way ends soon, and goes on at a start."""
        self._closing.set()
        self._updater.stop()
        self._nudged.set()
        self._link.wake()
        if self._papers is not None:
            self._papers.wake()
        self._desk.close(_STOP_S)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOP_S)
        if not self._started:
            self._part()
        self._box.close()

    def status(self) -> dict[str, Any]:
        """Say how it stands with the fleet, as a JSON document for a status page."""
        return {
            "tenant": self._enrolment.tenant,
            "device": self._enrolment.device,
            "manager": self._enrolment.manager_url,
            "online": self._online,
            "desired_seq": self._updater.desired_seq,
            "have": [each.model_dump(mode="json") for each in self._have],
            "events_waiting": len(self._box),
            "events_given_up": self._box.given_up,
            "refused": {str(code): count for code, count in self._telling.refused_counts.items()},
            "revoked": self._papers is not None and self._papers.revoked,
            "trouble": self._troubles(),
        }

    def _run(self) -> None:
        """Have the link until the end."""
        while not self._closing.is_set():
            try:
                for each in self._link.poll(self._wait_s()):
                    self._take(each)
                for answer in self._desk.answers():
                    self._inbound.tell(answer)
                    self._outbound.answer(answer)
                self._look()
                self._outbound.send()
            except Exception:  # a device whose link thread has ended is one that nobody reaches any more
                log.exception("fleet: unexpected; going on")
                self._closing.wait(1.0)
        self._part()

    def _part(self) -> None:
        now = rfc3339(self._clock.now_s())
        self._link.close(presence(self._mine, online=False, time=now))

    def _wait_s(self) -> float:
        now_s = self._clock.steady_s()
        busy = any(each.state not in _AT_REST for each in self._have)
        look_s = self._looked_s + (PROGRESS_S if busy else _IDLE_S)
        return max(0.0, min(look_s, self._outbound.wake_at()) - now_s)

    def _take(self, happened: Happened) -> None:
        match happened:
            case Message():
                answer = self._inbound.take(happened)
                self._nudged.set()
                if answer is not None:
                    self._inbound.tell(answer)
                    self._outbound.answer(answer)
            case Connected():
                self._online = True
                self._trouble.pop("link", None)
                if self._papers is not None:
                    self._papers.connected()
                log.info("fleet: connected as %s/%s", self._mine.tenant, self._mine.device)
                self._outbound.connected()
            case Lost():
                if self._online or "link" not in self._trouble:
                    log.warning("fleet: %s", happened.reason)
                self._online = False
                self._trouble["link"] = happened.reason
                if self._papers is not None:
                    self._papers.lost()
                self._outbound.lost()
            case _:
                self._outbound.settled(happened)

    def _look(self) -> None:
        """See what has changed, where something may have."""
        now_s = self._clock.steady_s()
        if not self._stepped.is_set() and now_s < self._looked_s + PROGRESS_S:
            return
        self._stepped.clear()
        self._looked_s = now_s
        try:
            self._have = self._updater.have()
            self._trouble.pop("slots", None)
        except StorageError as error:
            if self._trouble.get("slots") != str(error):
                self._trouble["slots"] = str(error)
                self._telling.storage(error)
                self._plan.changed(now_s)
            return
        news = self._watch.look(self._have, self._updater.desired_seq)
        self._telling.ended(news.ended)
        if news.changed:
            self._plan.changed(now_s)
        elif news.progressed:
            self._plan.progressed(now_s)

    def _report(self) -> Reported:
        return Reported(
            seq=self._box.next_number(),
            device=self._enrolment.device,
            desired_seq=self._updater.desired_seq,
            time=rfc3339(self._clock.now_s()),
            profile=self._enrolment.profile,
            agent=self._agent,
            have=self._have,
            health=self._health(),
        )

    def _health(self) -> Health:
        try:
            health = self._hands.health()
        except Exception as error:  # a report without it is better than none
            log.exception("fleet: no word on health")
            health = Health(trouble=(f"no word on health: {error}",))
        trouble = (*self._troubles(), *health.trouble)[:_TROUBLE]
        return health.model_copy(update={"trouble": trouble})

    def _update(self) -> None:
        """Drive updates until the end."""
        while not self._closing.is_set():
            self._nudged.clear()
            try:
                wait_s = self._updater.step()
                self._trouble.pop("updates", None)
            except StorageError as error:
                self._trouble["updates"] = str(error)
                self._telling.storage(error)
                wait_s = AGAIN_S
            except Exception as error:  # an update that fails in an unknown way must not end all of them
                log.exception("fleet: a step of an update failed")
                self._trouble["updates"] = f"unexpected: {type(error).__name__}: {error}"
                wait_s = AGAIN_S
            self._stepped.set()
            self._link.wake()
            if wait_s:
                self._nudged.wait(wait_s)

    def _troubles(self) -> list[str]:
        papers = self._papers.trouble if self._papers is not None else None
        return [*([] if papers is None else [papers]), *self._trouble.values()]

    def _cancel(self, deployment: str) -> None:
        self._updater.cancel(deployment)
        self._nudged.set()

    def _ask_report(self) -> None:
        self._plan.changed(self._clock.steady_s())
