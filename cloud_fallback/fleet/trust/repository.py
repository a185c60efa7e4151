"""The manager's repository: takes what offline keys signed, signs what is the online key's, serves all of it.

Holds no offline key, so it can neither make a release nor change who may. Several replicas may stand on one
store: a change is kept only by who saw the newest state, and whoever was slower begins again from it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from cloud_fallback.fleet.trust.acceptance import (
    check_family,
    check_newer,
    check_root,
    check_targets,
)
from cloud_fallback.fleet.trust.roles import (
    Lifetimes,
    at,
    check_fresh,
    check_signed,
    chosen,
    listed,
    next_version,
    read,
    refused,
    seal,
    text,
)
from cloud_fallback.fleet.trust.state import State, TargetInfo, release_of
from cloud_fallback.fleet.trust.store import STAMP, MetadataStore
from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import Delta, Kind
from edge_runtime.contract.trust import (
    MAX_LEAP,
    REVERTS,
    ROOT_VERSION,
    SIGNED_AT,
    Release,
    Revert,
    family_of,
    place_of,
    revert_path,
)
from edge_runtime.contract.update import Failure

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%-]{0,200}\.json")
_ATTEMPTS = 20
_LIFETIMES = Lifetimes()


class Repository:
    """Signed metadata of one fleet. Any thread may call.

    Args:
        store: Where its files are.
        online: The manager's keys; several only while one takes the place of another.
        lifetimes: How long what it signs is valid.
    """

    def __init__(
        self, store: MetadataStore, online: Sequence[Signer], *, lifetimes: Lifetimes = _LIFETIMES
    ) -> None:
        self._store = store
        self._online = online
        self._lifetimes = lifetimes
        self._seen: State | None = None

    def begin(self, root: bytes, targets: bytes, now_s: float) -> None:
        """Make the first state. Again with the same root it does nothing.

        Args:
            root: The first root, signed.
            targets: The first targets, signed.
            now_s: Seconds since 1970.

        Raises:
            ConfigError: The online key is not the one that they name.
            StorageError: Another root is there already, or the store cannot be written.
            UpdateFailedError: They are not signed as they should be.
        """
        roots, first = read(root, Root, "root"), read(targets, Targets, "targets")
        if self._store.get(STAMP) is None:
            check_signed(roots, roots.signed, "root")
            check_root(roots.signed)
            check_signed(first, roots.signed, "targets")
            check_targets(first.signed)
            reverts = self._sealed_reverts({}, first.signed, 0, now_s)
            files = {"targets": (targets, first.signed.version), REVERTS: reverts}
            if self._write(None, (root, roots.signed), files, now_s):
                return
        if self._store.get(f"{roots.signed.version}.root.json") != root:
            raise StorageError("metadata: has begun with another root", do="Use an empty store")

    def accept(self, role: str, signed: bytes, now_s: float) -> int:
        """Take a new version of what offline keys sign. The same one again changes nothing.

        Args:
            role: `root`, `targets`, or a family's.
            signed: Its file.
            now_s: Seconds since 1970.

        Returns:
            Its version.

        Raises:
            ConfigError: The manager does not have the online key that it names.
            StorageError: The store cannot be read or written.
            UpdateFailedError: It is malformed, not signed, not newer, expired, or not the manager's to take.
        """
        if role == "root":
            return self._accept_root(signed, now_s)
        family = family_of(role)
        if role != "targets" and family is None:
            raise refused(Failure.TARGET_UNKNOWN, f"metadata {role}", "root, targets or a family", role)
        metadata = read(signed, Targets, f"metadata {role}")
        new = metadata.signed

        def change(state: State) -> "_Change | None":
            held = state.targets.signed if family is None else state.signed_by(role)
            if new == held:
                return None
            check_signed(metadata, state.roots.signed if family is None else state.targets.signed, role)
            check_fresh(metadata, role, now_s)
            check_newer(role, new, held)
            files = {role: (signed, new.version)}
            if family is None:
                check_targets(new)
                before = state.roles[REVERTS].signed
                files[REVERTS] = self._sealed_reverts(before.targets, new, before.version, now_s)
            else:
                check_family(new, held, family, state)
            return None, files

        self._change(change, now_s)
        return new.version

    def refresh(self, now_s: float, *, anyway: bool = False) -> bool:
        """Sign what is the online key's again, at half of its time; harmless at any time, from any replica.

        Args:
            now_s: Seconds since 1970.
            anyway: Sign whether it is time or not, as after the store was restored from a backup: by then
                devices have seen newer versions.

        Returns:
            Whether anything was signed.

        Raises:
            ConfigError: The online key is not the one that the metadata names.
            StorageError: The store cannot be read or written.
        """

        def change(state: State) -> "_Change | None":
            limits = (
                (state.timestamp.signed.expires, self._lifetimes.timestamp_s),
                (state.snapshot.signed.expires, self._lifetimes.online_s),
            )
            due = any(expires.timestamp() - now_s < whole_s / 2 for expires, whole_s in limits)
            if not (due or (anyway and state is first)):
                return None
            reverts, targets = state.roles[REVERTS].signed, state.targets.signed
            return None, {REVERTS: self._sealed_reverts(reverts.targets, targets, reverts.version, now_s)}

        first = self._state()
        return self._change(change, now_s)

    def revert(self, kind: Kind, name: str, of: str, counter: int, now_s: float) -> str:
        """Sign a way back to an older release. The same one again changes nothing.

        Args:
            kind: Of the family.
            name: Of the family.
            of: Path of the release to go back to.
            counter: Above every one that was taken; `next_counter` gives one.
            now_s: Seconds since 1970.

        Returns:
            The revert's own path.

        Raises:
            ConfigError: The online key is not the one that the metadata names.
            StorageError: The store cannot be read or written.
            UpdateFailedError: There is no such release, or the counter is taken.
        """
        path = revert_path(kind, name, counter)

        def change(state: State) -> "_Change | None":
            reverts = state.roles[REVERTS].signed
            there = reverts.targets.get(path)
            if there is not None and there.custom == Revert(counter=counter, of=of).model_dump():
                return None
            place, release = place_of(of), state.file(of)
            mine = place is not None and (place.kind, place.name) == (kind, name) and place.version
            if release is None or place is None or not mine:
                raise refused(Failure.TARGET_UNKNOWN, f"revert of {name}", f"a release of {kind} {name}", of)
            highest = max(state.counters(kind, name))
            if not highest < counter <= place.counter + MAX_LEAP:
                raise refused(
                    Failure.DOWNGRADE,
                    f"revert of {name}: counter",
                    f"above {highest}, and at most {MAX_LEAP:,} above {place.counter}",
                    f"{counter}",
                )
            custom = Revert(counter=counter, of=of).model_dump()
            target = TargetFile(release.length, dict(release.hashes), path, {"custom": custom})
            targets = {**reverts.targets, path: target}
            return None, {
                REVERTS: self._sealed_reverts(targets, state.targets.signed, reverts.version, now_s)
            }

        self._change(change, now_s)
        return path

    def target(self, path: str) -> TargetInfo | None:
        """Say what is signed of a target; None: nothing.

        Raises:
            StorageError: The store cannot be read, or nothing has begun in it.
        """
        return self._state().info(path)

    def release(self, path: str) -> Release | None:
        """Give the fields of a release; None: nothing of that path is signed, or it is no release."""
        found = self._state().file(path)
        return None if found is None else release_of(found)

    def deltas(self, path: str) -> tuple[Delta, ...]:
        """List the patches that lead to a release, as a device is told of them."""
        return self._state().deltas(path)

    def next_counter(self, kind: Kind, name: str) -> int:
        """Give the counter after all that a family's releases and reverts have taken."""
        return max(self._state().counters(kind, name), default=0) + 1

    def read(self, file: str) -> bytes | None:
        """Read a file as devices ask for it; None: there is none of that name.

        Raises:
            StorageError: The store cannot be read.
        """
        return self._store.get(file) if _FILE.fullmatch(file) else None

    def current(self, role: str) -> bytes | None:
        """Read the newest file of a role; None: it has signed nothing."""
        state = self._state()
        if role == "root":
            return state.root
        if role == "timestamp":
            return state.stamp
        if role == "snapshot":
            return self._store.get(f"{state.snapshot.signed.version}.snapshot.json")
        listing = state.snapshot.signed.meta.get(f"{role}.json")
        return None if listing is None else self._store.get(f"{listing.version}.{role}.json")

    def root(self) -> bytes:
        """Give the newest root, for a device that enrols.

        Raises:
            StorageError: The store cannot be read, or nothing has begun in it.
        """
        return self._state().root

    @property
    def tenant(self) -> str:
        """Whose fleet it is."""
        return self._state().tenant

    def ends(self) -> dict[str, float]:
        """Say until when each role is valid, in seconds since 1970."""
        state = self._state()
        roles: dict[str, Root | Targets | Snapshot | Timestamp] = {
            "root": state.roots.signed,
            "targets": state.targets.signed,
            "snapshot": state.snapshot.signed,
            "timestamp": state.timestamp.signed,
            **{role: each.signed for role, each in state.roles.items()},
        }
        return {role: signed.expires.timestamp() for role, signed in roles.items()}

    def _accept_root(self, signed: bytes, now_s: float) -> int:
        metadata = read(signed, Root, "metadata root")

        def change(state: State) -> "_Change | None":
            before = state.roots.signed
            if metadata.signed == before:
                return None
            check_signed(metadata, before, "root")
            check_signed(metadata, metadata.signed, "root")
            check_fresh(metadata, "root", now_s)
            check_root(metadata.signed, before)
            check_signed(state.targets, metadata.signed, "targets")
            return (signed, metadata.signed), {}

        self._change(change, now_s)
        return metadata.signed.version

    def _sealed_reverts(
        self, targets: Mapping[str, TargetFile], delegator: Targets, before: int, now_s: float
    ) -> "_File":
        version = next_version(before, now_s)
        reverts = Targets(
            version=version, expires=at(now_s + self._lifetimes.online_s), targets=deepcopy(dict(targets))
        )
        return seal(Metadata(reverts), chosen(self._online, delegator, REVERTS)), version

    def _change(self, change: "Callable[[State], _Change | None]", now_s: float) -> bool:
        """Apply a change to the newest state, until nobody was quicker."""
        for _ in range(_ATTEMPTS):
            state = self._state()
            made = change(state)
            if made is None:
                return False
            root, files = made
            if self._write(state, root or (state.root, state.roots.signed), files, now_s):
                return True
        raise StorageError(
            "metadata: is being written by others all the time",
            got=f"{_ATTEMPTS} attempts",
            do="Try again; see that no more than a few managers share this store",
        )

    def _write(
        self, state: State | None, root: tuple[bytes, Root], files: "Mapping[str, _File]", now_s: float
    ) -> bool:
        """Sign a snapshot and a timestamp over new files, and keep all of them or none."""
        data, roots = root
        below, snapshot_meta = self._sealed_snapshot(state, roots, files, now_s)
        timestamp = Timestamp(
            version=next_version(0 if state is None else state.timestamp.signed.version, now_s),
            expires=at(now_s + self._lifetimes.timestamp_s),
            snapshot_meta=snapshot_meta,
            unrecognized_fields={SIGNED_AT: text(now_s), ROOT_VERSION: roots.version},
        )
        return self._store.put(
            {
                **{f"{version}.{role}.json": content for role, (content, version) in files.items()},
                f"{roots.version}.root.json": data,
                **below,
                STAMP: seal(Metadata(timestamp), chosen(self._online, roots, "timestamp")),
            },
            None if state is None else state.stamp,
        )

    def _sealed_snapshot(
        self, state: State | None, roots: Root, files: "Mapping[str, _File]", now_s: float
    ) -> tuple[dict[str, bytes], MetaFile]:
        meta = {} if state is None else dict(state.snapshot.signed.meta)
        meta |= {f"{role}.json": listed(content, version) for role, (content, version) in files.items()}
        version = next_version(0 if state is None else state.snapshot.signed.version, now_s)
        snapshot = Snapshot(version=version, expires=at(now_s + self._lifetimes.online_s), meta=meta)
        content = seal(Metadata(snapshot), chosen(self._online, roots, "snapshot"))
        return {f"{version}.snapshot.json": content}, listed(content, version)

    def _state(self) -> State:
        """Give the newest state; what has not changed is not read again."""
        stamp, seen = self._store.get(STAMP), self._seen
        if stamp is None:
            raise StorageError("metadata: there is none yet", do="Begin: edge-runtime fleet init")
        if seen is not None and seen.stamp == stamp:
            return seen
        timestamp = read(stamp, Timestamp, "timestamp")
        snapshot = read(
            self._file(f"{timestamp.signed.snapshot_meta.version}.snapshot.json"), Snapshot, "snapshot"
        )
        root = self._file(f"{timestamp.signed.unrecognized_fields.get(ROOT_VERSION)}.root.json")
        roles: dict[str, Metadata[Targets]] = {}
        for file, listing in snapshot.signed.meta.items():
            role = file.removesuffix(".json")
            known = None if seen is None else seen.snapshot.signed.meta.get(file)
            if seen is not None and known == listing:
                roles[role] = seen.targets if role == "targets" else seen.roles[role]
            else:
                roles[role] = read(self._file(f"{listing.version}.{file}"), Targets, role)
        targets = roles.pop("targets")
        self._seen = State(stamp, root, read(root, Root, "root"), timestamp, snapshot, targets, roles)
        return self._seen

    def _file(self, name: str) -> bytes:
        found = self._store.get(name)
        if found is None:
            raise StorageError(f"metadata: {name} is missing", do="Restore the store from a backup")
        return found


_File = tuple[bytes, int]
"""A role's file and its version."""
_Change = tuple[tuple[bytes, Root] | None, dict[str, _File]]
"""A new root, and new files of roles."""
