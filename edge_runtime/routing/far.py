"""Far: the cloud's side of the router: the client, what is known of the cloud, and what is owed to it.

Puts them together; each does its own work.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Answer
from edge_runtime.protocol.backend import Piece
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.outgoing import Outgoing
from edge_runtime.routing.parcel import Kind
from edge_runtime.routing.sender import pack


class Asks(Protocol):
    """What the router needs of the cloud's client."""

    @property
    def binary(self) -> bool:
        """Whether tensors go as binary data now."""
        ...

    def predict(
        self,
        request: Request,
        outgoing: Outgoing,
        deadline_s: float,
        *,
        retries: int,
        hedge_after_s: float | None,
    ) -> Answer[Any]:
        """Ask for an answer; raises `EdgeRuntimeError`s only, and by the deadline."""
        ...

    def generate(
        self, request: Request, outgoing: Outgoing, deadline_s: float
    ) -> Generator[Piece, None, None]:
        """Have a text generated, piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class Far:
    """The cloud's side.

    Args:
        client: Asks it.
        gauge: How it has been doing.
        outbox: What is owed to it.
        ring: Called when something new is owed.
    """

    client: Asks
    gauge: CloudGauge
    outbox: Outbox
    ring: Callable[[], None]

    def owe(self, outgoing: Outgoing, kind: Kind, stream: str, local: object) -> bool:
        """Put something into the outbox; when this returns True it will be sent, whatever happens here.

        Args:
            outgoing: What.
            kind: What it is.
            stream: What it is in order with.
            local: The device's own answer, to compare with; None: nothing is compared.

        Returns:
            Whether there was room.

        Raises:
            InputError: Its id is that of something else.
            StorageError: The disk did not take it.
        """
        kept = self.outbox.put(pack(outgoing, kind, stream, local), time.time())
        self.ring()
        return kept
