"""The signed word on what a target is: The Update Framework, by python-tuf's client.

The anchor is the root that came with the enrolment and is never written here. Everything else is a cache that
may be torn or lost: what does not verify is fetched again. Decides what a device believes, not whether it may
take it: `edge_runtime.update.preflight` does.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Timestamp  # pyright: ignore[reportPrivateImportUsage]
from tuf.api.serialization import DeserializationError
from tuf.ngclient import Updater
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from edge_runtime.atomic import cannot_write
from edge_runtime.bundle import explain
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.fleet import Wanted
from edge_runtime.contract.trust import MAX_LEAP, SIGNED_AT, Place, Release, Revert, place_of
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.address import is_safe
from edge_runtime.update.download import new_client
from edge_runtime.update.metadata_link import Deadlines, Link, linked
from edge_runtime.update.record import Trusted

ANCHOR = "root.json"
"""The first trusted root, as it came with the enrolment."""
SLACK_S = 300.0
"""How far this device's clock and the manager's may be apart without anybody minding."""
_CACHE = "cache"
_LAST_S = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_DEADLINES = Deadlines()
_Fields = TypeVar("_Fields", bound=BaseModel)


class TufMetadata:
    """Metadata of one manager; implements `edge_runtime.update.ports.Metadata`. For one thread.

    Args:
        folder: Has the anchor, `root.json`, and gets `cache/`.
        base_url: Where the manager serves metadata. `https`, or `http` to this machine.
        client: Makes a client a look; the one that `Downloader` takes.
        deadlines: How long a look may take.

    Raises:
        ConfigError: The address is not safe.
    """

    def __init__(
        self,
        folder: Path,
        base_url: str,
        client: Callable[[], httpx.AsyncClient] = new_client,
        *,
        deadlines: Deadlines = _DEADLINES,
    ) -> None:
        if not is_safe(httpx.URL(base_url)):
            raise ConfigError("metadata: address", expected="https://…", got=base_url)
        self._folder = folder
        self._url = base_url
        self._client = client
        self._deadlines = deadlines

    def look_up(self, wanted: Wanted, at_s: float) -> Trusted:
        """Refresh the metadata and find a target in it; may be called again at any time.

        Args:
            wanted: What to find.
            at_s: The time that expiry is held against, in seconds since 1970.

        Raises:
            StorageError: The anchor cannot be read, or the cache cannot be written.
            UpdateFailedError: It is not there, or the metadata is not to be trusted; retryable where nobody
                answered, where the manager has to sign again, and where the clock is behind.
        """
        place = place_of(wanted.target)
        if place is None or (place.kind, place.name) != (wanted.kind, wanted.name):
            raise UpdateFailedError(
                Failure.METADATA_MIX_AND_MATCH,
                f"{wanted.kind} {wanted.name}: the message names a target of something else",
                expected=f"{wanted.kind}/{wanted.name}/…",
                got=wanted.target,
            )
        cache = self._folder / _CACHE
        anchor = _anchor(self._folder / ANCHOR)
        with linked(self._client, self._deadlines) as link:
            look = _Look(link, at_s)
            try:
                _sweep(cache)
                look.begin(cache, self._url, anchor)
                trusted = look.find(wanted.target, place)
                _flush(cache)
            except exceptions.DownloadLengthMismatchError as error:
                raise _refused(Failure.METADATA_MALFORMED, link.last, error) from error
            except exceptions.DownloadError as error:
                raise _refused(Failure.METADATA_UNREACHABLE, link.last, error, retryable=True) from error
            except exceptions.RepositoryError as error:
                raise look.refusal(error) from error
            except OSError as error:
                raise cannot_write(cache, error) from error
        return trusted


@dataclass(slots=True)
class _Look:
    """One look at the repository.

    Args:
        link: Fetches.
        at_s: Expiry is held against it.
        updater: python-tuf's; None: not begun.
        held: What it trusts by now.
    """

    link: Link
    at_s: float
    updater: Updater | None = None
    held: TrustedMetadataSet | None = None

    def begin(self, cache: Path, url: str, anchor: bytes) -> None:
        """Load the anchor, then everything at the top: root, timestamp, snapshot, targets."""
        cache.mkdir(parents=True, exist_ok=True)
        self.updater = Updater(str(cache), url, fetcher=self.link, bootstrap=anchor)
        # There is no public way to give a time; without it expiry would be held against the system's clock,
        # which on a device without a battery may be years behind.
        self.held = self.updater._trusted_set  # pyright: ignore[reportPrivateUsage]
        if not isinstance(self.held.reference_time, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("metadata: this release of tuf keeps time elsewhere", do="Install tuf 7")
        self.held.reference_time = self._now()
        self.updater.refresh()

    def find(self, path: str, place: Place) -> Trusted:
        """Find a target, and what it stands for."""
        time_s = self._proven_s()
        found = self._target(path)
        if place.version is not None:
            return _trusted(found, _fields(Release, found, place), time_s)
        revert = _fields(Revert, found, place)
        before = place_of(revert.of)
        if before is None or before.version is None or (before.kind, before.name) != (place.kind, place.name):
            raise _forged(path, f"a release of {place.kind} {place.name}", revert.of)
        release = self._target(revert.of)
        if (release.length, _sha256(release)) != (found.length, _sha256(found)):
            raise _forged(path, f"{_sha256(release)}, as its family signed", _sha256(found))
        if not before.counter < place.counter <= before.counter + MAX_LEAP:
            raise _forged(path, f"a counter up to {MAX_LEAP:,} above {before.counter}", f"{place.counter}")
        fields = _fields(Release, release, before).model_copy(update={"counter": revert.counter})
        return _trusted(found, fields, time_s)

    def refusal(self, error: exceptions.RepositoryError) -> UpdateFailedError:
        """Say which attack an error of python-tuf is."""
        role = self.link.last or Root.type
        if isinstance(error, DeserializationError):
            return _refused(Failure.METADATA_MALFORMED, role, error)
        if isinstance(error, exceptions.UnsignedMetadataError):
            return _refused(Failure.METADATA_SIGNATURE, role, error)
        if isinstance(error, exceptions.LengthOrHashMismatchError):
            return _refused(Failure.METADATA_MIX_AND_MATCH, role, error)
        if isinstance(error, exceptions.ExpiredMetadataError):
            return self._expired(role, error)
        if isinstance(error, exceptions.BadVersionNumberError):
            return _refused(self._wrong_version(role), role, error)
        # What is left: one role's file in the place of another's, or a snapshot that lost a role.
        code = Failure.METADATA_REPLAY if role == Snapshot.type else Failure.METADATA_MALFORMED
        return _refused(code, role, error)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(min(max(self.at_s, 0.0), _LAST_S), UTC)

    def _proven_s(self) -> float:
        """Say what time has surely passed, by when the timestamp was signed.

        Raises:
            UpdateFailedError: It was signed after what this device takes for now.
        """
        if self.held is None or (text := self.held.timestamp.unrecognized_fields.get(SIGNED_AT)) is None:
            return 0.0
        try:
            signed = datetime.fromisoformat(text)
            signed_s = signed.timestamp() if signed.tzinfo is not None else -1.0
        except (TypeError, ValueError, OverflowError):
            signed_s = -1.0
        if signed_s < 0:
            raise _refused(Failure.METADATA_MALFORMED, Timestamp.type, f"{SIGNED_AT} {text!r}")
        time_s = max(signed_s - SLACK_S, 0.0)
        if self.at_s < time_s:
            raise UpdateFailedError(
                Failure.CLOCK_BEHIND,
                "clock",
                expected=f"after {text}, when the manager signed",
                got=f"{self._now():%Y-%m-%dT%H:%M:%SZ}",
                do="Set the clock; it is tried again by itself",
                retryable=True,
            )
        return time_s

    def _target(self, path: str) -> TargetFile:
        if self.updater is None or self.held is None:
            raise ConfigError("metadata: a look that has not begun")
        delegations = self.held.targets.delegations
        roles = [] if delegations is None else [role for role, _ in delegations.get_roles_for_target(path)]
        signed = all(f"{role}.json" in self.held.snapshot.meta for role in roles)
        found = self.updater.get_targetinfo(path) if signed else None
        if found is None:
            raise UpdateFailedError(
                Failure.TARGET_UNKNOWN,
                path,
                expected=f"a target that {' or '.join(roles) or 'a delegated role'} signed",
                got="none of that path" if roles and signed else "a role that has signed nothing",
                do="Publish it, or deploy something else",
            )
        return found

    def _expired(self, role: str, error: Exception) -> UpdateFailedError:
        """Tell what the manager should have signed again from what people should have."""
        if self.held is not None and self.held.root.is_expired(self.held.reference_time):
            role = Root.type
        if role not in {Timestamp.type, Snapshot.type}:
            return _refused(Failure.METADATA_EXPIRED, role, error)
        return UpdateFailedError(
            Failure.METADATA_FREEZE,
            f"metadata: {role}: nothing newer comes",
            expected=f"one that is valid on {self._now():%Y-%m-%dT%H:%M:%SZ}, which is now by this device",
            got=str(error),
            do="See that the manager runs and that this device's clock is right; it is tried again by itself",
            retryable=True,
        )

    def _wrong_version(self, role: str) -> Failure:
        """Tell an older state from parts of different states."""
        if self.held is None or role in {Root.type, Timestamp.type}:
            return Failure.METADATA_REPLAY
        if role != Snapshot.type:
            return Failure.METADATA_MIX_AND_MATCH
        came = Metadata[Snapshot].from_bytes(self.link.content).signed.version
        promised = self.held.timestamp.snapshot_meta.version
        return Failure.METADATA_REPLAY if came == promised else Failure.METADATA_MIX_AND_MATCH


def _anchor(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{file}: cannot be read", got=error.strerror or str(error), do="Enrol this device again"
        ) from error


def _fields(kind: type[_Fields], target: TargetFile, place: Place) -> _Fields:
    """Read a target's own fields; its counter is the one in its path."""
    try:
        fields = kind.model_validate(target.custom)
    except ValidationError as error:
        raise _refused(Failure.METADATA_MALFORMED, target.path, f"custom: {explain(error)}") from error
    if getattr(fields, "counter", None) != place.counter:
        raise _refused(Failure.METADATA_MALFORMED, target.path, "another counter than in its path")
    return fields


