"""What a rollout wants done, as pure data. The manager does it, and writes an event and an audit line."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Offer:
    """Want the version of a device.

    Args:
        deployment: Why.
        device: Which.
        wave: Of the device.
        size_bytes: Charged to the byte budget.
    """

    deployment: str
    device: str
    wave: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Want it no longer of a device that is under way; it answers whether it had given up or was through."""

    deployment: str
    device: str


@dataclass(frozen=True, slots=True)
class Revert:
    """Send a device back.

    Args:
        deployment: That it is taken back from.
        device: Which.
        size_bytes: Charged to the byte budget.
        to: The newest good deployment for it; None: what it had before any of those in progress.
    """

    deployment: str
    device: str
    size_bytes: int
    to: str | None = None


class HaltReason(StrEnum):
    """Why a rollout halted itself."""

    FAILURE_RATE = "failure-rate"
    """The lower confidence bound of the failure rate is over the threshold."""
    WHOLE_WAVE = "whole-wave"
    """Nobody of the wave succeeded."""
    TOO_FEW_SUCCEEDED = "too-few-succeeded"
    """The wave has soaked, and too few of it are well."""
    VANISHED = "vanished"
    """Devices went away after they had succeeded, more than of those that were not touched."""


@dataclass(frozen=True, slots=True)
class Halt:
    """The rollout has stopped itself.

    Args:
        deployment: Which.
        reason: Why, as a code.
        text: Why, for a person, with the numbers.
    """

    deployment: str
    reason: HaltReason
    text: str


@dataclass(frozen=True, slots=True)
class WaveOpened:
    """A wave has begun; `wave` is counted from 0."""

    deployment: str
    wave: int


@dataclass(frozen=True, slots=True)
class ApprovalNeeded:
    """A person has to allow a wave; `wave` is counted from 0."""

    deployment: str
    wave: int


@dataclass(frozen=True, slots=True)
class Completed:
    """All waves were good."""

    deployment: str


@dataclass(frozen=True, slots=True)
class Reverted:
    """Everybody who can be reached has been taken back."""

    deployment: str


Action = Offer | Withdraw | Revert | Halt | WaveOpened | ApprovalNeeded | Completed | Reverted
