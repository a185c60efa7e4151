"""What the manager needs of MQTT. Implements nothing: `paho_bus` is the one real bus."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Heard:
    """What came.

    Args:
        topic: Where.
        payload: As it came.
        retained: Whether the broker had kept it.
        correlation: Of the command that it answers.
        ticket: What the bus knows it by, for `settle`; None: there is nothing to settle.
    """

    topic: str
    payload: bytes
    retained: bool = False
    correlation: bytes | None = None
    ticket: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """What is to be sent, with QoS 1.

    Args:
        topic: Where.
        payload: As it goes.
        retain: Whether the broker keeps it.
        response_topic: Where the answer goes.
        correlation: That the answer has.
        expiry_s: The broker throws it away if nobody took it by then; None: never.
    """

    topic: str
    payload: bytes
    retain: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None


class Bus(Protocol):
    """A connection to the broker that comes back by itself. Safe to call from any thread."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        ...

    def start(self, hear: Callable[[Heard], None], joined: Callable[[], None]) -> None:
        """Connect, and go on trying.

        Args:
            hear: Called with every message, from the bus's own thread; returns soon and raises nothing.
            joined: Called after every connection, the first one too.
        """
        ...

    def publish(self, post: Post) -> bool:
        """Send a message; False: there is no connection, and nothing was kept."""
        ...

    def settle(self, heard: Iterable[Heard]) -> None:
        """Tell the broker that messages are dealt with, so that it does not send them again."""
        ...

    def expel(self, clients: Sequence[str], forget: Sequence[str]) -> None:
        """End sessions of others soon, whatever certificate they came in with; does not wait for it.

        Args:
            clients: Their client ids.
            forget: Topics; what is retained there is then thrown away.
        """
        ...

    def close(self) -> None:
        """Disconnect; the broker keeps what comes for the next one under this name."""
        ...
