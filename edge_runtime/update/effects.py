"""What is done in each state of an update. Each effect may be begun again from its start at any time.

Says what happened and what is to be remembered; writes no journal and picks no next state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.errors import UpdateError
from edge_runtime.contract.fleet import Trial as Needs
from edge_runtime.contract.fleet import Wanted
from edge_runtime.contract.update import Failure, Happening, UpdateFailedError
from edge_runtime.update.collect import collect
from edge_runtime.update.delta import apply_delta
from edge_runtime.update.health import judge
from edge_runtime.update.machine import Effect
from edge_runtime.update.ports import Artifacts, Clock, Machine, Metadata, Trial
from edge_runtime.update.preflight import Facts, check
from edge_runtime.update.record import Record, Update, Version
from edge_runtime.update.slots import Slots
from edge_runtime.update.store import Store
from edge_runtime.update.window import is_open

RESERVE_BYTES = 64 << 20
"""Stays free on the disk for the journal, events and everything else."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as an updater sees it."""

    metadata: Metadata
    artifacts: Artifacts
    trial: Trial
    clock: Clock
    machine: Machine


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is.

    Args:
        tenant: Whose it is.
        device: Its name.
        profile: Its device profile.
    """

    tenant: str
    device: str
    profile: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an effect.

    Args:
        happening: None: nothing yet, it goes on later.
        update: To be remembered.
        trusted_time_s: A moment that has surely passed; 0: none was learnt.
    """

    happening: Happening | None
    update: Update
    trusted_time_s: float = 0.0


