"""Every attack on metadata that TUF names, each and the code that a device gives it."""

from collections.abc import Generator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Timestamp

from cloud_fallback.fleet.trust.ceremony import add_signature, next_root
from cloud_fallback.fleet.trust.roles import at, listed, seal
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.metadata import SLACK_S
from edge_runtime.update.preflight import Facts, check
from tests.simulators.trust import DAY_S, NOW_S, Device, Fleet, add_release, devices, target_file
from tests.simulators.trust_attacks import FAMILY, believed, refused, resign, snapshot_of


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def device(fleet: Fleet, tmp_path: Path) -> Generator[Device]:
    with devices(fleet, tmp_path / "device") as device:
        yield device


def test_what_is_genuine_is_believed(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1, patch_from="ab" * 32)
    trusted = believed(device, fleet, path)
    wanted = fleet.wanted(path, 1)
    assert (trusted.sha256, trusted.size_bytes, trusted.counter) == (wanted.sha256, wanted.size_bytes, 1)
    assert trusted.tenant == "acme"
    assert trusted.profiles == ("store-pc",)
    assert trusted.unpacked_bytes == 4096
    assert trusted.patches == tuple(each.sha256 for each in fleet.repository.deltas(path))
    assert fleet.repository.deltas(path)[0].base_sha256 == "ab" * 32
    assert trusted.time_s == NOW_S - SLACK_S


