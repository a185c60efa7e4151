"""Publishing: what is packed and measured, which patches are made, and that no interruption does harm."""

import hashlib
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets
from typer.testing import CliRunner

from cloud_fallback.fleet.cli.client import Connection
from cloud_fallback.fleet.cli.publishing_link import HttpManager
from cloud_fallback.fleet.trust.packing import BESIDE_BYTES, Packed, memory_bytes, pack
from cloud_fallback.fleet.trust.publishing import Options, Published, publish
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import BundleError, InputError, RemoteError, UnauthorizedError
from edge_runtime.contract.fleet import Wanted
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.contents import Contents
from edge_runtime.update.delta import apply_delta
from tests.simulators.bundles import built, receipt, small_bundle
from tests.simulators.small_manager import TOKEN, BrokenOffError, SmallManager, serving_manager
from tests.simulators.trust import NOW_S, Fleet, add_release, devices

NOISE = random.Random(1).randbytes(100_000)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def manager(fleet: Fleet) -> SmallManager:
    return SmallManager(fleet.repository, NOW_S)


def labels(folder: Path, number: int, noise: bytes = NOISE) -> Packed:
    """Labels of one version: much alike, and hard to compress."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{number}.txt"
    lines = [noise[n : n + 50].hex() for n in range(0, len(noise), 50)]
    lines[number] = f"label {number}"
    file.write_text("\n".join(lines))
    return pack(file, folder, name="detector", version=f"{number}.0", profiles=["store-pc"])


def put(fleet: Fleet, manager: SmallManager, tmp_path: Path, packed: Packed, **options: object) -> Published:
    given = Options(**options)  # pyright: ignore[reportArgumentType]
    return publish(packed, [fleet.family], manager, NOW_S, work=tmp_path / "work", options=given)


def test_a_published_release_is_what_a_device_believes(
    fleet: Fleet, manager: SmallManager, tmp_path: Path
) -> None:
    packed = labels(tmp_path / "new", 1)
    done = put(fleet, manager, tmp_path, packed)
    assert (done.target, done.counter, done.again) == ("labels/detector/1-1.0.txt", 1, False)
    assert manager.artifacts[done.target] == packed.file.read_bytes()
    assert manager.released == [done.target]
    wanted = fleet.wanted(done.target, 1, packed.file.read_bytes())
    with devices(fleet, tmp_path / "device") as device:
        trusted = device.metadata.look_up(wanted, NOW_S)
    assert (trusted.sha256, trusted.tenant, trusted.profiles) == (packed.sha256, "acme", ("store-pc",))
    assert trusted.unpacked_bytes == packed.unpacked_bytes > 0


def test_bytes_go_before_metadata_and_metadata_before_the_release(
    fleet: Fleet, manager: SmallManager, tmp_path: Path
) -> None:
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 2))
    assert [call.split()[0] for call in manager.calls] == [
        "upload", "sign", "announce", "fetch", "upload", "upload", "sign", "announce",
    ]  # fmt: skip


def test_a_patch_that_pays_leads_to_the_whole(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    packed = {number: labels(tmp_path / "new", number) for number in range(1, 6)}
    done = [put(fleet, manager, tmp_path, packed[number]) for number in packed][-1]
    assert [patch.base_version for patch in done.patches] == ["4.0", "3.0", "2.0"]
    for patch in done.patches:
        assert patch.size_bytes < 0.01 * done.size_bytes
        file, out = tmp_path / "patch", tmp_path / "out"
        file.write_bytes(manager.artifacts[patch.target])
        base = packed[int(patch.base_version[0])]
        with out.open("wb") as stream:
            assert apply_delta(base.file, file, stream, size_bytes=done.size_bytes, max_memory_bytes=1 << 30)
        assert out.read_bytes() == packed[5].file.read_bytes()
    deltas = fleet.repository.deltas(done.target)
    assert {each.base_sha256 for each in deltas} == {packed[number].sha256 for number in (2, 3, 4)}
    release = fleet.repository.release(done.target)
    assert release is not None
    assert set(release.patches) == {each.sha256 for each in deltas}


def test_a_patch_that_does_not_pay_is_not_made(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    other = labels(tmp_path / "other", 2, random.Random(2).randbytes(100_000))
    # Hexadecimal digits of noise: half of it goes by plain compression, nothing by the old file.
    done = put(fleet, manager, tmp_path, other, pays=0.5)
    assert done.patches == ()
    assert put(fleet, manager, tmp_path, labels(tmp_path / "new", 3), patches=0).patches == ()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 6))
def test_an_interrupted_publishing_is_repeated_without_harm(
    fleet: Fleet, manager: SmallManager, tmp_path: Path, call: int, after: bool
) -> None:
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    packed = labels(tmp_path / "new", 2)
    manager.calls.clear()
    manager.breaks_at, manager.breaks_after = call, after
    with pytest.raises(BrokenOffError):
        put(fleet, manager, tmp_path, packed)
    manager.breaks_at = None
    done = put(fleet, manager, tmp_path, packed)
    assert (done.counter, done.target) == (2, "labels/detector/2-2.0.txt")
    assert manager.released == ["labels/detector/1-1.0.txt", done.target]
    assert [patch.base_version for patch in done.patches] == ["1.0"]
    assert len(fleet.role().targets) == 3
    assert {each.target for each in fleet.repository.deltas(done.target)} <= set(manager.artifacts)
    again = put(fleet, manager, tmp_path, packed)
    assert again == replace(done, again=True)


def test_a_patch_that_was_lost_comes_back_with_the_next_publishing(
    fleet: Fleet, manager: SmallManager, tmp_path: Path
) -> None:
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    packed = labels(tmp_path / "new", 2)
    (patch,) = put(fleet, manager, tmp_path, packed).patches
    content = manager.artifacts.pop(patch.target)
    assert put(fleet, manager, tmp_path, packed).again
    assert manager.artifacts[patch.target] == content
    del manager.artifacts[patch.target]
    assert put(fleet, manager, tmp_path, packed, patches=0).again
    assert patch.target not in manager.artifacts


def test_somebody_quicker_takes_the_counter(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    def rival() -> None:
        manager.before_sign_off = lambda: None
        fleet.now_s += 5
        fleet.release(1)

    manager.before_sign_off = rival
    done = put(fleet, manager, tmp_path, labels(tmp_path / "new", 2), patches=0)
    assert done.counter == 2
    assert {"labels/detector/1-1.0.txt", done.target} <= set(fleet.role().targets)


def test_a_counter_is_above_reverts_and_withdrawn_releases(
    fleet: Fleet, manager: SmallManager, tmp_path: Path
) -> None:
    one = put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    fleet.repository.revert("labels", "detector", one.target, 7, NOW_S)
    assert put(fleet, manager, tmp_path, labels(tmp_path / "new", 2)).counter == 8
    manager.highest_ever = 20
    assert put(fleet, manager, tmp_path, labels(tmp_path / "new", 3)).counter == 21


def test_no_manager_can_use_the_counters_up(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    manager.highest_ever = 2**53 - 2
    with pytest.raises(RemoteError, match="counters are at"):
        put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))


def test_one_version_is_one_content(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    changed = labels(tmp_path / "other", 1, NOISE[::-1])
    with pytest.raises(InputError, match="with other bytes"):
        put(fleet, manager, tmp_path, changed)


def test_releases_of_others_are_not_signed_again(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    old, new = fleet.family, CryptoSigner.generate_ecdsa()
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    fleet.now_s += 1
    fleet.delegate([old, new])
    fleet.family = new
    with pytest.raises(UpdateFailedError, match="--formerly") as caught:
        put(fleet, manager, tmp_path, labels(tmp_path / "new", 2))
    assert caught.value.code is Failure.METADATA_SIGNATURE
    done = put(fleet, manager, tmp_path, labels(tmp_path / "new", 2), formerly=(old.public_key,))
    assert done.counter == 2


def test_a_key_that_is_not_the_familys(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    fleet.family = CryptoSigner.generate_ed25519()
    with pytest.raises(UpdateFailedError) as caught:
        put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    assert caught.value.code is Failure.METADATA_SIGNATURE
    assert manager.released == []


def test_a_family_that_nobody_delegated(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("person\n")
    packed = pack(tmp_path / "a.txt", tmp_path, name="other")
    with pytest.raises(UpdateFailedError, match="keys delegate") as caught:
        put(fleet, manager, tmp_path, packed)
    assert caught.value.code is Failure.TARGET_UNKNOWN


def test_bases_are_fetched_once_and_must_be_genuine(
    fleet: Fleet, manager: SmallManager, tmp_path: Path
) -> None:
    one = put(fleet, manager, tmp_path, labels(tmp_path / "new", 1))
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 2), patches=1)
    put(fleet, manager, tmp_path, labels(tmp_path / "new", 3), patches=2)
    assert manager.calls.count(f"fetch {one.target}") == 1
    manager.artifacts[one.target] = b"something else"
    with pytest.raises(RemoteError, match="other bytes"):
        publish(
            labels(tmp_path / "new", 4), [fleet.family], manager, NOW_S, work=tmp_path / "fresh",
            options=Options(patches=3),
        )  # fmt: skip


def test_a_bundle_is_stored_and_opens_on_a_device(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle", tmp_path / "steps")
    packed = pack(bundle.root, tmp_path / "out")
    assert (packed.kind, packed.name, packed.version) == ("model", bundle.manifest.name, "1.2.3")
    assert packed.profiles == ("raspberry-pi-5",)
    with zipfile.ZipFile(packed.file) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    wanted = Wanted(
        kind="model", name=packed.name, version="1", counter=1, deployment="d", target="t",
        size_bytes=packed.size_bytes, sha256=packed.sha256,
    )  # fmt: skip
    slot = tmp_path / "slot"
    Contents(trusted=None, check_settings=lambda path: None).unpack(wanted, packed.file, slot)
    taken = sum(-(-file.stat().st_size // 4096) * 4096 for file in slot.rglob("*") if file.is_file())
    assert packed.unpacked_bytes == taken


def test_a_compressed_archive_gives_the_same_bytes_as_its_folder(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle", tmp_path / "steps")
    squeezed = tmp_path / "squeezed.zip"
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in bundle.root.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(bundle.root).as_posix())
    assert pack(squeezed, tmp_path / "one").sha256 == pack(bundle.root, tmp_path / "two").sha256


def test_memory_is_what_was_measured_or_an_estimate(tmp_path: Path) -> None:
    variants = [built(tmp_path / "steps", "onnx-fp32", Format.ONNX, model=b"\1" * 1000)]
    plain = small_bundle(tmp_path / "plain", tmp_path / "steps", variants=variants)
    assert memory_bytes(plain.manifest) == 2 * 1000 + BESIDE_BYTES
    measured = small_bundle(
        tmp_path / "measured", tmp_path / "steps", variants=variants,
        receipts=[receipt("onnx-fp32", machine="a"), receipt("onnx-fp32", machine="b")],
    )  # fmt: skip
    assert memory_bytes(measured.manifest) == 10_000_000


def test_a_damaged_bundle_is_not_published(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle", tmp_path / "steps")
    (bundle.root / "stranger").write_text("x")
    with pytest.raises(BundleError, match="does not name"):
        pack(bundle.root, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "content", "options", "says"),
    [
        ("a.txt", b"person\n", {}, "which model"),
        ("a.txt", b"person\n\ncar\n", {"name": "detector"}, "empty file or line"),
        ("a.txt", b"\xff\n", {"name": "detector"}, "UTF-8"),
        ("a.yaml", b"", {}, "empty file"),
        ("a.yaml", b"cameras: [\n", {}, "not YAML"),
        ("a.yaml", b"\xef\xbb\xbfjust words\n", {}, "a mapping in YAML"),
        ("a.yaml", b"- one\n- two\n", {}, "got list"),
        ("a.yaml", b"# nothing but this\n", {}, "got nothing"),
        ("a.yaml", b"cameras: []\nsite: here\n", {}, r"a.yaml:2: site: .*device's own"),
        ("a.yaml", b"cameras: []\n", {"name": "A B"}, "name 'A B'"),
        ("a.yaml", b"cameras: []\n", {"version": "1/2"}, "version '1/2'"),
        ("a.bin", b"x", {}, "another kind"),
    ],
)
def test_what_cannot_be_published(
    tmp_path: Path, file: str, content: bytes, options: dict[str, str], says: str
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=says):
        pack(tmp_path / file, tmp_path, **options)  # pyright: ignore[reportArgumentType]


def test_settings_are_called_agent_and_versioned_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "store.yaml").write_bytes(b"cameras: []\n")
    packed = pack(tmp_path / "store.yaml", tmp_path)
    digest = hashlib.sha256(b"cameras: []\n").hexdigest()
    assert (packed.kind, packed.name, packed.version) == ("settings", "agent", digest[:12])
    assert packed.memory_bytes == 0


def test_all_of_it_over_http(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    with serving_manager(manager) as url, HttpManager(Connection(url, TOKEN)) as link:
        for number in (1, 2):
            packed = labels(tmp_path / "new", number)
            done = publish(packed, [fleet.family], link, NOW_S, work=tmp_path / "work")
        assert done.counter == 2
        assert len(done.patches) == 1
        assert manager.artifacts[done.target] == packed.file.read_bytes()
        assert not link.sign_off("labels.detector", fleet.signed(Targets(version=1)))
        with pytest.raises(InputError, match="reverts"):
            link.sign_off("reverts", b"{}")
        with HttpManager(Connection(url, "another")) as stranger, pytest.raises(UnauthorizedError):
            stranger.announce(done.target)
    with pytest.raises(RemoteError, match="cannot be reached"):
        HttpManager(Connection("http://127.0.0.1:9", TOKEN)).read("timestamp.json")


def test_the_command(fleet: Fleet, manager: SmallManager, tmp_path: Path) -> None:
    import typer

    from cloud_fallback.fleet.cli.publish import publish as command

    app = typer.Typer()
    app.command()(command)
    key = tmp_path / "family.pem"
    key.write_bytes(fleet.family.private_bytes)
    file = labels(tmp_path / "new", 1).file
    with serving_manager(manager) as url:
        arguments = [
            str(file), "--key", str(key), "--name", "detector", "--version", "1.0", "--manager", url,
            "--token", TOKEN, "--work", str(tmp_path / "work"),
        ]  # fmt: skip
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["target"] == "labels/detector/1-1.0.txt"
        again = CliRunner().invoke(app, arguments)
        assert "was published already" in again.stdout
        wrong = CliRunner().invoke(app, [*arguments, "--version", "2.0", "--key", str(tmp_path / "no.pem")])
        assert wrong.exit_code == 3


def test_a_release_that_the_manager_would_not_take_is_no_release(fleet: Fleet) -> None:
    role = fleet.role()
    add_release(role, 1)
    path = "labels/detector/1-1.0.txt"
    role.targets[path].unrecognized_fields["custom"]["patches"] = ["ab" * 32]
    with pytest.raises(UpdateFailedError, match="targets of their own"):
        fleet.repository.accept("labels.detector", fleet.signed(role), fleet.now_s)
