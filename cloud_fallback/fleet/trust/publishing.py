"""Publishing: a counter, patches from what devices have, a signature; then bytes, metadata and release go up.

In this order, and each step may be done again: what is interrupted is published by publishing it again.
Believes a manager nothing: releases that the family's key did not sign are not signed again here. Knows no
HTTP: the manager is behind a port.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Metadata, Root, TargetFile, Targets
from tuf.api.metadata import Delegations as Delegated

from cloud_fallback.fleet.trust.newest import NewestFiles, Readable
from cloud_fallback.fleet.trust.packing import Packed
from cloud_fallback.fleet.trust.roles import (
    Lifetimes,
    at,
    check_signed,
    next_version,
    read,
    seal,
)
from cloud_fallback.fleet.trust.state import release_of, releases
from edge_runtime.contract.errors import InputError, RemoteError
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.trust import (
    MAX_LEAP,
    REVERTS,
    TENANT,
    Patch,
    Release,
    patch_path,
    place_of,
    release_path,
    role_of,
)
from edge_runtime.contract.update import UpdateFailedError
from edge_runtime.update.delta import MAX_BYTES, MIN_BASE_BYTES, make_delta

_ATTEMPTS = 4
_LIFETIMES = Lifetimes()


class Manager(Readable, Protocol):
    """What publishing needs of a manager. Everything but `read` raises EdgeRuntimeError where it fails."""

    def fetch(self, target: str, file: Path) -> None:
        """Fetch the bytes of a target into a file; nobody has compared their digest."""
        ...

    def upload(self, target: str, file: Path, sha256: str) -> None:
        """Give the bytes of a target; the same ones again are fine."""
        ...

    def sign_off(self, role: str, signed: bytes) -> bool:
        """Give a role's new metadata; False: somebody else was quicker, so begin again."""
        ...

    def announce(self, target: str) -> None:
        """Make a release of what is there now; the same one again is fine."""
        ...

    def highest(self, kind: Kind, name: str) -> int:
        """Give the highest counter that a family's releases have had; 0: there was none."""
        ...

    def withdrawn(self, kind: Kind, name: str) -> frozenset[str]:
        """Give the versions of a family that were withdrawn."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How something is published.

    Args:
        patches: From how many releases before, at most.
        pays: A patch that is not smaller than this share of the whole is thrown away.
        formerly: Public keys that the family had before, while it changes to others.
        lifetimes: How long the family's metadata is valid.
    """

    patches: int = 3
    pays: float = 0.7
    formerly: tuple[Key, ...] = ()
    lifetimes: Lifetimes = _LIFETIMES


@dataclass(frozen=True, slots=True)
class MadePatch:
    """A patch that pays.

    Args:
        target: Its path.
        base_sha256: Of the file that it starts from.
        base_version: Of the release that it starts from.
        sha256: Of the patch.
        size_bytes: Of the patch.
    """

    target: str
    base_sha256: str
    base_version: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """What was published.

    Args:
        target: Path of the whole file.
        kind: Of the release.
        name: Of the release.
        version: Of the release.
        counter: Of the release.
        sha256: Of the whole file.
        size_bytes: Of the whole file.
        patches: From releases before, those that pay.
        again: Its metadata was there already.
    """

    target: str
    kind: str
    name: str
    version: str
    counter: int
    sha256: str
    size_bytes: int
    patches: tuple[MadePatch, ...]
    again: bool


def publish(
    packed: Packed,
    signers: Sequence[Signer],
    manager: Manager,
    now_s: float,
    *,
    work: Path,
    options: Options = Options(),
) -> Published:
    """Publish.

    Args:
        packed: What.
        signers: The family's keys, as many as its threshold.
        manager: Where.
        now_s: Seconds since 1970.
        work: Folder that keeps the files of earlier releases, which patches start from.
        options: How.

    Raises:
        EdgeRuntimeError: The manager refuses it or is not there, the family's metadata there is not signed by
            these keys, or this version is published with other bytes or was withdrawn.
    """
    if packed.version in manager.withdrawn(packed.kind, packed.name):
        what = f"{packed.name} {packed.version}: was withdrawn"
        raise InputError(what, do="Publish what is good as a new version")
    run = _Run(packed, signers, manager, now_s, work, options)
    for _ in range(_ATTEMPTS):
        view = run.look()
        known = next((each for each in view.role.targets.values() if _is(each, packed)), None)
        done = run.add(view) if known is None else run.finish(view, known)
        if done is not None:
            return done
    raise RemoteError(
        f"{packed.name}: others publish it all the time",
        retryable=True,
        got=f"{_ATTEMPTS} attempts",
        do="Publish one version of a model at a time",
    )


