"""The store of results: whole or absent, found again, pruned oldest first; digests of sources remembered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from converters.digests import Digests
from converters.store import StepStore, read_facts, read_run
from edge_runtime.bundle import digest
from edge_runtime.contract.errors import StorageError

A, B, C = "a" * 64, "b" * 64, "c" * 64
HOUR_NS = 3600 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> StepStore:
    return StepStore(tmp_path / "store")


def put(store: StepStore, name: str, size: int = 1000) -> Path:
    draft = store.begin(name)
    (draft.out / "deep").mkdir()
    (draft.out / "deep" / "model.bin").write_bytes(bytes(size))
    draft.log.write_text("said")
    return store.commit(draft, {"layout": "nchw"}, {"seconds": 1.5})


def drafts(store: StepStore) -> list[Path]:
    return [path for path in (store.folder / ".new").iterdir() if path.is_dir()]


def test_a_result_is_found_with_what_was_said_of_it(store: StepStore) -> None:
    assert store.get(A) is None
    path = put(store, A)
    assert store.get(A) == path == store.folder / A
    assert sorted(file.name for file in path.iterdir()) == ["deep", "facts.json", "log.txt", "run.json"]
    assert read_facts(path) == {"layout": "nchw"}
    assert read_run(path) == {"seconds": 1.5}
    assert (path / "log.txt").read_text() == "said"
    assert not drafts(store)
    assert StepStore(store.folder).get(A) == path


def test_a_draft_is_no_result(store: StepStore) -> None:
    draft = store.begin(A)
    (draft.out / "model.bin").write_bytes(b"half")
    assert store.get(A) is None
    assert store.size_bytes() == 0
    store.discard(draft)
    store.discard(draft)
    assert not drafts(store)


def test_a_failure_keeps_its_log_until_there_is_a_result(store: StepStore) -> None:
    draft = store.begin(A)
    draft.log.write_text("tool: no")
    log = store.fail(draft, {"kind": "ValueError"})
    assert log.read_text() == "tool: no"
    assert json.loads((log.parent / "error.json").read_text()) == {"kind": "ValueError"}
    assert store.get(A) is None
    assert not drafts(store)
    put(store, A)
    assert not log.exists()


def test_who_comes_second_takes_the_result_of_the_first(store: StepStore) -> None:
    slow = store.begin(A)
    first = put(store, A)
    kept = (first / "deep" / "model.bin").stat().st_ino
    assert store.commit(slow, {"layout": "nhwc"}, {}) == first
    assert read_facts(first) == {"layout": "nchw"}
    assert (first / "deep" / "model.bin").stat().st_ino == kept
    assert not drafts(store)


def test_a_result_without_its_facts_is_none_and_is_replaced(store: StepStore) -> None:
    path = put(store, A)
    (path / "facts.json").unlink()
    assert store.get(A) is None
    put(store, A, size=5)
    assert (path / "deep" / "model.bin").stat().st_size == 5


def test_damaged_facts_are_said(store: StepStore) -> None:
    path = put(store, A)
    (path / "facts.json").write_text("{")
    with pytest.raises(
        StorageError, match=r"facts\.json is damaged: .* Remove the folder .*it will be made again"
    ):
        read_facts(path)


def test_drafts_of_the_dead_are_swept_and_those_of_the_living_are_not(store: StepStore) -> None:
    code = (
        "import os, sys; from pathlib import Path; from converters.store import StepStore\n"
        "draft = StepStore(Path(sys.argv[1])).begin('d' * 64)\n"
        "(draft.out / 'half').write_text('half')\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.folder)], check=False)
    assert done.returncode == -9
    mine = store.begin(A)
    assert len(drafts(store)) == 2
    with store.in_use():
        assert drafts(store) == [mine.folder]
    store.discard(mine)


def test_pruning_removes_what_was_not_used_longest(store: StepStore) -> None:
    for age, name in ((3, A), (2, B), (1, C)):
        path = put(store, name)
        then = path.stat().st_mtime_ns - age * HOUR_NS
        os.utime(path, ns=(then, then))
    one = store.size_bytes() // 3
    assert store.get(A) is not None, "using it makes it the newest"
    assert store.prune(4 * one) == 0
    assert store.prune(2 * one) == one
    assert (store.get(A) is None, store.get(B) is None, store.get(C) is None) == (False, True, False)
    assert store.prune(0, keep=[C]) == one
    assert store.get(A) is None
    assert store.size_bytes() == one
    assert not drafts(store)


def test_what_others_use_is_not_pruned(store: StepStore) -> None:
    put(store, A)
    with StepStore(store.folder).in_use():
        assert store.prune(0) == 0
    assert store.prune(0) > 0


def test_a_disk_that_fills_up_at_the_last_moment_keeps_nothing(store: StepStore) -> None:
    put(store, B)
    code = (
        "import resource, sys; from pathlib import Path; from converters.store import StepStore\n"
        "from edge_runtime.contract.errors import StorageError\n"
        "store = StepStore(Path(sys.argv[1]))\n"
        "draft = store.begin('a' * 64)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: store.commit(draft, {'layers': 'x' * 50_000}, {})\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.folder)], check=True, capture_output=True, text=True
    )
    assert f"store {store.folder} cannot keep a result: got File too large. Free the disk" in done.stdout
    assert store.get(A) is None
    assert store.get(B) is not None
    assert not drafts(store)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"store .*file/store cannot be used: got Not a directory"):
        StepStore(tmp_path / "file" / "store")


def test_links_and_pipes_that_a_tool_left_do_no_harm(store: StepStore) -> None:
    draft = store.begin(A)
    (draft.out / "link").symlink_to("nowhere")
    os.mkfifo(draft.out / "pipe")
    path = store.commit(draft, {}, {})
    assert (path / "link").is_symlink()


class TestDigests:
    def test_a_folder_is_digested_as_a_bundle_does(self, tmp_path: Path) -> None:
        (tmp_path / "source" / "deep").mkdir(parents=True)
        (tmp_path / "source" / "b.txt").write_text("b")
        (tmp_path / "source" / "deep" / "a.txt").write_text("a")
        digests = Digests(tmp_path / "digests.json")
        assert digests.of(tmp_path / "source") == digest(tmp_path / "source")[0]
        assert digests.of(tmp_path / "source" / "b.txt") == digest(tmp_path / "source" / "b.txt")[0]

    def test_what_did_not_change_is_not_read_again(self, tmp_path: Path) -> None:
        source = tmp_path / "model.onnx"
        source.write_bytes(b"model")
        later = source.stat().st_mtime_ns + HOUR_NS
        digests = Digests(tmp_path / "digests.json", clock_ns=lambda: later)
        first = digests.of(source)
        digests.save()
        memory = json.loads((tmp_path / "digests.json").read_text())
        memory[str(source)][-1] = "remembered"
        (tmp_path / "digests.json").write_text(json.dumps(memory))
        assert Digests(tmp_path / "digests.json").of(source) == "remembered"
        # As `cp -p` does it: same size, same time of change.
        times = source.stat().st_mtime_ns
        source.write_bytes(b"other")
        os.utime(source, ns=(times, times))
        assert Digests(tmp_path / "digests.json").of(source) not in {"remembered", first}

    def test_what_has_just_changed_is_not_remembered(self, tmp_path: Path) -> None:
        source = tmp_path / "model.onnx"
        source.write_bytes(b"model")
        digests = Digests(tmp_path / "digests.json", clock_ns=lambda: source.stat().st_mtime_ns)
        digests.of(source)
        digests.save()
        assert not (tmp_path / "digests.json").exists()

    @pytest.mark.parametrize("damage", ["", "[]", "{", '{"x": 1}', '{"x": [1]}'])
    def test_a_damaged_memory_is_forgotten(self, damage: str, tmp_path: Path) -> None:
        source = tmp_path / "x"
        source.write_bytes(b"model")
        (tmp_path / "digests.json").write_text(damage.replace('"x"', json.dumps(str(source))))
        assert Digests(tmp_path / "digests.json").of(source) == digest(source)[0]
