"""One consistent state of a repository's metadata, and what it says. Pure: signs and stores nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# pyright: reportPrivateImportUsage=false
from pydantic import ValidationError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from edge_runtime.contract.fleet import Delta, Kind
from edge_runtime.contract.trust import REVERTS, TENANT, Patch, Place, Release, place_of, role_of


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """What signed metadata says of a target.

    Args:
        sha256: Of its file; of a revert: of the release that it goes back to.
        size_bytes: Of the same.
        custom: Its own fields, as `edge_runtime.contract.trust` describes them.
    """

    sha256: str
    size_bytes: int
    custom: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """Everything that one timestamp vouches for.

    Args:
        stamp: The file of the timestamp.
        root: The newest root's file.
        roots: What it says.
        timestamp: Role.
        snapshot: Role.
        targets: Role.
        roles: The delegated ones that have signed something.
    """

    stamp: bytes
    root: bytes
    roots: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    roles: Mapping[str, Metadata[Targets]]

    @property
    def tenant(self) -> str:
        """Whose fleet it is."""
        return str(self.roots.signed.unrecognized_fields.get(TENANT, ""))

    def signed_by(self, role: str) -> Targets | None:
        """Give what a delegated role signed; None: nothing yet."""
        found = self.roles.get(role)
        return None if found is None else found.signed

    def file(self, path: str) -> TargetFile | None:
        """Find a target in the role that may sign it; None: that has not."""
        place = place_of(path)
        if path.startswith(f"{REVERTS}/"):
            role = REVERTS
        elif place is not None:
            role = role_of(place.kind, place.name)
        else:
            role = ".".join(path.split("/")[:2])
        found = self.roles.get(role)
        return None if found is None else found.signed.targets.get(path)

    def info(self, path: str) -> TargetInfo | None:
        """Say what is signed of a target; None: nothing."""
        found = self.file(path)
        return None if found is None else TargetInfo(found.hashes["sha256"], found.length, found.custom or {})

    def releases(self, kind: Kind, name: str) -> list[tuple[str, Release]]:
        """List a family's releases, by counter."""
        role = self.roles.get(role_of(kind, name))
        return [] if role is None else releases(role.signed)

    def deltas(self, path: str) -> tuple[Delta, ...]:
        """List the patches that lead to a release, as a device is told of them."""
        place, found = place_of(path), self.file(path)
        if place is None or place.version is None or found is None:
            return ()
        signed = set(Release.model_validate(found.custom).patches)
        targets = self.roles[role_of(place.kind, place.name)].signed.targets
        return tuple(
            Delta(
                base_sha256=Patch.model_validate(each.custom).base,
                target=each.path,
                size_bytes=each.length,
                sha256=each.hashes["sha256"],
            )
            for each in targets.values()
            if each.hashes["sha256"] in signed and place_of(each.path) is None
        )

    def counters(self, kind: Kind, name: str) -> Iterator[int]:
        """Give the counters of a family that are taken, by releases and by reverts."""
        for _, release in self.releases(kind, name):
            yield release.counter
        for path in self.roles[REVERTS].signed.targets:
            place = place_of(path)
            if place is not None and (place.kind, place.name) == (kind, name):
                yield place.counter


def releases(role: Targets) -> list[tuple[str, Release]]:
    """List the releases of a family's role, by counter; what is malformed is left out."""
    found: list[tuple[str, Release]] = []
    for target in role.targets.values():
        release = release_of(target)
        if release is not None:
            found.append((target.path, release))
    return sorted(found, key=lambda each: each[1].counter)


def release_of(target: TargetFile) -> Release | None:
    """Read a target as a release; None: it is none, or malformed."""
    place: Place | None = place_of(target.path)
    try:
        release = Release.model_validate(target.custom)
    except ValidationError:
        return None
    same = place is not None and (place.counter, place.version) == (release.counter, release.version)
    return release if same and "sha256" in target.hashes else None
