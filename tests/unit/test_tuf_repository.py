"""The manager's repository: what it takes and refuses, that replicas agree, and the keys behind it."""

import json
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typer
from securesystemslib.signer import CryptoSigner, Key, Signature
from tuf.api.metadata import Metadata, Root, Targets
from typer.testing import CliRunner

from cloud_fallback.fleet.cli.client import Connection
from cloud_fallback.fleet.cli.keys import keys
from cloud_fallback.fleet.cli.publishing_link import HttpManager
from cloud_fallback.fleet.trust.ceremony import (
    delegate,
    delegate_reverts,
    first_root,
    first_targets,
    make_first,
    next_root,
)
from cloud_fallback.fleet.trust.keys import load_public, load_signer, new_key, public_file
from cloud_fallback.fleet.trust.newest import NewestFiles
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.trust.roles import at, seal
from cloud_fallback.fleet.trust.store import STAMP, FolderStore, MemoryStore, MetadataStore
from edge_runtime.contract.errors import ConfigError, RemoteError, StorageError
from edge_runtime.contract.trust import TENANT
from edge_runtime.contract.update import Failure, UpdateFailedError
from tests.simulators.small_manager import TOKEN, SmallManager, serving_manager
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


class Watched:
    """A store that sees whether one name is ever written with two contents."""

    lock = threading.Lock()

    def __init__(self, store: MetadataStore, written: dict[str, bytes]) -> None:
        self.store = store
        self.written = written

    def get(self, file: str) -> bytes | None:
        return self.store.get(file)

    def put(self, files: Mapping[str, bytes], expect: bytes | None) -> bool:
        done = self.store.put(files, expect)
        with self.lock:
            for name, content in files.items() if done else ():
                if name != STAMP:
                    assert self.written.setdefault(name, content) == content, f"two contents of {name}"
        return done


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_replicas_make_one_history(fleet: Fleet, tmp_path: Path, kind: str) -> None:
    path = fleet.release(1)
    stores: list[Watched] = []
    written = dict(fleet.store.files)
    for _ in range(3):
        inner: MetadataStore = fleet.store if kind == "memory" else FolderStore(tmp_path / "store")
        stores.append(Watched(inner, written))
    if kind == "folder":
        assert FolderStore(tmp_path / "store").put(fleet.store.files, None)
    done: list[int] = []
    failed: list[BaseException] = []

    def replica(store: Watched) -> None:
        repository = Repository(store, [fleet.online])
        try:
            for _ in range(6):
                while True:
                    counter = repository.next_counter("labels", "detector")
                    try:
                        repository.revert("labels", "detector", path, counter, NOW_S)
                    except UpdateFailedError:  # another replica took this counter
                        continue
                    if repository.target(f"reverts/labels/detector/{counter}") is not None:
                        done.append(counter)
                        break
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=replica, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    last = Repository(stores[0], [fleet.online])
    taken = set(range(2, last.next_counter("labels", "detector")))
    assert taken == set(done)  # none was lost, though some may have been the same one of two replicas
    stamp = json.loads(last.read(STAMP) or b"")["signed"]
    assert stamp["version"] >= len(taken)


class Slow:
    """A signer during whose first signature something else happens."""

    def __init__(self, key: CryptoSigner, meanwhile: Callable[[], object]) -> None:
        self._key = key
        self._meanwhile = [meanwhile]

    @property
    def public_key(self) -> Key:
        return self._key.public_key

    def sign(self, payload: bytes) -> Signature:
        if self._meanwhile:
            self._meanwhile.pop()()
        return self._key.sign(payload)


def test_a_replica_that_was_slower_begins_again(fleet: Fleet) -> None:
    one = fleet.release(1)
    role = fleet.role()
    add_release(role, 2)
    signed = fleet.signed(role)
    slow = Slow(fleet.online, lambda: fleet.repository.revert("labels", "detector", one, 50, NOW_S))
    with pytest.raises(UpdateFailedError) as caught:  # seen against the newest state: 50 is taken by now
        Repository(fleet.store, [slow]).accept(FAMILY, signed, NOW_S)
    assert caught.value.code is Failure.DOWNGRADE
    slow = Slow(fleet.online, lambda: fleet.repository.revert("labels", "detector", one, 51, NOW_S))
    assert Repository(fleet.store, [slow]).refresh(NOW_S + 2 * DAY_S)
    for counter in (50, 51):
        assert fleet.repository.target(f"reverts/labels/detector/{counter}") is not None


