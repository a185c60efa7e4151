"""Drives updates: takes what is desired, carries out effects, and journals every state before it is acted on.

One update fetches or is tried at a time. Knows neither MQTT nor TUF: both are behind ports. `step` is for one
thread; `desire`, `cancel` and `have` may be called from any.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.errors import EdgeRuntimeError, StorageError
from edge_runtime.contract.fleet import Desired, Have, Wanted
from edge_runtime.contract.update import ENDS, Failure, Happening, State, UpdateFailedError
from edge_runtime.update.collect import collect
from edge_runtime.update.effects import RESERVE_BYTES, Effects, Identity, Ports, Result, Stopped
from edge_runtime.update.journal import Journal
from edge_runtime.update.machine import OF_PATCHES, RESUME, Effect, after, happening_of, may_cancel
from edge_runtime.update.record import Ended, Record, Update
from edge_runtime.update.slots import all_slots

_BUSY = frozenset(State) - ENDS - {State.IDLE, State.NOTIFIED, State.STAGED, State.WAITING_WINDOW}
_POLL_S = 30.0
"""Between looks at the clock for a maintenance window."""
_DETAIL = 1000
"""Characters of a reason; as long as `Have` takes."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a step that can succeed later is tried again.

    Args:
        attempts: In a row without progress, before the update fails.
        first_s: Pause after the first; doubles.
        longest_s: It does not double further.
    """

    attempts: int = 12
    first_s: float = 2.0
    longest_s: float = 900.0

    def pause_s(self, attempt: int, dice: float) -> float:
        """Say how long to wait after an attempt; half of it is left to the dice, in [0, 1)."""
        whole = min(self.first_s * 2.0 ** (attempt - 1), self.longest_s)
        return whole * (0.5 + dice / 2)


class Updater:
    """The updates of one device. One process at a time may have a folder.

    Args:
        root: The folder of journal, store and slots.
        identity: Who this device is.
        ports: The world.
        dice: Gives numbers in [0, 1) that spread retries.
        patience: With what fails for now.
        reserve_bytes: Stays free on the disk.

    Raises:
        StorageError: The journal or a pointer cannot be read.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity,
        ports: Ports,
        *,
        dice: Callable[[], float],
        patience: Patience = Patience(),
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._identity = identity
        self._clock = ports.clock
        self._dice = dice
        self._patience = patience
        self._effects = Effects(root, identity, ports, reserve_bytes)
        self._journal = Journal(root / "journal")
        self._record = self._journal.read()
        self.journal_damaged = self._journal.damaged
        """Whether the end of the journal could not be read at the start."""
        self._todo: dict[tuple[str, str], Effect] = {}
        self._attempts: dict[tuple[str, str], tuple[int, int]] = {}
        self._wake_s: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()
        self._inbox: list[Desired] = []
        self._given_up: set[str] = set(self._record.cancelled)
        self._stopping = False
        self._resume()

    def desire(self, desired: Desired) -> None:
        """Take what the manager wants; the next step acts on it.

        Raises:
            UpdateFailedError: It is for another tenant or device, or older than what is known.
        """
        for what, mine, theirs in (
            ("tenant", self._identity.tenant, desired.tenant),
            ("device", self._identity.device, desired.device),
        ):
            if mine != theirs:
                code = Failure.WRONG_TENANT if what == "tenant" else Failure.MESSAGE_FOREIGN_TOPIC
                raise UpdateFailedError(code, f"desired: {what}", expected=mine, got=theirs)
        with self._lock:
            known = max([self._record.seq, *(each.seq for each in self._inbox)])
            if desired.seq <= known:
                raise UpdateFailedError(
                    Failure.MESSAGE_STALE, "desired: seq", expected=f"above {known}", got=f"{desired.seq}"
                )
            self._inbox.append(desired)
            self._given_up |= set(desired.cancelled)

    def cancel(self, deployment: str) -> None:
        """Give a deployment up, whatever it is doing."""
        with self._lock:
            self._given_up.add(deployment)

    def stop(self) -> None:
        """End a step that is under way soon; its state stays in the journal."""
        self._stopping = True

    def have(self) -> tuple[Have, ...]:
        """Say what this device has, and where its updates are.

        Raises:
            StorageError: A pointer cannot be read.
        """
        record = self._record
        keys = [each.key for each in record.updates]
        lost = [each for each in all_slots(self._effects.slots) if (each.kind, each.name) not in keys]
        updates = (*record.updates, *(record.of(each.kind, each.name) for each in lost))
        return tuple(self._have(update) for update in updates)

    def under_way(self) -> tuple[Wanted, ...]:
        """Give what updates that have not ended lead to."""
        return tuple(each.wanted for each in self._record.updates if each.wanted is not None)

    @property
    def desired_seq(self) -> int:
        """Of the last message that was taken; -1: none yet."""
        return self._record.seq

    def step(self) -> float:
        """Do the next thing there is to do.

        Returns:
            Seconds until there may be more to do; 0: now.

        Raises:
            StorageError: The journal cannot be written. Nothing was lost; call again later.
        """
        self._take()
        now_s = self._clock.steady_s()
        for update in self._record.updates:
            if update.state is State.IDLE or self._wake_s.get(update.key, now_s) > now_s:
                continue
            if update.state is State.NOTIFIED and any(each.state in _BUSY for each in self._record.updates):
                continue
            self._perform(update)
            return 0.0
        if self._remove(now_s):
            return 0.0
        return max(0.0, min([_POLL_S, *(each - now_s for each in self._wake_s.values() if each > now_s)]))

    def _resume(self) -> None:
        for update in self._record.updates:
            state, self._todo[update.key] = RESUME[update.state]
            self._record = self._record.having(update.model_copy(update={"state": state}))
        collect(self._effects.store, self._effects.slots, self._record)

    def _take(self) -> None:
        """Take messages in, cancel what is given up, and begin what is new."""
        with self._lock:
            messages, given_up = list(self._inbox), frozenset(self._given_up)
        if messages:
            last = messages[-1]
            cancelled = tuple(sorted(given_up & _deployments(last, self._record)))
            self._write(
                self._record.model_copy(
                    update={
                        "seq": last.seq,
                        "desired": last.wanted,
                        "removed": last.removed,
                        "cancelled": cancelled,
                    }
                )
            )
            with self._lock:  # not before it is in the journal
                del self._inbox[: len(messages)]
        for update in self._record.updates:
            if update.wanted is not None and may_cancel(update.state) and self._is_given_up(update):
                reason = {"code": Failure.CANCELLED, "detail": "cancelled, or something else is wanted"}
                self._go(update.model_copy(update=reason), Happening.CANCEL)
        for wanted in self._record.desired:
            update = self._record.of(wanted.kind, wanted.name)
            if update.state is State.IDLE and wanted.deployment not in given_up and self._is_new(wanted):
                self._go(
                    Update(kind=wanted.kind, name=wanted.name, wanted=wanted, ended=update.ended),
                    Happening.DESIRED,
                )

    def _is_new(self, wanted: Wanted) -> bool:
        update = self._record.of(wanted.kind, wanted.name)
        if update.ended is not None and update.ended.deployment == wanted.deployment:
            return False
        active = self._effects.of(update).active()
        return active is None or active[0].sha256 != wanted.sha256

    def _is_given_up(self, update: Update) -> bool:
        """Say whether an update was cancelled, or its name should have something else by now."""
        if update.wanted is None:
            return False
        deployment = update.wanted.deployment
        return deployment in self._given_up or all(
            each.deployment != deployment for each in self._record.desired
        )

    def _perform(self, update: Update) -> None:
        effect = self._todo[update.key]
        if effect is Effect.AWAIT_TURN:
            self._go(update, Happening.BEGIN)
            return
        if effect is Effect.TRY:
            update = self._count_start(update)
            if update.state is not State.TRIAL:
                return
        progress = self._progress(update)
        try:
            result = self._effects.run(effect, update, self._record, lambda: self._must_stop(update))
        except Stopped:
            result = Result(None, update)
        except EdgeRuntimeError as error:
            self._failed(update, _coded(error, update.state), progress)
            return
        if result.trusted_time_s > self._record.trusted_time_s:
            self._record = self._record.model_copy(update={"trusted_time_s": result.trusted_time_s})
        if result.happening is not None:
            self._go(result.update, result.happening)
        elif effect is Effect.TRY:  # stopped from outside, which is no crash
            self._write(self._record.having(update.model_copy(update={"starts": update.starts - 1})))
        else:
            self._wake_s[update.key] = self._clock.steady_s() + (0.0 if self._must_stop(update) else _POLL_S)

    def _remove(self, now_s: float) -> bool:
        """Take a name back to what was installed, where no version of it is wanted; say whether one was."""
        wanted = {(each.kind, each.name) for each in self._record.desired}
        for named in self._record.removed:
            update = self._record.of(named.kind, named.name)
            if update.state is not State.IDLE or update.key in wanted:
                continue
            if self._wake_s.get(update.key, now_s) > now_s:
                continue
            committed = update.ended is not None and update.ended.state is State.COMMITTED
            try:
                if not self._effects.remove(update) and not committed:
                    continue
            except EdgeRuntimeError as error:
                self._removal_failed(update, error)
                return True
            self._attempts.pop(update.key, None)
            self._wake_s.pop(update.key, None)
            rest = {"ended": None if committed else update.ended, "code": None, "detail": ""}
            self._write(self._record.having(update.model_copy(update=rest)))
            collect(self._effects.store, self._effects.slots, self._record)
            return True
        return False

    def _removal_failed(self, update: Update, error: EdgeRuntimeError) -> None:
        """Try again later, without end: no version of the name is good."""
        attempt = self._attempts.get(update.key, (0, 0))[0] + 1
        self._attempts[update.key] = attempt, 0
        self._wake_s[update.key] = self._clock.steady_s() + self._patience.pause_s(attempt, self._dice())
        reason = {"code": _coded(error, update.state).code, "detail": str(error)[:_DETAIL]}
        self._record = self._record.having(update.model_copy(update=reason))

    def _must_stop(self, update: Update) -> bool:
        return self._stopping or bool(self._inbox) or self._is_given_up(update)

    def _count_start(self, update: Update) -> Update:
        """Journal that a trial begins, before it can take the process down."""
        limit = update.wanted.trial.max_starts if update.wanted is not None else 0
        if update.starts >= limit:
            reason = {
                "code": Failure.CRASHED_IN_TRIAL,
                "detail": f"the process ended {update.starts} times in the trial, limit {limit}",
            }
            return self._go(update.model_copy(update=reason), Happening.CRASHED)
        update = update.model_copy(update={"starts": update.starts + 1})
        self._write(self._record.having(update))
        return update

    def _failed(self, update: Update, error: UpdateFailedError, progress: int) -> None:
        attempt, before = self._attempts.get(update.key, (0, progress))
        attempt = 1 if self._progress(update) > before else attempt + 1
        self._attempts[update.key] = attempt, self._progress(update)
        reason = {"code": error.code, "detail": str(error)[:_DETAIL]}
        if update.state in ENDS or (error.retryable and attempt < self._patience.attempts):
            self._record = self._record.having(
                update if update.state in ENDS else update.model_copy(update=reason)
            )
            self._wake_s[update.key] = self._clock.steady_s() + self._patience.pause_s(attempt, self._dice())
            return
        if _has_other_way(update, error.code):
            self._go(update.model_copy(update={"source": None, "patches": False}), Happening.NO_PATCH)
            return
        self._go(update.model_copy(update=reason), happening_of(error.code, update.state))

    def _progress(self, update: Update) -> int:
        """Say how many bytes are here of what is being fetched."""
        source = update.source
        if update.state is not State.DOWNLOADING or source is None:
            return 0
        return self._effects.store.part(source.sha256, source.size_bytes).done_bytes

    def _go(self, update: Update, happening: Happening) -> Update:
        """Journal a transition, then have its effect done."""
        state, effect = after(update.state, happening)
        if state is State.IDLE and update.wanted is not None:
            ended = Ended(
                deployment=update.wanted.deployment,
                state=update.state,
                code=update.code,
                detail=update.detail,
            )
            update = Update(kind=update.kind, name=update.name, ended=ended)
        elif happening in {Happening.DONE, Happening.NO_WINDOW, Happening.WINDOW_OPEN}:
            update = update.model_copy(update={"code": None, "detail": ""})
        update = update.model_copy(update={"state": state})
        try:
            self._write(self._record.having(update))
        except StorageError:
            if effect is not Effect.DROP:
                raise
            self._effects.make_room(update)
            self._write(self._record.having(update))
        self._todo[update.key] = effect
        self._attempts.pop(update.key, None)
        self._wake_s.pop(update.key, None)
        if state is State.IDLE:
            collect(self._effects.store, self._effects.slots, self._record)
        return update

    def _write(self, record: Record) -> None:
        self._journal.write(record)
        self._record = record

    def _have(self, update: Update) -> Have:
        active = self._effects.of(update).active()
        ended, wanted = update.ended, update.wanted
        at_rest = update.state is State.IDLE and ended is not None
        # A commit counts once the pointer says so.
        state = State.SWITCHING if update.state is State.COMMITTED else update.state
        deployment = wanted.deployment if wanted else None
        source = update.source
        return Have(
            kind=update.kind,
            name=update.name,
            version=active[0].version if active else None,
            sha256=active[0].sha256 if active else None,
            counter=active[0].counter if active else 0,
            state=ended.state if at_rest and ended else state,
            deployment=ended.deployment if at_rest and ended else deployment,
            progress=self._progress(update) / source.size_bytes if source and source.size_bytes else 0.0,
            code=update.code or (ended.code if at_rest and ended else None),
            detail=update.detail or (ended.detail if at_rest and ended else ""),
        )


