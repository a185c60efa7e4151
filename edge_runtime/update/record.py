"""What a device must still know about its updates after a loss of power. Pure: the journal keeps it."""

from typing import Literal

from pydantic import Field

from edge_runtime.contract.bundle import Sha256
from edge_runtime.contract.fleet import Bytes, Id, Kind, Named, Wanted
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import Failure, State


class Version(Declared):
    """A version that a slot holds."""

    version: str
    sha256: Sha256 = Field(description="of its file")
    counter: int = Field(ge=0)


class Trusted(Declared):
    """What signed metadata says of a target.

    Args:
        sha256: Of the whole file.
        size_bytes: Of the whole file.
        counter: Of the release.
        tenant: Whom it is for.
        profiles: Device profiles it is for; empty: all.
        unpacked_bytes: What it takes in a slot.
        memory_bytes: What it takes while it runs beside the old one.
        patches: SHA-256 of every patch that the metadata names for it.
        time_s: A moment that has surely passed, in seconds since 1970; 0: it proves none.
    """

    sha256: Sha256
    size_bytes: Bytes
    counter: int = Field(ge=0)
    tenant: Id
    profiles: tuple[str, ...] = ()
    unpacked_bytes: Bytes = 0
    memory_bytes: Bytes = 0
    patches: tuple[Sha256, ...] = ()
    time_s: float = 0.0


class Source(Declared):
    """What is fetched for an update.

    Args:
        target: Its path on the server.
        sha256: Of what is fetched.
        size_bytes: Of what is fetched.
        base_sha256: Of the file that a patch starts from; None: it is the whole file.
    """

    target: str
    sha256: Sha256
    size_bytes: Bytes
    base_sha256: Sha256 | None = None


class Ended(Declared):
    """How the last update of a name ended."""

    deployment: Id
    state: State
    code: Failure | None = None
    detail: str = ""


class Update(Declared):
    """The update of one name.

    Args:
        kind: As in `Wanted`.
        name: As in `Wanted`.
        state: Where it is.
        wanted: What it is about; None: it rests.
        trusted: What metadata says of it.
        source: What is fetched; None: not known yet, or nothing has to be.
        patches: Whether a patch may be fetched; not after one of them failed.
        starts: How often its trial was begun.
        code: Why it ends, where it does not end well.
        detail: The same for a person.
        ended: How the one before ended.
    """

    kind: Kind
    name: Id
    state: State = State.IDLE
    wanted: Wanted | None = None
    trusted: Trusted | None = None
    source: Source | None = None
    patches: bool = True
    starts: int = 0
    code: Failure | None = None
    detail: str = ""
    ended: Ended | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is the update of."""
        return self.kind, self.name


class Record(Declared):
    """Everything.

    Args:
        seq: Of the last `Desired` that was taken; -1: none yet.
        trusted_time_s: The latest moment that has surely passed, in seconds since 1970.
        desired: Of that message.
        removed: Of that message.
        cancelled: Of that message, and by command.
        updates: One a name.
    """

    v: Literal[1] = 1
    seq: int = -1
    trusted_time_s: float = 0.0
    desired: tuple[Wanted, ...] = ()
    removed: tuple[Named, ...] = ()
    cancelled: tuple[Id, ...] = ()
    updates: tuple[Update, ...] = ()

    def of(self, kind: Kind, name: str) -> Update:
        """Give the update of a name, at rest where there was none."""
        found = (each for each in self.updates if each.key == (kind, name))
        return next(found, Update(kind=kind, name=name))

    def having(self, update: Update) -> "Record":
        """Give the record with one update replaced."""
        others = tuple(each for each in self.updates if each.key != update.key)
        return self.model_copy(update={"updates": (*others, update)})

    def named(self) -> frozenset[str]:
        """Give the SHA-256 of every file that an update under way needs."""
        found: set[str] = set()
        for update in self.updates:
            if update.wanted is not None:
                found.add(update.wanted.sha256)
            if update.source is not None:
                found |= {update.source.sha256, update.source.base_sha256 or update.source.sha256}
        return frozenset(found)