def test_a_folder_finishes_what_a_kill_interrupted(fleet: Fleet, tmp_path: Path) -> None:
    fleet.release(1)
    store = FolderStore(tmp_path / "store")
    assert store.put(fleet.store.files, None)
    before = fleet.repository.read(STAMP)
    fleet.now_s += 1
    fleet.release(2)
    change = {name: text.decode() for name, text in fleet.store.files.items()}
    (tmp_path / "store" / ".change").write_text(json.dumps(change))  # killed before any file was in its place
    again = FolderStore(tmp_path / "store")
    assert not again.put({STAMP: b"x"}, before)  # the change counts already
    assert Repository(again, [fleet.online]).target("labels/detector/2-2.0.txt") is not None
    assert not (tmp_path / "store" / ".change").exists()
    (tmp_path / "store" / ".change").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        again.get(STAMP)


def test_keys_are_readable_by_their_owner_only_and_never_replaced(tmp_path: Path) -> None:
    for kind in ("ed25519", "ecdsa"):
        file = tmp_path / f"{kind}.pem"
        made = new_key(file, kind)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert load_signer(file).public_key.keyid == made.keyid
        assert load_public(public_file(file)).keyid == made.keyid
        with pytest.raises(StorageError, match="never replaced"):
            new_key(file, kind)
    (tmp_path / "no.pem").write_text("x")
    for load in (load_signer, load_public):
        with pytest.raises(ConfigError):
            load(tmp_path / "no.pem")
        with pytest.raises(ConfigError):
            load(tmp_path / "absent.pem")


def test_a_threshold_is_between_one_and_the_number_of_keys(tmp_path: Path) -> None:
    key = new_key(tmp_path / "k.pem")
    for keys_, threshold in (([key], 2), ([key, key], 1), ([], 1), ([key], 0)):
        with pytest.raises(ConfigError, match="threshold"):
            first_root("acme", keys_, threshold, targets=[key], online=[key], now_s=NOW_S)
    assert first_targets([key], NOW_S).signed.delegations is not None


def test_the_commands_lead_from_nothing_to_a_second_root(tmp_path: Path) -> None:
    app = typer.Typer()
    app.add_typer(keys, name="keys")

    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["keys", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.stdout

    place = {name: tmp_path / f"{name}.pem" for name in ("r1", "r2", "t", "o", "f", "o2")}
    for name, file in place.items():
        run("new", file, "--type", "ecdsa" if name == "f" else "ed25519")
    pub = {name: public_file(file) for name, file in place.items()}
    run(
        "root", tmp_path, "--tenant", "acme", "--root", pub["r1"], "--root", pub["r2"], "--threshold", 2,
        "--targets", pub["t"], "--online", pub["o"], "--key", place["r1"], "--key", place["t"],
    )  # fmt: skip
    root, targets = tmp_path / "root.json", tmp_path / "targets.json"
    shown = json.loads(run("show", root, "--json"))
    assert shown["roles"]["root"]["threshold"] == 2
    assert len(shown["signed_by"]) == 1
    run("sign", root, "--key", place["r2"])
    repository = Repository(MemoryStore(), [load_signer(place["o"])])
    repository.begin(root.read_bytes(), targets.read_bytes(), NOW_S)

    run("delegate", targets, "model/detector", "--to", pub["f"], "--key", place["t"])
    run("delegate", targets, "nothing", "--to", pub["f"], "--key", place["t"], code=3)
    (tmp_path / "no.json").write_text("{}")
    assert "TUF metadata" in run("show", tmp_path / "no.json", "--json", code=4)
    run("rotate", targets, "--key", place["r1"], code=4)  # no root
    run("sign", targets, code=3)
    manager = SmallManager(repository, NOW_S)
    with serving_manager(manager) as url:
        there = ("--manager", url, "--token", TOKEN)
        run("push", targets, *there)
        run("rotate", root, "--key", place["r1"])
        run("push", root, *there, code=4)  # one of two signatures
        run("sign", root, "--key", place["r2"])
        run("push", root, *there)
        pulled = tmp_path / "pulled.json"
        run("pull", "root", pulled, *there)
        assert pulled.read_bytes() == root.read_bytes()
        assert "model.detector" in run("show", targets)
        run("pull", "model.detector", pulled, *there, code=7)  # it has signed nothing yet
        with HttpManager(Connection(url, TOKEN)) as link:
            assert link.read("2.root.json") == root.read_bytes()
    assert Metadata[Root].from_bytes(repository.root()).signed.version == 2
