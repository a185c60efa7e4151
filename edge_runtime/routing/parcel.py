"""What lies in the outbox: parcels for the cloud, their late answers, and what the cloud will never get.

Holds values. `edge_runtime.routing.outbox` keeps them on disk, `edge_runtime.routing.sender` sends them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

WITHHELD = "privacy: "
"""The error of a parcel that may no longer leave begins so."""


class Kind(StrEnum):
    """What a parcel is; when there is no room, the first of these goes first."""

    AUDIT = "audit"
    """A confident answer that the cloud shall look at, too."""
    EVENT = "event"
    """Something that happened; its receiver answers nothing of interest."""
    ESCALATION = "escalation"
    """A hard example, whose answer somebody waits for."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request to the cloud.

    Args:
        key: Its id; the cloud applies it once, however often it comes.
        stream: Parcels of one stream are sent in the order they came.
        kind: What it is.
        path: Where in the cloud: `/v1/predict/sentiment-large`.
        content_type: Of the body.
        body: The bytes.
        headers: More headers; no credentials, which belong to the client.
        note: What its sender wants back with the answer: for an audit, what the device said.
    """

    key: str
    stream: str
    kind: Kind
    path: str
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    note: str = ""


@dataclass(frozen=True, slots=True)
class Owed:
    """A parcel that waits.

    Args:
        id: Its place; grows, and is never used twice.
        parcel: What is to be sent.
        since_s: When it came, seconds since 1970.
        attempts: How often it was tried.
    """

    id: int
    parcel: Parcel
    since_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Late:
    """An answer that came after its caller had gone.

    Args:
        key: Of the request.
        kind: What the parcel was.
        content_type: Of the body.
        body: As the cloud sent it.
        at_s: When it came, seconds since 1970.
        note: Of the parcel.
    """

    key: str
    kind: Kind
    content_type: str
    body: bytes
    at_s: float
    note: str


@dataclass(frozen=True, slots=True)
class Poison:
    """A parcel that the cloud will never take, or that may no longer leave.

    Args:
        key: Of the request.
        stream: Its stream.
        kind: What it is.
        path: Where it was to go.
        attempts: How often it was tried.
        error: What the cloud said, or why it may not leave: `privacy: …`.
        at_s: When it was given up, seconds since 1970.
    """

    key: str
    stream: str
    kind: Kind
    path: str
    attempts: int
    error: str
    at_s: float

    @property
    def withheld(self) -> bool:
        """Whether the settings keep it here; else the cloud refused it."""
        return self.error.startswith(WITHHELD)


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How much is owed, and what became of the rest since the file was made.

    Args:
        waiting: Parcels.
        waiting_bytes: Theirs.
        answers: Late answers kept for whoever asks.
        poisoned: Parcels kept that the cloud refused for good, or that may no longer leave.
        sent: Parcels that the cloud took.
        dropped: Parcels dropped for want of room.
        expired: Parcels dropped for their age.
        refused: Parcels that the cloud refused for good, all that ever were.
        withheld: Parcels that may no longer leave by the settings, all that ever were.
        damage: What happened to a damaged file; empty when nothing did.
    """

    waiting: int
    waiting_bytes: int
    answers: int
    poisoned: int
    sent: int
    dropped: int
    expired: int
    refused: int
    withheld: int
    damage: str