class Effects:
    """Carries effects out.

    Args:
        root: The folder of everything.
        identity: Who this device is.
        ports: The world.
        reserve_bytes: Stays free on the disk.
    """

    def __init__(self, root: Path, identity: Identity, ports: Ports, reserve_bytes: int) -> None:
        self.store = Store(root)
        self.slots = root / "slots"
        self._root = root
        self._identity = identity
        self._ports = ports
        self._reserve_bytes = reserve_bytes
        self._table = {
            Effect.TRUST: self._trust,
            Effect.CHECK: self._check,
            Effect.FETCH: self._fetch,
            Effect.VERIFY: self._verify,
            Effect.ASK_WINDOW: self._ask_window,
            Effect.AWAIT_WINDOW: self._await_window,
            Effect.SWITCH: self._switch,
            Effect.TRY: self._try,
            Effect.COMMIT: self._commit,
            Effect.DROP: self._drop,
        }

    def run(self, effect: Effect, update: Update, record: Record, stop: Callable[[], bool]) -> Result:
        """Carry one effect out.

        Args:
            effect: Which.
            update: Of which update.
            record: What the journal says.
            stop: Asked often; where it says so, the effect ends early and without harm.

        Raises:
            EdgeRuntimeError: It failed.
        """
        return self._table[effect](update, record, stop)

    def of(self, update: Update) -> Slots:
        """Give the slots of an update's name."""
        return Slots(self.slots, update.kind, update.name)

    def remove(self, update: Update) -> bool:
        """Go back to what the device was installed with; may be begun again at any time.

        Returns:
            Whether there was anything to go back from.

        Raises:
            EdgeRuntimeError: What was installed does not open, or the disk is full, read-only or broken.
        """
        slots = self.of(update)
        if slots.empty:
            return False
        slots.forget()
        self._ports.trial.restore(update.kind, update.name)
        slots.sweep()
        return True

    def make_room(self, update: Update) -> None:
        """Throw away what was fetched for an update that ends.

        Raises:
            StorageError: The disk is read-only or broken.
        """
        if update.source is not None:
            self.store.part(update.source.sha256, update.source.size_bytes).restart()

    def _trust(self, update: Update, record: Record, _stop: Callable[[], bool]) -> Result:
        now_s = self._ports.clock.now_s()
        if now_s < record.trusted_time_s:
            raise UpdateFailedError(
                Failure.CLOCK_BEHIND,
                "clock",
                expected=f"after {record.trusted_time_s:.0f} s since 1970",
                got=f"{now_s:.0f}",
                do="Set the clock; it is tried again by itself",
                retryable=True,
            )
        trusted = self._ports.metadata.look_up(_wanted(update), now_s)
        return Result(Happening.DONE, update.model_copy(update={"trusted": trusted}), trusted.time_s)

    def _check(self, update: Update, record: Record, _stop: Callable[[], bool]) -> Result:
        wanted, trusted = _wanted(update), update.trusted
        if not update.patches:
            wanted = wanted.model_copy(update={"deltas": ()})
        if trusted is None:
            raise UpdateError(f"update of {update.name}: preflight without metadata")
        collect(self.store, self.slots, record)
        try:
            source = check(wanted, trusted, self._facts(update))
        except UpdateFailedError as error:
            if error.code is not Failure.NO_DISK:
                raise
            self.of(update).vacate()  # the version before the active one goes first
            collect(self.store, self.slots, record)
            source = check(wanted, trusted, self._facts(update))
        return Result(Happening.DONE, update.model_copy(update={"source": source}))

    def _facts(self, update: Update) -> Facts:
        active = self.of(update).active()
        wanted, machine = _wanted(update), self._ports.machine
        fetched = {each.sha256: each.size_bytes for each in (wanted, *wanted.deltas)}
        return Facts(
            profile=self._identity.profile,
            tenant=self._identity.tenant,
            active=active[0] if active else None,
            present={sha256: self.store.path(sha256).stat().st_size for sha256 in self.store.present()},
            free_bytes=machine.free_bytes(self._root),
            reserve_bytes=self._reserve_bytes,
            free_memory_bytes=machine.free_memory_bytes(),
            fetched_bytes={
                sha256: self.store.part(sha256, size).done_bytes for sha256, size in fetched.items()
            },
        )

    def _fetch(self, update: Update, _record: Record, stop: Callable[[], bool]) -> Result:
        source, wanted = update.source, _wanted(update)
        if source is None or self.store.has(source.sha256):
            return Result(Happening.DONE, update)
        part = self.store.part(source.sha256, source.size_bytes)
        artifacts = self._ports.artifacts
        if not artifacts.fetch(source.target, part, whole_again=wanted.full_allowed, stop=stop):
            return Result(None, update)
        self.store.adopt(part, source.sha256)
        return Result(Happening.DONE, update)

    def _verify(self, update: Update, _record: Record, stop: Callable[[], bool]) -> Result:
        source, wanted = update.source, _wanted(update)
        if source is not None and source.base_sha256 is not None and not self.store.has(wanted.sha256):
            if not self.store.has(source.base_sha256):
                raise UpdateFailedError(
                    Failure.DELTA_WRONG_BASE,
                    f"{update.name}: patch",
                    expected=source.base_sha256,
                    got="no such file here",
                )
            self.store.check(source.sha256)
            with self.store.new(wanted.sha256) as out:
                whole = apply_delta(
                    self.store.path(source.base_sha256),
                    self.store.path(source.sha256),
                    out,
                    size_bytes=wanted.size_bytes,
                    max_memory_bytes=self._ports.machine.free_memory_bytes(),
                    stop=stop,
                )
                if not whole:
                    raise Stopped
        self.store.check(wanted.sha256)
        folder = self.of(update).vacate()
        self._ports.artifacts.unpack(wanted, self.store.path(wanted.sha256), folder)
        return Result(Happening.DONE, update)

    def _ask_window(self, update: Update, _record: Record, _stop: Callable[[], bool]) -> Result:
        return Result(Happening.NO_WINDOW if _wanted(update).window is None else Happening.DONE, update)

    def _await_window(self, update: Update, _record: Record, _stop: Callable[[], bool]) -> Result:
        window = _wanted(update).window
        is_now = window is None or is_open(window, self._ports.clock.local())
        return Result(Happening.WINDOW_OPEN if is_now else None, update)

    def _switch(self, update: Update, _record: Record, _stop: Callable[[], bool]) -> Result:
        wanted = _wanted(update)
        self.of(update).offer(Version(version=wanted.version, sha256=wanted.sha256, counter=wanted.counter))
        return Result(Happening.DONE, update)

    def _try(self, update: Update, _record: Record, stop: Callable[[], bool]) -> Result:
        wanted, slots = _wanted(update), self.of(update)
        active, pointer = slots.active(), slots.read()
        evidence = self._ports.trial.run(
            wanted, active[1] if active else None, slots.folder(pointer.free), stop
        )
        if evidence is None:
            return Result(None, update)
        # Settings and labels answer nothing that could be compared.
        unhealthy = judge(evidence, wanted.trial if wanted.kind == "model" else Needs())
        if unhealthy is not None:
            raise UpdateFailedError(unhealthy.code, unhealthy.detail)
        return Result(Happening.DONE, update)

    def _commit(self, update: Update, _record: Record, _stop: Callable[[], bool]) -> Result:
        slots = self.of(update)
        slots.commit(_wanted(update).sha256)
        active = slots.active()
        if active is not None:
            self._ports.trial.adopt(update.kind, update.name, active[1])
        return Result(Happening.DONE, update)

    def _drop(self, update: Update, _record: Record, _stop: Callable[[], bool]) -> Result:
        self._ports.trial.dismiss(update.kind, update.name)
        self.of(update).drop()
        return Result(Happening.DONE, update)


class Stopped(Exception):  # noqa: N818, it is no error
    """An effect was stopped in the middle of a file."""


def _wanted(update: Update) -> Wanted:
    if update.wanted is None:
        raise UpdateError(f"update of {update.name} in state {update.state}", expected="a wanted version")
    return update.wanted
