"""Replicas of the manager's repository agree, kills are finished, and keys are kept."""

import json
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import typer
from securesystemslib.signer import CryptoSigner, Key, Signature
from tuf.api.metadata import Metadata, Root
from typer.testing import CliRunner

from cloud_fallback.fleet.cli.client import Connection
from cloud_fallback.fleet.cli.keys import keys
from cloud_fallback.fleet.cli.publishing_link import HttpManager
from cloud_fallback.fleet.trust.ceremony import (
    first_root,
    first_targets,
)
from cloud_fallback.fleet.trust.keys import load_public, load_signer, new_key, public_file
from cloud_fallback.fleet.trust.repository import Repository
from cloud_fallback.fleet.trust.store import STAMP, FolderStore, MemoryStore, MetadataStore
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.update import Failure, UpdateFailedError
from tests.simulators.small_manager import TOKEN, SmallManager, serving_manager
from tests.simulators.trust import DAY_S, NOW_S, Fleet, add_release

FAMILY = "labels.detector"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


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