def test_replay_of_an_older_timestamp(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    older = fleet.repository.read("timestamp.json") or b""
    fleet.now_s += 60
    fleet.release(2)
    believed(device, fleet, path)
    device.served["timestamp.json"] = older
    assert refused(device, fleet, path).code is Failure.METADATA_REPLAY
    del device.served["timestamp.json"]
    assert believed(device, fleet, path).counter == 1


def test_replay_of_an_older_snapshot_by_the_online_key(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    older = snapshot_of(fleet)
    fleet.now_s += 60
    fleet.release(2)
    believed(device, fleet, path)
    older.version = int(fleet.now_s) + 5
    resign(fleet, device, older)
    assert refused(device, fleet, path).code is Failure.METADATA_REPLAY


def test_replay_by_leaving_a_role_out(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    believed(device, fleet, path)
    less = snapshot_of(fleet)
    less.version += 5
    del less.meta[f"{FAMILY}.json"]
    resign(fleet, device, less)
    assert refused(device, fleet, path).code is Failure.METADATA_REPLAY


def test_replay_of_an_older_root_as_the_next_one(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    device.served["2.root.json"] = fleet.first.root
    assert refused(device, fleet, path).code is Failure.METADATA_REPLAY


def test_freeze(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    believed(device, fleet, path)
    error = refused(device, fleet, path, at_s=NOW_S + 3 * DAY_S)
    assert error.code is Failure.METADATA_FREEZE
    assert error.retryable  # the manager signs again by itself
    fleet.now_s += 3 * DAY_S
    assert fleet.repository.refresh(fleet.now_s)
    assert believed(device, fleet, path).time_s == fleet.now_s - SLACK_S


def test_freeze_of_the_snapshot_alone(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    old = snapshot_of(fleet)
    old.expires = at(NOW_S - 1)
    old.version += 5
    resign(fleet, device, old)
    assert refused(device, fleet, path).code is Failure.METADATA_FREEZE


@pytest.mark.parametrize(("after_s", "role"), [(400 * DAY_S, FAMILY), (800 * DAY_S, "root")])
def test_expiry_of_what_people_sign(fleet: Fleet, device: Device, after_s: float, role: str) -> None:
    path = fleet.release(1)
    fleet.now_s += after_s
    fleet.repository.refresh(fleet.now_s)
    error = refused(device, fleet, path)
    assert error.code is Failure.METADATA_EXPIRED
    assert not error.retryable
    assert role in str(error)


def test_mix_and_match_of_two_snapshots(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    one = fleet.repository.current("snapshot") or b""
    fleet.now_s += 60
    fleet.release(2)
    device.served[f"{snapshot_of(fleet).version}.snapshot.json"] = one
    assert refused(device, fleet, path).code is Failure.METADATA_MIX_AND_MATCH


def test_mix_and_match_of_two_versions_of_a_family(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    one = fleet.repository.current(FAMILY) or b""
    fleet.now_s += 60
    fleet.release(2)
    device.served[f"{fleet.role().version}.{FAMILY}.json"] = one
    assert refused(device, fleet, path).code is Failure.METADATA_MIX_AND_MATCH


def test_two_files_of_one_version_are_told_apart(fleet: Fleet, device: Device) -> None:
    """As after a restored backup: the device has one of them in its cache, and gets the one in force."""
    believed(device, fleet, fleet.release(1))
    role = fleet.role()
    path = add_release(role, 2)
    content = seal(Metadata(role), [fleet.family])
    snapshot = snapshot_of(fleet)
    snapshot.meta[f"{FAMILY}.json"] = listed(content, role.version)
    snapshot.version += 1
    resign(fleet, device, snapshot)
    device.served[f"{role.version}.{FAMILY}.json"] = content
    assert believed(device, fleet, path, 2).counter == 2


@pytest.mark.parametrize("hashed", [True, False])
def test_mix_and_match_by_a_version_that_is_not_the_promised_one(
    fleet: Fleet, device: Device, hashed: bool
) -> None:
    path = fleet.release(1)
    snapshot = snapshot_of(fleet)
    content = seal(Metadata(snapshot), [fleet.online])
    promised = listed(content, snapshot.version + 7)
    if not hashed:
        promised.hashes, promised.length = None, None
    resign(fleet, device, snapshot, snapshot_meta=promised)
    assert refused(device, fleet, path).code is Failure.METADATA_MIX_AND_MATCH


def test_mix_and_match_of_a_message_and_a_target(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    wanted = fleet.wanted(path, 1, name="another")
    with pytest.raises(UpdateFailedError) as caught:
        device.metadata.look_up(wanted, NOW_S)
    assert caught.value.code is Failure.METADATA_MIX_AND_MATCH
    assert not device.files.asked  # nothing had to be fetched to know it


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", FAMILY])
def test_a_wrong_key(fleet: Fleet, device: Device, role: str) -> None:
    path = fleet.release(1)
    forged = Metadata.from_bytes(fleet.repository.current(role) or b"")
    forged.sign(CryptoSigner.generate_ed25519(), append=False)
    content = forged.to_bytes()
    if role == "timestamp":
        device.served["timestamp.json"] = content
    elif role == "snapshot":
        device.served["timestamp.json"] = _vouching(fleet, content)
        device.served[f"{forged.signed.version}.snapshot.json"] = content
    else:
        snapshot = snapshot_of(fleet)
        snapshot.meta[f"{role}.json"] = listed(content, forged.signed.version)
        snapshot.version += 1
        resign(fleet, device, snapshot)
        device.served[f"{forged.signed.version}.{role}.json"] = content
    assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE


def _vouching(fleet: Fleet, snapshot: bytes) -> bytes:
    timestamp = Metadata[Timestamp].from_bytes(fleet.repository.current("timestamp") or b"").signed
    timestamp.snapshot_meta = listed(snapshot, timestamp.snapshot_meta.version)
    return seal(Metadata(timestamp), [fleet.online])


def test_a_changed_byte_breaks_the_signature(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    stamp = fleet.repository.read("timestamp.json") or b""
    device.served["timestamp.json"] = stamp.replace(b'"x-root":1', b'"x-root":2')
    assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE


def test_under_the_threshold(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, root_keys=3, threshold=2)
    path = fleet.release(1)
    one, two, _ = fleet.root_keys
    once = seal(next_root(fleet.first.root, NOW_S), [one])
    with devices(fleet, tmp_path / "device") as device:
        device.served["2.root.json"] = once
        assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE
        device.served["2.root.json"] = add_signature(once, one)  # the same key twice is one key
        assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE
        device.served["2.root.json"] = add_signature(once, two)
        assert believed(device, fleet, path).counter == 1


def test_a_family_under_its_threshold(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    fleet.now_s += 1
    fleet.delegate([fleet.family, CryptoSigner.generate_ed25519()], threshold=2)
    assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE


def test_another_family_cannot_sign_this_ones_releases(fleet: Fleet, device: Device) -> None:
    role = fleet.role()
    stranger = target_file("labels/other/1-1.0.txt", b"x", {})
    role.targets[stranger.path] = stranger
    with pytest.raises(UpdateFailedError) as caught:
        fleet.repository.accept(FAMILY, fleet.signed(role), fleet.now_s)
    assert caught.value.code is Failure.METADATA_MALFORMED
    path = "labels/other/1-1.0.txt"
    with pytest.raises(UpdateFailedError) as caught:
        device.metadata.look_up(fleet.wanted(path, 1, name="other"), NOW_S)
    assert caught.value.code is Failure.TARGET_UNKNOWN


def test_what_nobody_published(fleet: Fleet, device: Device) -> None:
    assert refused(device, fleet, "labels/detector/1-1.0.txt").code is Failure.TARGET_UNKNOWN
    fleet.release(1)
    assert refused(device, fleet, "labels/detector/2-2.0.txt", 2).code is Failure.TARGET_UNKNOWN


def test_wrong_profile_and_wrong_tenant(fleet: Fleet, device: Device) -> None:
    path = fleet.release(1)
    trusted = believed(device, fleet, path)
    facts = Facts(
        profile="other-pc", tenant="acme", active=None, present={}, free_bytes=1 << 40, reserve_bytes=0,
        free_memory_bytes=1 << 32, fetched_bytes={},
    )  # fmt: skip
    with pytest.raises(UpdateFailedError) as caught:
        check(fleet.wanted(path, 1), trusted, facts)
    assert caught.value.code is Failure.WRONG_PROFILE
    role = fleet.role()
    add_release(role, 2, tenant="rival")
    with pytest.raises(UpdateFailedError) as caught:  # no manager takes it …
        fleet.repository.accept(FAMILY, fleet.signed(role), fleet.now_s)
    assert caught.value.code is Failure.WRONG_TENANT
    rival = trusted.model_copy(update={"tenant": "rival"})
    with pytest.raises(UpdateFailedError) as caught:  # … and no device would
        check(fleet.wanted(path, 1), rival, facts)
    assert caught.value.code is Failure.WRONG_TENANT


def test_the_metadata_of_another_fleet(fleet: Fleet, device: Device, tmp_path: Path) -> None:
    path = fleet.release(1)
    rival = Fleet(tmp_path / "rival")
    rival.release(1)
    device.served.read = rival.repository.read
    assert refused(device, fleet, path).code is Failure.METADATA_SIGNATURE
