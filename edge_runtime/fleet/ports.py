"""What the device's end of a fleet needs: a link to the broker, and hands that do what commands say.

Implements neither: `paho_link` is the one link, the agent has the hands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from edge_runtime.contract.fleet import Health


@dataclass(frozen=True, slots=True)
class Message:
    """What came.

    Args:
        topic: Where.
        payload: As it came.
        retained: Whether the broker had kept it.
        response_topic: Where an answer is expected; None: none is.
        correlation: To be sent back with the answer.
        expiry_s: It is too old in so many seconds; None: never.
    """

    topic: str
    payload: bytes
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: float | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker let us in, and will hand over what we subscribe to."""


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no connection, or it could not be made; the link goes on trying.

    Args:
        reason: For a person.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The broker answered for something we sent.

    Args:
        ticket: What `publish` gave.
        refusal: Why nobody will get it; None: the broker has it and somebody subscribes to it.
    """

    ticket: int
    refusal: str | None = None


Happened = Message | Connected | Lost | Settled


@dataclass(frozen=True, slots=True)
class Post:
    """What is to be sent, with QoS 1.

    Args:
        topic: Where.
        payload: As it goes.
        retain: Whether the broker keeps it.
        correlation: Of the message that this answers.
        expiry_s: The broker throws it away if nobody took it by then; None: it keeps it.
    """

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    expiry_s: int | None = None


class Link(Protocol):
    """A connection to the broker that comes back by itself. Belongs to one thread, but for `wake`.

    Keeps nothing for later: what was not settled when the connection was lost is the caller's to send again.
    """

    def poll(self, timeout_s: float) -> Sequence[Happened]:
        """Wait for something to happen, connect where that is due, and say what happened. Raises nothing.

        Args:
            timeout_s: The longest it waits.
        """
        ...

    def publish(self, post: Post) -> int | None:
        """Hand something to the connection.

        Returns:
            Its ticket, for `Settled`; None: there is no connection.
        """
        ...

    def wake(self) -> None:
        """End a `poll` that waits. May be called from any thread."""
        ...

    def close(self, farewell: Post) -> None:
        """Send a last message where that is still possible, disconnect and release everything."""
        ...


class Hands(Protocol):
    """The running agent, as far as a fleet's commands touch it. Called from one thread but for `health`."""

    @property
    def allows_snapshots(self) -> bool:
        """Whether a picture may leave this device."""
        ...

    def restart_pipeline(self, camera: str | None) -> None:
        """Open a camera's source anew; None: all of them.

        Raises:
            EdgeRuntimeError: There is no such camera, or it does not open.
        """
        ...

    def set_log_level(self, level: str, seconds: float | None) -> None:
        """Log more or less.

        Args:
            level: debug, info, warning or error.
            seconds: Then the level before is back; None: until the process ends.
        """
        ...

    def snapshot(self, camera: str) -> bytes:
        """Give a camera's newest picture as JPEG.

        Raises:
            EdgeRuntimeError: There is no such camera, or no picture of it; `RefusedError` where the policy
                forbids it.
        """
        ...

    def benchmark(self, seconds: float) -> dict[str, JsonValue]:
        """Measure this device for about so long, beside what it does.

        Raises:
            EdgeRuntimeError: It cannot be measured.
        """
        ...

    def health(self) -> Health:
        """Say how the device is doing. Quick, and from any thread."""
        ...
