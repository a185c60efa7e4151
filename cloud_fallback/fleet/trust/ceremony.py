"""What people do with offline keys: the first root, its rotation, delegating a family. Sends nothing.

Each function gives a file; where several people have to sign, it goes from one to the next (`add_signature`).
"""

# pyright: reportPrivateImportUsage=false
# python-tuf and securesystemslib document these names where they are imported from, but mark none as public.

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Role,
    Root,
    Targets,
)
from tuf.api.serialization import DeserializationError

from cloud_fallback.fleet.trust.keys import load_signer, new_key
from cloud_fallback.fleet.trust.roles import COMPACT, Lifetimes, at, next_version, read, refused, seal
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.trust import REVERTS, TENANT, role_of
from edge_runtime.contract.update import Failure

_LIFETIMES = Lifetimes()


@dataclass(frozen=True, slots=True)
class First:
    """The beginning of a fleet's trust.

    Args:
        root: The first root, signed.
        targets: The first targets, signed: it delegates `reverts` to the online key.
        root_keys: Secret halves; they belong offline.
        targets_key: Secret half; it belongs offline.
        online: Secret half of the manager's own key.
    """

    root: bytes
    targets: bytes
    root_keys: tuple[Path, ...]
    targets_key: Path
    online: Path


def make_first(folder: Path, tenant: str, now_s: float, *, root_keys: int = 1, threshold: int = 1) -> First:
    """Make all keys of a new fleet and its first root.

    Args:
        folder: For the keys: `root-1.pem` …, `targets.pem`, `online.pem`, each with a `.pub`.
        tenant: Whose fleet it is.
        now_s: Seconds since 1970.
        root_keys: How many root keys.
        threshold: How many of them have to sign a root.

    Raises:
        ConfigError: The threshold is above the number of keys.
        StorageError: A key is there already, or the disk is full, read-only or broken.
    """
    roots = tuple(folder / f"root-{number}.pem" for number in range(1, root_keys + 1))
    targets, online = folder / "targets.pem", folder / "online.pem"
    public = {path: new_key(path) for path in (*roots, targets, online)}
    root = first_root(
        tenant,
        [public[path] for path in roots],
        threshold,
        targets=[public[targets]],
        online=[public[online]],
        now_s=now_s,
    )
    first = first_targets([public[online]], now_s)
    return First(
        root=seal(root, [load_signer(path) for path in roots]),
        targets=seal(first, [load_signer(targets)]),
        root_keys=roots,
        targets_key=targets,
        online=online,
    )


def first_root(
    tenant: str,
    keys: Sequence[Key],
    threshold: int,
    *,
    targets: Sequence[Key],
    online: Sequence[Key],
    now_s: float,
    lifetimes: Lifetimes = _LIFETIMES,
) -> Metadata[Root]:
    """Make the first root; nobody has signed it yet.

    Args:
        tenant: Whose fleet it is.
        keys: Root keys.
        threshold: How many of them have to sign a root.
        targets: Keys that delegate families; one of them signs.
        online: Keys of the manager for snapshot and timestamp; one of them signs.
        now_s: Seconds since 1970.
        lifetimes: How long it is valid.

    Raises:
        ConfigError: The threshold is above the number of keys, or a key is missing or given twice.
    """
    root = Root(expires=at(now_s + lifetimes.root_s), unrecognized_fields={TENANT: tenant})
    metadata = Metadata(root)
    _set_keys(root, Root.type, keys, threshold)
    _set_keys(root, Targets.type, targets, 1)
    for role in ("snapshot", "timestamp"):
        _set_keys(root, role, online, 1)
    return metadata


def next_root(
    root: bytes,
    now_s: float,
    *,
    keys: Sequence[Key] = (),
    threshold: int | None = None,
    targets: Sequence[Key] = (),
    online: Sequence[Key] = (),
    lifetimes: Lifetimes = _LIFETIMES,
) -> Metadata[Root]:
    """Make the root after another one: other keys, or the same with a new end. Nobody has signed it yet.

    Enough keys of both the old and the new root have to sign it.

    Args:
        root: The newest one.
        now_s: Seconds since 1970.
        keys: Root keys from now on; empty: the same.
        threshold: From now on; None: the same.
        targets: From now on; empty: the same.
        online: From now on; empty: the same.
        lifetimes: How long it is valid.

    Raises:
        ConfigError: As for `first_root`.
        UpdateFailedError: `root` is no root.
    """
    new = deepcopy(read(root, Root, "root").signed)
    new.version += 1
    new.expires = at(now_s + lifetimes.root_s)
    before = new.roles[Root.type]
    held = [new.keys[key_id] for key_id in before.keyids]
    _set_keys(new, Root.type, keys or held, threshold or before.threshold)
    for role, changed in ((Targets.type, targets), ("snapshot", online), ("timestamp", online)):
        if changed:
            _set_keys(new, role, changed, 1)
    return Metadata(new)


