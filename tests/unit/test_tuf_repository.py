"""The manager's repository: what it takes and refuses, that replicas agree, and the keys behind it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from cloud_fallback.fleet.trust.ceremony import (
    delegate,
    delegate_reverts,
    make_first,
    next_root,
)
from cloud_fallback.fleet.trust.keys import load_signer
from cloud_fallback.fleet.trust.newest import NewestFiles
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.trust.roles import at, seal
from cloud_fallback.fleet.trust.store import STAMP, MemoryStore
from edge_runtime.contract.errors import ConfigError, RemoteError, StorageError
from edge_runtime.contract.trust import TENANT
from edge_runtime.contract.update import Failure, UpdateFailedError
from tests.simulators.trust import DAY_S, NOW_S, Fleet, add_release, target_file

FAMILY = "labels.detector"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def code_of(repository: Repository, role: str, signed: bytes, now_s: float = NOW_S) -> Failure:
    before = repository.read(STAMP)
    with pytest.raises(UpdateFailedError) as caught:
        repository.accept(role, signed, now_s)
    assert repository.read(STAMP) == before
    return caught.value.code


def test_it_begins_once(fleet: Fleet, tmp_path: Path) -> None:
    stamp = fleet.repository.read(STAMP)
    fleet.repository.begin(fleet.first.root, fleet.first.targets, NOW_S)
    assert fleet.repository.read(STAMP) == stamp
    other = make_first(tmp_path / "other", "acme", NOW_S)
    stranger = Repository(fleet.store, [load_signer(other.online)])
    with pytest.raises(StorageError, match="another root"):
        stranger.begin(other.root, other.targets, NOW_S)
    with pytest.raises(StorageError, match="none yet"):
        Repository(MemoryStore(), [fleet.online]).target("x")


def test_it_begins_with_its_own_online_key_only(fleet: Fleet) -> None:
    stranger = Repository(MemoryStore(), [CryptoSigner.generate_ed25519()])
    with pytest.raises(ConfigError, match="its keys are not here"):
        stranger.begin(fleet.first.root, fleet.first.targets, NOW_S)


def test_it_begins_with_nothing_that_is_not_signed(fleet: Fleet) -> None:
    root = Metadata[Root].from_bytes(fleet.first.root)
    root.signatures.clear()
    with pytest.raises(UpdateFailedError) as caught:
        Repository(MemoryStore(), [fleet.online]).begin(root.to_bytes(), fleet.first.targets, NOW_S)
    assert caught.value.code is Failure.METADATA_SIGNATURE


def test_the_same_again_changes_nothing(fleet: Fleet) -> None:
    role = fleet.role()
    add_release(role, 1)
    signed = fleet.signed(role)
    version = fleet.repository.accept(FAMILY, signed, NOW_S)
    stamp = fleet.repository.read(STAMP)
    assert fleet.repository.accept(FAMILY, signed, NOW_S) == version
    assert fleet.repository.read(STAMP) == stamp
    assert fleet.repository.current(FAMILY) == signed


def test_what_is_not_taken(fleet: Fleet) -> None:
    fleet.release(1)
    older, repository = fleet.role(), fleet.repository
    fleet.now_s += 1
    fleet.release(2)
    assert code_of(repository, FAMILY, seal(Metadata(older), [fleet.family])) is Failure.METADATA_REPLAY
    role = fleet.role()
    stranger = CryptoSigner.generate_ed25519()
    assert code_of(repository, FAMILY, fleet.signed(role, stranger)) is Failure.METADATA_SIGNATURE
    assert code_of(repository, "labels.other", fleet.signed(role)) is Failure.TARGET_UNKNOWN
    assert code_of(repository, "reverts", fleet.signed(role)) is Failure.TARGET_UNKNOWN
    assert code_of(repository, "../../etc", fleet.signed(role)) is Failure.TARGET_UNKNOWN
    assert code_of(repository, FAMILY, b"{}") is Failure.METADATA_MALFORMED
    assert code_of(repository, FAMILY, b" " * 5_000_001) is Failure.METADATA_MALFORMED
    assert code_of(repository, FAMILY, fleet.first.root) is Failure.METADATA_MALFORMED
    role.version += 1
    role.expires = at(NOW_S - 1)
    expired = seal(Metadata(role), [fleet.family])
    assert code_of(repository, FAMILY, expired) is Failure.METADATA_EXPIRED


def test_releases_that_no_device_could_take(fleet: Fleet) -> None:
    one = fleet.release(1)
    repository = fleet.repository

    def with_target(path: str, content: bytes, custom: Mapping[str, object]) -> bytes:
        role = fleet.role()
        role.targets[path] = target_file(path, content, custom)
        return fleet.signed(role)

    assert code_of(repository, FAMILY, with_target(one, b"changed", {})) is Failure.METADATA_MALFORMED
    assert (
        code_of(repository, FAMILY, with_target("labels/detector/2-2.0.txt", b"x", {"counter": 3}))
        is Failure.METADATA_MALFORMED
    )
    repository.revert("labels", "detector", one, 5, NOW_S)
    role = fleet.role()
    add_release(role, 5)
    assert code_of(repository, FAMILY, fleet.signed(role)) is Failure.DOWNGRADE
    assert repository.next_counter("labels", "detector") == 6
    role = fleet.role()
    role.delegations = Metadata[Targets].from_bytes(fleet.first.targets).signed.delegations
    assert code_of(repository, FAMILY, fleet.signed(role)) is Failure.METADATA_MALFORMED


def test_targets_delegate_and_do_nothing_else(fleet: Fleet) -> None:
    targets = Metadata[Targets].from_bytes(fleet.repository.current("targets") or b"").signed
    targets.version += 1
    targets.targets["x"] = target_file("x", b"x", {})
    signed = seal(Metadata(targets), [fleet.targets_key])
    assert code_of(fleet.repository, "targets", signed) is Failure.METADATA_MALFORMED
    bare = Targets(version=targets.version, expires=at(NOW_S + DAY_S))
    assert code_of(fleet.repository, "targets", seal(Metadata(bare), [fleet.targets_key])) is (
        Failure.METADATA_MALFORMED
    )
    to_a_stranger = delegate_reverts(
        fleet.repository.current("targets") or b"", [CryptoSigner.generate_ed25519().public_key], NOW_S
    )
    with pytest.raises(ConfigError, match="its keys are not here"):
        fleet.repository.accept("targets", seal(to_a_stranger, [fleet.targets_key]), NOW_S)


def test_a_root_is_the_next_one_of_the_same_fleet(fleet: Fleet) -> None:
    def changed(**fields: object) -> bytes:
        root = next_root(fleet.first.root, NOW_S)
        for name, value in fields.items():
            setattr(root.signed, name, value)
        return seal(root, fleet.root_keys)

    repository = fleet.repository
    assert code_of(repository, "root", changed(version=3)) is Failure.METADATA_REPLAY
    assert code_of(repository, "root", changed(unrecognized_fields={TENANT: "rival"})) is Failure.WRONG_TENANT
    assert code_of(repository, "root", changed(expires=at(NOW_S - 1))) is Failure.METADATA_EXPIRED
    assert code_of(repository, "root", changed(consistent_snapshot=False)) is Failure.METADATA_MALFORMED
    new = CryptoSigner.generate_ed25519()
    other_targets = next_root(fleet.first.root, NOW_S, targets=[new.public_key])
    # The targets that are in force would not be believed any more.
    assert code_of(repository, "root", seal(other_targets, fleet.root_keys)) is Failure.METADATA_SIGNATURE
    with pytest.raises(ConfigError):  # the manager could not sign any more
        repository.accept(
            "root",
            seal(next_root(fleet.first.root, NOW_S, online=[new.public_key]), fleet.root_keys),
            NOW_S,
        )
    other_roots = next_root(fleet.first.root, NOW_S, keys=[new.public_key])
    assert code_of(repository, "root", seal(other_roots, fleet.root_keys)) is Failure.METADATA_SIGNATURE
    assert repository.accept("root", changed(), NOW_S) == 2


def test_the_key_that_delegates_is_rotated_in_two_roots(fleet: Fleet) -> None:
    new = CryptoSigner.generate_ed25519()
    both = [fleet.targets_key.public_key, new.public_key]
    repository = fleet.repository
    repository.accept("root", seal(next_root(repository.root(), NOW_S, targets=both), fleet.root_keys), NOW_S)
    renewed = delegate(
        repository.current("targets") or b"", "labels", "detector", [fleet.family.public_key], NOW_S
    )
    repository.accept("targets", seal(renewed, [new]), NOW_S)
    last = next_root(repository.root(), NOW_S, targets=[new.public_key])
    assert repository.accept("root", seal(last, fleet.root_keys), NOW_S) == 3


def test_it_signs_again_at_half_time(fleet: Fleet) -> None:
    fleet.release(1)
    before, ends = fleet.repository.read(STAMP), fleet.repository.ends()
    assert not fleet.repository.refresh(NOW_S + 0.9 * DAY_S)
    assert fleet.repository.read(STAMP) == before
    assert fleet.repository.refresh(NOW_S + 1.1 * DAY_S)
    assert not fleet.repository.refresh(NOW_S + 1.1 * DAY_S)
    later = fleet.repository.ends()
    for role in ("timestamp", "snapshot", "reverts"):
        assert later[role] == ends[role] + int(1.1 * DAY_S)
    for role in ("root", "targets", FAMILY):
        assert later[role] == ends[role]


def test_reverts_go_back_to_what_was_released_and_use_counters_up(fleet: Fleet) -> None:
    one, repository = fleet.release(1), fleet.repository
    path = repository.revert("labels", "detector", one, 2, NOW_S)
    stamp = repository.read(STAMP)
    assert repository.revert("labels", "detector", one, 2, NOW_S) == path
    assert repository.read(STAMP) == stamp
    info, release = repository.target(path), repository.target(one)
    assert info is not None
    assert release is not None
    assert (info.sha256, info.size_bytes) == (release.sha256, release.size_bytes)
    assert info.custom == {"counter": 2, "of": one}
    for of, counter, code in (
        (one, 1, Failure.DOWNGRADE),
        (one, 2_000_000, Failure.DOWNGRADE),
        ("labels/detector/9-9.0.txt", 3, Failure.TARGET_UNKNOWN),
        ("labels/other/1-1.0.txt", 3, Failure.TARGET_UNKNOWN),
        (path, 3, Failure.TARGET_UNKNOWN),
    ):
        with pytest.raises(UpdateFailedError) as caught:
            repository.revert("labels", "detector", of, counter, NOW_S)
        assert caught.value.code is code


def test_it_reads_metadata_and_nothing_else(fleet: Fleet) -> None:
    assert fleet.repository.read("1.root.json") == fleet.first.root
    for name in ("../keys/online.pem", "/etc/passwd.json", ".change", "", "timestamp", "a/b.json"):
        assert fleet.repository.read(name) is None
    assert fleet.repository.root() == fleet.first.root
    assert fleet.repository.tenant == "acme"
    assert fleet.repository.current("model.none") is None
    assert NewestFiles(fleet.repository).needed("targets") == fleet.repository.current("targets")
    with pytest.raises(RemoteError, match=r"model\.none"):
        NewestFiles(fleet.repository).needed("model.none")
