"""What an updater needs from the world: trust, bytes, a trial, the clock. Implements none of it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from edge_runtime.contract.fleet import Kind, Wanted
from edge_runtime.update.health import Evidence
from edge_runtime.update.record import Trusted
from edge_runtime.update.store import Part


class Metadata(Protocol):
    """The signed word on what a target is."""

    def look_up(self, wanted: Wanted, at_s: float) -> Trusted:
        """Refresh the metadata and find a target in it; may be called again at any time.

        Args:
            wanted: What to find.
            at_s: The time that expiry is held against, in seconds since 1970.

        Raises:
            UpdateFailedError: It is not there, or the metadata is not to be trusted; retryable where nobody
                answered.
        """
        ...


class Artifacts(Protocol):
    """Bytes, and what is packed in them."""

    def fetch(self, target: str, part: Part, *, whole_again: bool, stop: Callable[[], bool]) -> bool:
        """Fetch what is missing of a part, as `Downloader.fetch` does."""
        ...

    def unpack(self, wanted: Wanted, file: Path, folder: Path) -> None:
        """Make a slot's folder from a genuine file, whole or not at all, and check what is in it.

        Args:
            wanted: What the file is.
            file: Whole, with the right digest.
            folder: To be made; it is not there.

        Raises:
            StorageError: The disk is full, read-only or broken.
            UpdateFailedError: What is in it is unsafe, damaged, not signed or not valid.
        """
        ...


class Trial(Protocol):
    """The running agent, as far as an update touches it."""

    def run(
        self, wanted: Wanted, active: Path | None, candidate: Path, stop: Callable[[], bool]
    ) -> Evidence | None:
        """Run a candidate beside what goes on answering, and measure both.

        Args:
            wanted: What the candidate is, and what it has to show.
            active: The folder of the active version; None: there is none.
            candidate: The folder of the new one.
            stop: Asked often; where it says so, the trial ends without evidence.

        Returns:
            What was measured; None: it was stopped.

        Raises:
            UpdateFailedError: It cannot be tried: it does not open.
        """
        ...

    def adopt(self, kind: Kind, name: str, folder: Path) -> None:
        """Answer with a committed version from now on; harmless where that is done already.

        Raises:
            EdgeRuntimeError: It does not open now; what answered goes on, and it is tried again.
        """
        ...

    def restore(self, kind: Kind, name: str) -> None:
        """Answer with what the device was installed with; harmless where that is done already.

        Called once no slot of the name has a version, and before its files are removed.

        Raises:
            EdgeRuntimeError: It does not open; what answered goes on.
        """
        ...

    def dismiss(self, kind: Kind, name: str) -> None:
        """Let go of a candidate; harmless where there is none."""
        ...


class Clock(Protocol):
    """Time, which may be wrong."""

    def now_s(self) -> float:
        """Seconds since 1970, as far as this device knows."""
        ...

    def steady_s(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def local(self) -> datetime:
        """What the clock on the store's wall shows."""
        ...


class Machine(Protocol):
    """What is free on this device."""

    def free_bytes(self, folder: Path) -> int:
        """Bytes free on the disk of a folder."""
        ...

    def free_memory_bytes(self) -> int:
        """Bytes of memory that can be taken without harm."""
        ...