@dataclass(frozen=True, slots=True)
class _View:
    """What the manager has of a family.

    Args:
        tenant: Whose fleet it is.
        role: The family's metadata, signed by its keys; empty where there is none.
        taken: Highest counter of its releases and reverts.
    """

    tenant: str
    role: Targets
    taken: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Publishing something; the arguments are those of `publish`."""

    packed: Packed
    signers: Sequence[Signer]
    manager: Manager
    now_s: float
    work: Path
    options: Options

    def look(self) -> _View:
        """See what is there."""
        kind, name = self.packed.kind, self.packed.name
        files = NewestFiles(self.manager)
        root = read(files.needed("root"), Root, "root").signed
        role = role_of(kind, name)
        metadata = files.targets(role)
        if metadata is not None:
            keys = [*(each.public_key for each in self.signers), *self.options.formerly]
            check_mine(metadata, role, keys)
        mine = Targets(version=1) if metadata is None else metadata.signed
        reverts = files.targets(REVERTS)
        back = map(place_of, () if reverts is None else reverts.signed.targets)
        own = max((release.counter for _, release in releases(mine)), default=0)
        taken = max(
            [
                own,
                self.manager.highest(kind, name),
                *(each.counter for each in back if each and (each.kind, each.name) == (kind, name)),
            ]
        )
        if taken > own + MAX_LEAP:  # signing above it could leave no counter to go on with
            raise RemoteError(
                f"{name}: the manager says that its counters are at {taken:,}",
                retryable=False,
                expected=f"at most {MAX_LEAP:,} above the last release's {own:,}",
                do="Look for who else has the manager's online key",
            )
        return _View(str(root.unrecognized_fields.get(TENANT)), mine, taken)

    def finish(self, view: _View, known: TargetFile) -> Published:
        """Do again what may not have been done: the last two steps, and the bytes in case they were lost."""
        release = Release.model_validate(known.custom)
        before = {view.role.targets[path].hashes["sha256"]: path for path, _ in releases(view.role)}
        versions = {
            view.role.targets[path].hashes["sha256"]: each.version for path, each in releases(view.role)
        }
        patches = [
            (each, Patch.model_validate(each.custom).base)
            for each in view.role.targets.values()
            if place_of(each.path) is None and each.hashes["sha256"] in release.patches
        ]
        made = [
            MadePatch(each.path, base, versions.get(base, ""), each.hashes["sha256"], each.length)
            for each, base in patches
        ]
        for patch in made if self.options.patches else ():
            if patch.base_sha256 in before:
                self._upload_again(patch, view.role.targets[before[patch.base_sha256]])
        self.manager.upload(known.path, self.packed.file, self.packed.sha256)
        self.manager.announce(known.path)
        return self._published(known.path, release.counter, made, again=True)

    def _upload_again(self, patch: MadePatch, base: TargetFile) -> None:
        """Bring a patch back that the manager may have lost, where the same bytes come out again."""
        file = self.work / "patches" / f"{patch.sha256}.zst"
        make_delta(self._base(base), self.packed.file, file)
        if _sha256(file) == patch.sha256:
            self.manager.upload(patch.target, file, patch.sha256)
        file.unlink()

    def add(self, view: _View) -> Published | None:
        """Publish a release that is not there yet; None: somebody else was quicker."""
        packed, counter = self.packed, view.taken + 1
        path = release_path(packed.kind, packed.name, counter, packed.version)
        made = self._patches(path, view.role)
        for patch, file in made:
            self.manager.upload(patch.target, file, patch.sha256)
            file.unlink()
        self.manager.upload(path, packed.file, packed.sha256)
        release = Release(
            counter=counter,
            tenant=view.tenant,
            profiles=packed.profiles,
            unpacked_bytes=packed.unpacked_bytes,
            memory_bytes=packed.memory_bytes,
            version=packed.version,
            patches=tuple(patch.sha256 for patch, _ in made),
        )
        new = dict(view.role.targets)
        new[path] = _target(path, packed.sha256, packed.size_bytes, release.model_dump(mode="json"))
        for patch, _ in made:
            fields = Patch(base=patch.base_sha256).model_dump()
            new[patch.target] = _target(patch.target, patch.sha256, patch.size_bytes, fields)
        role = Targets(
            version=next_version(view.role.version, self.now_s),
            expires=at(self.now_s + self.options.lifetimes.family_s),
            targets=new,
        )
        signed = seal(Metadata(role), self.signers)
        if not self.manager.sign_off(role_of(packed.kind, packed.name), signed):
            return None
        self.manager.announce(path)
        return self._published(path, counter, [patch for patch, _ in made], again=False)

    def _patches(self, path: str, role: Targets) -> list[tuple[MadePatch, Path]]:
        """Make patches from the last releases, and keep those that pay."""
        packed, options = self.packed, self.options
        found: list[tuple[MadePatch, Path]] = []
        last = releases(role)[-options.patches :] if options.patches else []
        for before, release in reversed(last):
            target = role.targets[before]
            fits = target.length >= MIN_BASE_BYTES and target.length + packed.size_bytes <= MAX_BYTES
            if not fits or packed.size_bytes == 0:
                continue
            base_sha256 = target.hashes["sha256"]
            file = self.work / "patches" / f"{base_sha256[:16]}-{packed.sha256[:16]}.zst"
            size_bytes = make_delta(self._base(target), packed.file, file)
            if size_bytes >= options.pays * packed.size_bytes:
                file.unlink()
                continue
            place = patch_path(path, base_sha256)
            found.append((MadePatch(place, base_sha256, release.version, _sha256(file), size_bytes), file))
        return found

    def _base(self, target: TargetFile) -> Path:
        """Give the file of an earlier release; fetched once, and genuine."""
        sha256 = target.hashes["sha256"]
        file = self.work / "bases" / sha256
        if file.exists() and _sha256(file) == sha256:
            return file
        part = file.with_name(f".{sha256}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        self.manager.fetch(target.path, part)
        got = _sha256(part)
        if got != sha256:
            part.unlink()
            raise RemoteError(
                f"{target.path}: the manager has other bytes than were signed",
                retryable=False,
                expected=sha256,
                got=got,
                do="Publish without patches (--patches 0), and look at the manager's disk",
            )
        return part.replace(file)

    def _published(self, path: str, counter: int, patches: Sequence[MadePatch], *, again: bool) -> Published:
        return Published(
            target=path,
            kind=self.packed.kind,
            name=self.packed.name,
            version=self.packed.version,
            counter=counter,
            sha256=self.packed.sha256,
            size_bytes=self.packed.size_bytes,
            patches=tuple(patches),
            again=again,
        )


def check_mine(metadata: Metadata[Targets], role: str, keys: Sequence[Key]) -> None:
    """Refuse to sign releases again that somebody else signed.

    Raises:
        UpdateFailedError: None of the keys signed them.
    """
    known = {key.keyid: key for key in keys}
    mine = DelegatedRole(role, list(known), 1, terminating=True, paths=["*"])
    delegator = Targets(delegations=Delegated(keys=known, roles={role: mine}))
    try:
        check_signed(metadata, delegator, role)
    except UpdateFailedError as error:
        raise UpdateFailedError(
            error.code,
            error.problem,
            expected=error.expected,
            got=error.got,
            do="Give the key that signed the last release: --key, or --formerly while the keys change",
        ) from error


def _is(target: TargetFile, packed: Packed) -> bool:
    """Say whether a target is what is to be published, and refuse other bytes under the same version."""
    release = release_of(target)
    if release is None or release.version != packed.version:
        return False
    if target.hashes["sha256"] != packed.sha256:
        raise InputError(
            f"{packed.name} {packed.version}: is published already, with other bytes",
            expected=target.hashes["sha256"],
            got=packed.sha256,
            do="Give what changed a new version",
        )
    return True


def _target(path: str, sha256: str, size_bytes: int, custom: object) -> TargetFile:
    return TargetFile(size_bytes, {"sha256": sha256}, path, {"custom": custom})


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
