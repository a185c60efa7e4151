"""The seam to where events and pictures go. A sink knows no camera, model or rule."""

from collections.abc import Sequence
from typing import Protocol

from edge_runtime.contract.event import Event
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import AgentStatus, SinkStatus

__all__ = ["EventSink", "Scene", "SceneSink", "StatusSink"]


class EventSink(Protocol):
    """Takes events. When `write` returns, the events survive `kill -9` of this process.

    `EventHub` calls `write`, `sync` and `close` from one thread; `status` comes from any.
    """

    name: str

    def write(self, events: Sequence[Event]) -> None:
        """Accept events durably.

        Raises:
            StorageError: They could not be kept; the caller keeps them and tries again.
        """
        ...

    def sync(self) -> None:
        """Make all that was written survive a power cut, too. Called at most once a second.

        Raises:
            StorageError: The disk did not take it; a power cut now may cost what was written last.
        """
        ...

    def status(self) -> SinkStatus:
        """Say what this sink has written, still owes and lost, and its own trouble."""
        ...

    def close(self) -> None:
        """Hand over what can be handed over within a few seconds, then release everything."""
        ...


class SceneSink(Protocol):
    """Takes pictures with what was found in them. Called in order for each camera, from several threads."""

    name: str

    def show(self, scene: Scene) -> None:
        """Take a scene; must not block longer than its own bounded queue makes it.

        Raises:
            StorageError: It cannot be written; the pipeline reports it and goes on without this sink.
        """
        ...

    def close(self) -> None:
        """Finish files."""
        ...


class StatusSink(Protocol):
    """Tells others how the agent is doing."""

    def report(self, status: AgentStatus) -> None:
        """Take the newest status; returns at once."""
        ...