def _has_other_way(update: Update, code: Failure) -> bool:
    """Say whether a patch failed where the whole file may be fetched."""
    by_patch = update.source is not None and update.source.base_sha256 is not None
    return by_patch and code in OF_PATCHES and update.wanted is not None and update.wanted.full_allowed


def _deployments(desired: Desired, record: Record) -> frozenset[str]:
    """Give every deployment that can still matter."""
    under_way = {each.wanted.deployment for each in record.updates if each.wanted is not None}
    return frozenset({*under_way, *desired.cancelled, *(each.deployment for each in desired.wanted)})


_BY_STATE = {
    State.VERIFYING_METADATA: Failure.METADATA_UNREACHABLE,
    State.DOWNLOADING: Failure.DOWNLOAD_FAILED,
    State.VERIFYING: Failure.ARCHIVE_BROKEN,
    State.TRIAL: Failure.OPEN_FAILED,
}


def _coded(error: EdgeRuntimeError, state: State) -> UpdateFailedError:
    """Give an error the code that the manager knows."""
    if isinstance(error, UpdateFailedError):
        return error
    code = Failure.STORAGE if isinstance(error, StorageError) else _BY_STATE.get(state, Failure.STORAGE)
    return UpdateFailedError(code, str(error), retryable=getattr(error, "retryable", False))
