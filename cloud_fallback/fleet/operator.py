"""The operator: one thread between the broker, the database and the rollouts.

Every replica takes in what devices say, many messages in one transaction, and tells a device again what it
should have where that differs from what it took. Only the leader lets rollouts decide. What is published is
in the database before, so that a manager may be killed at any point: the next one sends it again.
"""

import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from cloud_fallback.fleet.bus import Bus, Heard, Post
from cloud_fallback.fleet.conductor import Conductor
from cloud_fallback.fleet.database import enrolments, events
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.database.rows import chunks
from cloud_fallback.fleet.database.tables import devices
from cloud_fallback.fleet.database.wishes import desired
from cloud_fallback.fleet.ingest import Ingest, read
from cloud_fallback.fleet.leader import Leader
from cloud_fallback.fleet.unwelcome import Unwelcome
from cloud_fallback.fleet.watch import Watch, Watches
from cloud_fallback.fleet.ways_back import Reverter
from edge_runtime.contract.errors import DeadlineError, EdgeRuntimeError, RemoteError
from edge_runtime.contract.fleet import Command, Desired, Reply
from edge_runtime.contract.update import UpdateFailedError
from edge_runtime.fleet.parsing import encode, parse
from edge_runtime.fleet.topics import Channel, Topics, of_all, reply

log = logging.getLogger(__name__)

