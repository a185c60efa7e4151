"""Rotation, damage, slow links, clocks and ways back: what of metadata a device believes all the same."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from cloud_fallback.fleet.trust.ceremony import delegate_reverts, next_root
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.trust.roles import at, listed, seal
from cloud_fallback.fleet.trust.store import MemoryStore
from edge_runtime.contract.trust import SIGNED_AT, Revert, revert_path
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.metadata import SLACK_S
from edge_runtime.update.metadata_link import Deadlines
from tests.simulators.trust import DAY_S, NOW_S, Device, Fleet, body, devices, target_file
from tests.simulators.trust_attacks import FAMILY, believed, refused, resign, snapshot_of


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def device(fleet: Fleet, tmp_path: Path) -> Generator[Device]:
    with devices(fleet, tmp_path / "device") as device:
        yield device


def test_root_rotation_shuts_an_old_online_key_out(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    believed(device, fleet, path)
    new = CryptoSigner.generate_ed25519()
    both = Repository(fleet.store, [fleet.online, new])
    fleet.now_s += 60
    root = seal(next_root(both.root(), fleet.now_s, online=[new.public_key]), fleet.root_keys)
    both.accept("root", root, fleet.now_s)
    reverts = delegate_reverts(both.current("targets") or b"", [new.public_key], fleet.now_s)
    both.accept("targets", seal(reverts, [fleet.targets_key]), fleet.now_s)
    assert believed(device, fleet, path).counter == 1
    alone = Repository(fleet.store, [new])  # the manager starts again without the old key
    alone.begin(fleet.first.root, fleet.first.targets, fleet.now_s)
    assert alone.refresh(fleet.now_s, anyway=True)
    assert believed(device, fleet, path).counter == 1
    snapshot = snapshot_of(fleet)
    snapshot.version += 100
    resign(fleet, device, snapshot)  # by the old key
    assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE


def test_recovery_from_versions_that_a_leaked_online_key_ran_up(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    snapshot = snapshot_of(fleet)
    snapshot.version = 2**40
    resign(fleet, device, snapshot, version=2**40)
    believed(device, fleet, path)
    device.served.clear()
    assert refused(device, fleet, path).code is Failure.METADATA_REPLAY
    new = CryptoSigner.generate_ed25519()
    both = Repository(fleet.store, [fleet.online, new])
    both.accept("root", seal(next_root(both.root(), NOW_S, online=[new.public_key]), fleet.root_keys), NOW_S)
    assert believed(device, fleet, path).counter == 1


def test_rotation_of_the_root_keys_themselves(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    keys = [CryptoSigner.generate_ecdsa() for _ in range(2)]
    public = [key.public_key for key in keys]
    alone = next_root(fleet.first.root, NOW_S, keys=public, threshold=2)
    device.served["2.root.json"] = seal(alone, keys)  # the old one did not agree
    assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE
    device.served.clear()
    root = seal(next_root(fleet.first.root, NOW_S, keys=public, threshold=2), [*keys, *fleet.root_keys])
    assert fleet.repository.accept("root", root, NOW_S) == 2
    third = seal(next_root(root, NOW_S), keys)
    assert fleet.repository.accept("root", third, NOW_S) == 3
    assert believed(device, fleet, path).counter == 1


def test_endless_data(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    device.served["timestamp.json"] = b"{" * 100_000
    error = refused(device, fleet, path)
    assert error.code is Failure.METADATA_MALFORMED
    assert "16,384" in str(error)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"[1]", b'{"signatures":[],"signed":{"_type":"x"}}']
)
def test_malformed(fleet: Fleet, device: Device, content: bytes) -> None:
    path = fleet.release(1)
    device.served["timestamp.json"] = content
    assert refused(device, fleet, path).code is Failure.METADATA_MALFORMED


def test_one_roles_file_in_the_place_of_another(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    device.served["timestamp.json"] = fleet.repository.current("snapshot") or b""
    assert refused(device, fleet, path).code is Failure.METADATA_MALFORMED


@pytest.mark.parametrize("custom", [{}, {"counter": 2}, {"counter": "1"}, {"counter": 1, "tenant": "A B"}])
def test_malformed_fields_of_a_target(fleet: Fleet, device: Device, custom: dict[str, object]) -> None:
    path = fleet.release(1)
    role = fleet.role()
    role.targets[path] = target_file(path, body(1), {"tenant": "acme", "version": "1.0", **custom})
    content = fleet.signed(role)
    snapshot = snapshot_of(fleet)
    snapshot.meta[f"{FAMILY}.json"] = listed(content, role.version)
    snapshot.version += 1
    resign(fleet, device, snapshot)
    device.served[f"{role.version}.{FAMILY}.json"] = content
    assert refused(device, fleet, path).code is Failure.METADATA_MALFORMED


@pytest.mark.parametrize(
    ("trouble", "deadlines", "says"),
    [
        ({"stall_after": 10}, Deadlines(total_s=0.3), "not whole after 0.3 s"),
        ({"stalls_head": True}, Deadlines(total_s=0.3), "not whole after 0.3 s"),
        ({"stalls_head": True}, Deadlines(stall_s=0.2), "nothing came for 0.2 s"),
        ({"cut_after": 10}, Deadlines(), "timestamp.json"),
        ({"status": 503}, Deadlines(), "status 503"),
    ],
)
def test_slow_retrieval_and_broken_links(
    fleet: Fleet, device: Device, trouble: dict[str, object], deadlines: Deadlines, says: str
) -> None:
    path = fleet.release(1)
    device.deadlines = deadlines
    for name, value in trouble.items():
        setattr(device.files, name, value)
    error = refused(device, fleet, path)
    assert error.code is Failure.METADATA_UNREACHABLE
    assert error.retryable
    assert says in str(error)


def test_nobody_answers(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    believed(device, fleet, path)
    device.files.url = "http://127.0.0.1:9"
    assert refused(device, fleet, path).code is Failure.METADATA_UNREACHABLE


def test_a_redirect_to_where_anybody_could_answer(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    device.files.redirect = "http://example.org/tuf/timestamp.json"
    error = refused(device, fleet, path)
    assert error.code is Failure.METADATA_UNREACHABLE
    assert "https" in str(error)


def test_a_clock_without_a_battery(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    error = refused(device, fleet, path, at_s=0.0)
    assert error.code is Failure.CLOCK_BEHIND
    assert error.retryable
    device.metadata.look_up(fleet.wanted(path, 1), NOW_S - SLACK_S)  # a little behind is nothing


def test_a_time_that_is_no_time(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    for text in (7, "soon", "2027-01-15T08:00:00"):
        resign(fleet, device, snapshot_of(fleet), unrecognized_fields={SIGNED_AT: text})
        assert refused(device, fleet, path).code is Failure.METADATA_MALFORMED


def test_a_timestamp_without_its_time_proves_none(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    resign(fleet, device, snapshot_of(fleet))
    assert believed(device, fleet, path).time_s == 0


def test_a_revert_is_believed(fleet: Fleet, device: Device) -> None:
    one = fleet.release(1, memory_bytes=77)
    fleet.release(2)
    path = fleet.repository.revert("labels", "detector", one, 3, NOW_S)
    trusted = device.metadata.look_up(fleet.wanted(path, 3, body(1)), NOW_S)
    assert (trusted.counter, trusted.sha256) == (3, fleet.wanted(one, 1).sha256)
    assert (trusted.tenant, trusted.memory_bytes) == ("acme", 77)


@pytest.mark.parametrize(
    ("counter", "of", "content", "code"),
    [
        (3, "labels/detector/1-1.0.txt", b"another file", Failure.METADATA_MIX_AND_MATCH),
        (3, "labels/detector/9-9.0.txt", body(9), Failure.TARGET_UNKNOWN),
        (3, "labels/other/1-1.0.txt", body(1), Failure.METADATA_MIX_AND_MATCH),
        (3, "reverts/labels/detector/2", body(1), Failure.METADATA_MIX_AND_MATCH),
        (3, "../keys", body(1), Failure.METADATA_MIX_AND_MATCH),
        (1, "labels/detector/1-1.0.txt", body(1), Failure.METADATA_MIX_AND_MATCH),
        (2_000_002, "labels/detector/1-1.0.txt", body(1), Failure.METADATA_MIX_AND_MATCH),
    ],
)
def test_a_forged_revert(
    fleet: Fleet, device: Device, counter: int, of: str, content: bytes, code: Failure
) -> None:
    """What the online key alone can sign leads to nothing that the family did not release."""
    fleet.release(1)
    fleet.release(2)
    path = revert_path("labels", "detector", counter)
    forged = Targets(version=int(NOW_S) + 50, expires=at(NOW_S + DAY_S))
    forged.targets[path] = target_file(path, content, Revert(counter=counter, of=of).model_dump())
    signed = seal(Metadata(forged), [fleet.online])
    snapshot = snapshot_of(fleet)
    snapshot.version += 1
    snapshot.meta["reverts.json"] = listed(signed, forged.version)
    resign(fleet, device, snapshot)
    device.served[f"{forged.version}.reverts.json"] = signed
    with pytest.raises(UpdateFailedError) as caught:
        device.metadata.look_up(fleet.wanted(path, counter, content), NOW_S)
    assert caught.value.code is code


def test_a_revert_to_what_was_withdrawn(fleet: Fleet, device: Device) -> None:
    one = fleet.release(1)
    fleet.release(2)
    path = fleet.repository.revert("labels", "detector", one, 3, NOW_S)
    role = fleet.role()
    del role.targets[one]
    fleet.repository.accept(FAMILY, fleet.signed(role), fleet.now_s)
    with pytest.raises(UpdateFailedError) as caught:
        device.metadata.look_up(fleet.wanted(path, 3, body(1)), NOW_S)
    assert caught.value.code is Failure.TARGET_UNKNOWN


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b'{"signed":', None])
def test_a_torn_cache_recovers(fleet: Fleet, device: Device, damage: bytes | None) -> None:
    path = fleet.release(1)
    root = seal(next_root(fleet.first.root, NOW_S), fleet.root_keys)
    fleet.repository.accept("root", root, NOW_S)
    believed(device, fleet, path)
    cache = device.folder / "cache"
    files = sorted(each for each in cache.rglob("*.json") if not each.is_symlink())
    assert {each.name for each in files} >= {"timestamp.json", "2.root.json", f"{FAMILY}.json"}
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
        assert believed(device, fleet, path).counter == 1, file.name
        assert file.read_bytes() == whole
    (cache / "tmpkilled").write_bytes(b"half")
    for file in files:
        file.write_bytes(b"")
    assert believed(device, fleet, path).counter == 1
    assert not (cache / "tmpkilled").exists()


def test_a_manager_restored_from_a_backup_is_believed_when_it_signs_again(
    fleet: Fleet, device: Device
) -> None:
    path = fleet.release(1)
    backup = MemoryStore()
    assert backup.put(fleet.store.files, None)
    for counter in range(2, 7):
        fleet.now_s += 1
        fleet.repository.revert("labels", "detector", path, counter, fleet.now_s)
        back = revert_path("labels", "detector", counter)
        assert device.metadata.look_up(fleet.wanted(back, counter, body(1)), fleet.now_s).counter == counter
    restored = Repository(backup, [fleet.online])
    device.served.read = restored.read
    fleet.now_s += 60
    assert refused(device, fleet, path).code is Failure.METADATA_REPLAY
    assert restored.refresh(fleet.now_s, anyway=True)
    assert believed(device, fleet, path).counter == 1
    back = restored.revert("labels", "detector", path, 9, fleet.now_s)
    assert device.metadata.look_up(fleet.wanted(back, 9, body(1)), fleet.now_s).counter == 9


def test_the_files_are_small_and_plain(fleet: Fleet) -> None:
    path = fleet.release(1)
    stamp = json.loads(fleet.repository.read("timestamp.json") or b"")
    assert stamp["signed"][SIGNED_AT] == "2027-01-15T08:00:00Z"
    assert fleet.repository.target(path) is not None
    assert Metadata[Root].from_bytes(fleet.repository.root()).signed.version == 1
