"""The newest metadata files of a repository, as anybody can read them. Believes them: whoever asks checks."""

from typing import Protocol

# pyright: reportPrivateImportUsage=false
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from cloud_fallback.fleet.trust.roles import read
from edge_runtime.contract.errors import RemoteError
from edge_runtime.contract.trust import ROOT_VERSION


class Readable(Protocol):
    """A repository, from outside."""

    def read(self, file: str) -> bytes | None:
        """Read a file of signed metadata; None: there is none of that name."""
        ...


class NewestFiles:
    """One state, found by its timestamp.

    Args:
        repository: Where it is.

    Raises:
        RemoteError: It has no metadata.
        UpdateFailedError: What it has is malformed.
    """

    def __init__(self, repository: Readable) -> None:
        self._repository = repository
        self._timestamp = read(self._file("timestamp.json"), Timestamp, "timestamp").signed
        name = f"{self._timestamp.snapshot_meta.version}.snapshot.json"
        self._snapshot = read(self._file(name), Snapshot, "snapshot").signed

    def needed(self, role: str) -> bytes:
        """Give the file of a role.

        Raises:
            RemoteError: It has signed nothing.
        """
        if role == "root":
            return self._file(f"{self._timestamp.unrecognized_fields.get(ROOT_VERSION)}.root.json")
        listing = self._snapshot.meta.get(f"{role}.json")
        return self._file(f"{role}.json" if listing is None else f"{listing.version}.{role}.json")

    def targets(self, role: str) -> Metadata[Targets] | None:
        """Read a delegated role; None: it has signed nothing."""
        return read(self.needed(role), Targets, role) if f"{role}.json" in self._snapshot.meta else None

    def _file(self, name: str) -> bytes:
        found = self._repository.read(name)
        if found is None:
            raise RemoteError(
                f"manager: has no {name}",
                retryable=True,
                do="Publish into a fleet that was made with: edge-runtime fleet init",
            )
        return found