_GATHER_S = 0.02
"""Messages that come within so long of the first one are written together."""
_BATCH = 5000
_LOOK_S = 0.5
"""Between looks for what other replicas wrote."""
_SWEEP_S = 30.0
_REFRESH_S = 300.0
_AGAIN_S = 10.0
"""A device is not told the same thing again sooner."""
_PAUSE_S = 1.0
"""After the database failed."""
_EVENTS_S = 90 * 86400.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How the operator is doing, for metrics.

    Args:
        leads: Whether this replica decides.
        connected: Whether the broker is there.
        waiting: Messages that wait to be written.
        messages: Taken in, since the start.
        published: Sent to devices, since the start.
        bad: Messages that could not be read, by code.
        rollouts: In memory.
        turn_s: The last transaction and decision took so long.
    """

    leads: bool
    connected: bool
    waiting: int
    messages: int
    published: int
    bad: dict[str, int]
    rollouts: int
    turn_s: float


def subscriptions(tenant: str, replica: str, *, share: str | None = "manager") -> tuple[str, ...]:
    """Give the topics that a replica subscribes to.

    Args:
        tenant: Whose fleet it is.
        replica: Its name.
        share: Replicas of one name share reports and events; None: there is one replica only.
    """
    return (
        of_all(tenant, Channel.REPORTED, share=share),
        of_all(tenant, Channel.EVENT, share=share),
        of_all(tenant, Channel.PRESENCE),
        reply(tenant, replica),
    )


class Operator:
    """One replica's operator. `start` and `close` once; everything else from any thread.

    Args:
        database: Of the manager, migrated.
        bus: Subscribed to `subscriptions`; the operator starts and closes it.
        repository: Signs ways back.
        tenant: Whose fleet it is.
        replica: Unique among the replicas.
        clock: Gives seconds since 1970, UTC.
        dice: Gives numbers in [0, 1).
        silent_s: A device that said nothing for so long is offline, whatever the broker says.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        repository: Reverter,
        *,
        tenant: str,
        replica: str,
        clock: Callable[[], float],
        dice: Callable[[], float],
        silent_s: float = 1000.0,
    ) -> None:
        self._database = database
        self._bus = bus
        self._tenant = tenant
        self._replica = replica
        self._clock = clock
        self._silent_s = silent_s
        self._leader = Leader(database)
        self._repository = repository
        self._conductor = Conductor(database, repository, tenant, dice)
        self._ingest = Ingest()
        self._watches = Watches()
        self._inbox: queue.SimpleQueue[Heard | None] = queue.SimpleQueue()
        self._replies: dict[str, Future[Reply]] = {}
        self._told: dict[str, tuple[int, float]] = {}
        self._unwelcome = Unwelcome(bus, tenant)
        self._nudged = threading.Event()
        self._joined = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)
        self._led = False
        self._look_s = self._sweep_s = self._refresh_s = -math.inf
        self._counts: Counter[str] = Counter()
        self._turn_s = 0.0

    def start(self) -> None:
        """Begin."""
        self._bus.start(self.hear, self._join)
        self._thread.start()

    def close(self) -> None:
        """Finish what is being written, and let another replica lead."""
        self._stopping.set()
        self._inbox.put(None)
        self._thread.join()
        self._bus.close()
        self._leader.release()

    def nudge(self) -> None:
        """Say that something for the operator is new in the database: a deployment, a move, a device."""
        self._nudged.set()
        self._inbox.put(None)

    def notice(self) -> None:
        """Ask all devices to report."""
        self._bus.publish(Post(Topics(self._tenant, "all").of(Channel.NOTICE), b""))

    def command(self, device: str, command: Command, timeout_s: float) -> Reply:
        """Have a device do something, and wait for its answer.

        Args:
            device: Its name.
            command: What to do.
            timeout_s: After which the device does not do it any more.

        Raises:
            RemoteError: The broker is not connected.
            DeadlineError: The device did not answer in time.
        """
        future: Future[Reply] = Future()
        self._replies[command.id] = future
        post = Post(
            Topics(self._tenant, device).of(Channel.COMMAND),
            encode(command),
            response_topic=reply(self._tenant, self._replica),
            correlation=command.id.encode(),
            expiry_s=max(1, math.ceil(timeout_s)),
        )
        try:
            if not self._bus.publish(post):
                raise RemoteError(f"command {command.name}", retryable=True, got="no broker", do="Try again")
            return future.result(timeout_s)
        except TimeoutError as error:
            raise DeadlineError(
                f"command {command.name} to {device}",
                got=f"no answer in {timeout_s:g} s",
                do="See whether the device is online, or give it more time",
            ) from error
        finally:
            del self._replies[command.id]

    def expel(self, device: str, *, forget: bool) -> None:
        """End a device's session at the broker, as `Unwelcome` does it."""
        self._unwelcome.expel(device, forget=forget)

    def watch(self) -> Watch:
        """Give changes from now on; close it."""
        return self._watches.new()

    def figures(self) -> Figures:
        """Say how it is doing."""
        return Figures(
            leads=self._led,
            connected=self._bus.connected,
            waiting=self._inbox.qsize(),
            messages=self._counts["messages"],
            published=self._counts["published"],
            bad=dict(self._ingest.bad),
            rollouts=len(self._conductor.rollouts),
            turn_s=self._turn_s,
        )

    def hear(self, heard: Heard) -> None:
        """Take a message from the bus."""
        if heard.correlation is None:
            self._inbox.put(heard)
            return
        self._bus.settle([heard])
        future = self._replies.get(heard.correlation.decode("ascii", "replace"))
        if future is None:
            return
        try:
            answer = parse(Reply, heard.payload)
        except UpdateFailedError as error:
            self._counts["bad-replies"] += 1
            log.warning("an answer cannot be read: %s", error)
            return
        with suppress(Exception):  # it was answered already, or nobody waits any more
            future.set_result(answer)

    def _join(self) -> None:
        self._joined.set()
        self._inbox.put(None)

    def _run(self) -> None:
        heard: list[Heard] = []
        while not self._stopping.is_set():
            try:
                heard += self._gather(0.0 if heard else self._wait_s())
                self.step(heard)
                heard = []
            except (SQLAlchemyError, EdgeRuntimeError, OSError) as error:
                # What was not written is not settled: it is tried again, or the broker sends it again.
                log.warning("the operator could not go on, and tries again: %s", error)
                self._conductor.forget()
                self._stopping.wait(_PAUSE_S)
            except Exception:
                log.exception("the operator met what it does not know, and tries again")
                self._conductor.forget()
                self._stopping.wait(_PAUSE_S)

    def wake_at(self) -> float | None:
        """Say when a `step` is due though nothing happened, as `Rollout.wake_at` does."""
        return self._conductor.wake_at() if self._led else None

    def _wait_s(self) -> float:
        wake_s = self.wake_at()
        return _LOOK_S if wake_s is None else min(_LOOK_S, max(0.0, wake_s - self._clock()))

    def _gather(self, timeout_s: float) -> list[Heard]:
        """Wait for messages, then a moment longer for those that come with them."""
        found: list[Heard] = []
        until_s = time.monotonic() + timeout_s
        while len(found) < _BATCH and not self._stopping.is_set():
            try:
                each = self._inbox.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                break
            if each is None:
                until_s = min(until_s, time.monotonic())
                continue
            if not found:
                until_s = time.monotonic() + _GATHER_S
            found.append(each)
        return found

    def step(self, heard: list[Heard]) -> None:
        """Write messages down, and let rollouts decide; what the thread does again and again.

        Args:
            heard: In the order in which they came.

        Raises:
            SQLAlchemyError: The database failed; what was not written can be given again.
        """
        begun_s, now_s, leads = time.monotonic(), self._clock(), self._leader.holds()
        reported, seen = set[str](), set[str]()
        if leads and not self._led:
            self._conductor.forget()
            self._refresh_s = -math.inf
            seen |= self._begin_to_lead(now_s)
        self._led = leads
        if heard:
            batch = read(heard, self._tenant, now_s)
            with self._database.begin() as tx:
                taken = self._ingest.write(tx, batch, now_s, leads=leads)
                messages = [
                    each for each in desired(tx, self._tenant, taken.astray) if self._due(each, now_s)
                ]
            self._bus.settle(heard)
            self._counts["messages"] += len(heard)
            self._tell(messages, now_s)
            self._unwelcome.spoke(taken.revoked)
            reported, seen = taken.reported, seen | taken.changed
        self._look(reported, seen, now_s, leads=leads)
        if heard:
            self._turn_s = time.monotonic() - begun_s

    def _look(self, reported: set[str], seen: set[str], now_s: float, *, leads: bool) -> None:
        due = self._nudged.is_set() or now_s >= self._look_s + _LOOK_S or now_s < self._look_s
        self._unwelcome.step(now_s)
        if self._joined.is_set():
            self._joined.clear()
            self._send_again(now_s)
            if leads:
                self.notice()
        if leads and (now_s >= self._sweep_s + _SWEEP_S or now_s < self._sweep_s):
            self._sweep_s = now_s
            seen = seen | self._sweep(now_s)
        if leads and (now_s >= self._refresh_s + _REFRESH_S or now_s < self._refresh_s):
            # A database that was restored from a backup has older metadata than devices have seen.
            self._repository.refresh(now_s, anyway=self._refresh_s == -math.inf)
            self._refresh_s = now_s
        wake_s = self._conductor.wake_at()
        if leads and (due or reported or seen or (wake_s is not None and wake_s <= now_s)):
            self._nudged.clear()
            turn = self._conductor.turn(self._leader, now_s, reported=reported, seen=seen)
            self._tell(turn.told, now_s)
        if due:
            self._look_s = now_s
        if self._watches and (due or reported or seen):
            with self._database.read() as tx:
                changes = self._watches.look(tx)
            self._watches.tell(changes)
        elif due:
            with self._database.read() as tx:
                self._watches.begin(tx, now_s)

    def _begin_to_lead(self, now_s: float) -> set[str]:
        log.info("replica %s leads", self._replica)
        with self._database.begin() as tx:
            self._leader.fence(tx)
            seen = self._ingest.catch_up(tx, now_s)
        self._send_again(now_s)
        # What devices said to a leader that was killed may have died with it.
        self.notice()
        return seen

    def _send_again(self, now_s: float) -> None:
        """Tell devices again what they have not taken in: whoever led before may have been killed."""
        with self._database.read() as tx:
            query = select(devices.c.name).where(
                devices.c.revoked_s.is_(None), devices.c.taken_seq != devices.c.desired_seq
            )
            names = [name for (name,) in tx.execute(query.order_by(devices.c.name))]
        for some in chunks(names):
            with self._database.read() as tx:
                messages = desired(tx, self._tenant, some)
            self._tell(messages, now_s)

    def _sweep(self, now_s: float) -> set[str]:
        """Write down who has been silent for too long, and throw old events away."""
        silent = devices.c.online & (devices.c.seen_s < now_s - self._silent_s)
        with self._database.begin() as tx:
            self._leader.fence(tx)
            gone = update(devices).where(silent).values(online=False, touched_s=now_s)
            names = {name for (name,) in tx.execute(gone.returning(devices.c.name))}
            events.prune(tx, now_s - _EVENTS_S)
            enrolments.prune(tx, now_s - _EVENTS_S)
        for name in names:
            self._ingest.presence.pop(name, None)
        return names

    def _due(self, message: Desired, now_s: float) -> bool:
        """Say whether a device was not told the same just now; its report may have crossed that."""
        seq, at_s = self._told.get(message.device, (-1, -math.inf))
        return seq != message.seq or at_s <= now_s - _AGAIN_S

    def _tell(self, messages: Iterable[Desired], now_s: float) -> None:
        for each in messages:
            try:
                payload = encode(each)
            except UpdateFailedError as error:
                log.error("%s cannot be told what it should have: %s", each.device, error)
                continue
            topic = Topics(self._tenant, each.device).of(Channel.DESIRED)
            if self._bus.publish(Post(topic, payload, retain=True)):
                self._told[each.device] = each.seq, now_s
                self._counts["published"] += 1