def first_targets(
    online: Sequence[Key], now_s: float, lifetimes: Lifetimes = _LIFETIMES
) -> Metadata[Targets]:
    """Make the first targets, which delegates `reverts` and nothing else. Nobody has signed it yet."""
    targets = Targets(
        version=next_version(0, now_s),
        expires=at(now_s + lifetimes.targets_s),
        delegations=Delegations(keys={}, roles={}),
    )
    _delegate(targets, REVERTS, f"{REVERTS}/*/*/*", online, 1)
    return Metadata(targets)


def delegate(
    targets: bytes,
    kind: Kind,
    name: str,
    keys: Sequence[Key],
    now_s: float,
    *,
    threshold: int = 1,
    lifetimes: Lifetimes = _LIFETIMES,
) -> Metadata[Targets]:
    """Give a family to keys, in the place of those it had. Nobody has signed it yet.

    Args:
        targets: The newest one.
        kind: Of the family.
        name: Of the family.
        keys: Who signs its releases from now on. What other keys signed is not believed any more.
        now_s: Seconds since 1970.
        threshold: How many of them.
        lifetimes: How long it is valid.

    Raises:
        ConfigError: The threshold is above the number of keys, or a key is missing or given twice.
        UpdateFailedError: `targets` is no targets metadata.
    """
    new = _next_targets(targets, now_s, lifetimes)
    _delegate(new, role_of(kind, name), f"{kind}/{name}/*", keys, threshold)
    return Metadata(new)


def delegate_reverts(
    targets: bytes, online: Sequence[Key], now_s: float, lifetimes: Lifetimes = _LIFETIMES
) -> Metadata[Targets]:
    """Give the way back to another online key, as `next_root` gives it snapshot and timestamp.

    Raises:
        ConfigError: As for `delegate`.
        UpdateFailedError: As for `delegate`.
    """
    new = _next_targets(targets, now_s, lifetimes)
    _delegate(new, REVERTS, f"{REVERTS}/*/*/*", online, 1)
    return Metadata(new)


def add_signature(data: bytes, signer: Signer) -> bytes:
    """Sign a file beside those who signed it before.

    Raises:
        UpdateFailedError: It is no metadata.
    """
    metadata = read_any(data)
    metadata.sign(signer, append=True)
    return metadata.to_bytes(COMPACT)


def read_any(data: bytes) -> Metadata[Any]:
    """Read metadata of any role.

    Raises:
        UpdateFailedError: It is none.
    """
    try:
        return Metadata[Any].from_bytes(data)
    except DeserializationError as error:
        raise refused(Failure.METADATA_MALFORMED, "the file", "TUF metadata", str(error)) from error


def _next_targets(targets: bytes, now_s: float, lifetimes: Lifetimes) -> Targets:
    new = deepcopy(read(targets, Targets, "targets").signed)
    new.version = next_version(new.version, now_s)
    new.expires = at(now_s + lifetimes.targets_s)
    return new


def _delegate(targets: Targets, role: str, paths: str, keys: Sequence[Key], threshold: int) -> None:
    known = targets.delegations or Delegations(keys={}, roles={})
    roles = dict(known.roles or {})
    key_ids = _checked(role, keys, threshold)
    roles[role] = DelegatedRole(role, key_ids, threshold, terminating=True, paths=[paths])
    used = {key_id for each in roles.values() for key_id in each.keyids}
    held = {**known.keys, **{key.keyid: key for key in keys}}
    targets.delegations = Delegations(
        keys={key_id: key for key_id, key in held.items() if key_id in used}, roles=roles
    )


def _set_keys(root: Root, role: str, keys: Sequence[Key], threshold: int) -> None:
    key_ids = _checked(role, keys, threshold)
    root.roles[role] = Role(key_ids, threshold)
    root.keys.update({key.keyid: key for key in keys})
    used = {key_id for each in root.roles.values() for key_id in each.keyids}
    root.keys = {key_id: key for key_id, key in root.keys.items() if key_id in used}


def _checked(role: str, keys: Iterable[Key], threshold: int) -> list[str]:
    key_ids = [key.keyid for key in keys]
    if len(set(key_ids)) != len(key_ids) or not 1 <= threshold <= len(key_ids):
        raise ConfigError(
            f"role {role}: keys and threshold",
            expected="different keys, and a threshold between 1 and their number",
            got=f"{len(set(key_ids))} keys, threshold {threshold}",
        )
    return key_ids