def _trusted(target: TargetFile, release: Release, time_s: float) -> Trusted:
    return Trusted(
        sha256=_sha256(target),
        size_bytes=target.length,
        counter=release.counter,
        tenant=release.tenant,
        profiles=release.profiles,
        unpacked_bytes=release.unpacked_bytes,
        memory_bytes=release.memory_bytes,
        patches=release.patches,
        time_s=time_s,
    )


def _sha256(target: TargetFile) -> str:
    found = target.hashes.get("sha256", "")
    if len(found) != 64 or not set(found) <= set("0123456789abcdef"):
        raise _refused(Failure.METADATA_MALFORMED, target.path, "no SHA-256")
    return found


def _forged(path: str, expected: str, got: str) -> UpdateFailedError:
    """Refuse a way back that leads to anything but what was once released."""
    return UpdateFailedError(
        Failure.METADATA_MIX_AND_MATCH,
        f"{path}: is no way back",
        expected=expected,
        got=got,
        do="Look for who else has the manager's online key",
    )


def _refused(code: Failure, what: str, why: object, *, retryable: bool = False) -> UpdateFailedError:
    return UpdateFailedError(code, f"metadata: {what}", got=str(why), retryable=retryable)


def _sweep(cache: Path) -> None:
    """Remove what python-tuf was writing when the process was killed."""
    for left in cache.glob("tmp*"):
        left.unlink(missing_ok=True)


def _flush(cache: Path) -> None:
    """Bring the cache to the disk: python-tuf only renames, and what was seen once should be remembered."""
    for path in sorted(cache.rglob("*.json")):
        with suppress(FileNotFoundError), path.open("rb+") as file:
            os.fsync(file.fileno())
