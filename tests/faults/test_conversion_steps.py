"""Steps that fail in every way: one line says why, they cost what needs them, nothing half-made is used."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from converters.runner import Done, Failed, Outcome, Skipped, run
from converters.step import Step
from converters.store import StepStore
from edge_runtime.contract.errors import ConversionError, StorageError

HERE = "tests.simulators.steps:"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> StepStore:
    return StepStore(tmp_path / "store")


def step(name: str, function: str = "write", needs: tuple[str, ...] = (), **rest: Any) -> Step:
    rest = {"options": {"text": name}, **rest}
    return Step(name, HERE + function, "base", needs={need: need for need in needs}, **rest)


def do(store: StepStore, *steps: Step, jobs: int = 1) -> dict[str, Outcome]:
    return dict(run(steps, store, tell=lambda *_: None, jobs=jobs))


def failure(store: StepStore, function: str, **rest: Any) -> Failed:
    """Run a step that fails, and check what every failure must leave."""
    outcomes = do(store, step("bad", function, **rest), step("good"), step("above", needs=("bad",)))
    failed = outcomes["bad"]
    assert isinstance(failed, Failed), failed
    assert isinstance(outcomes["good"], Done)
    assert outcomes["above"] == Skipped("bad")
    assert "\n" not in str(failed.error)
    assert clean(store)
    return failed


def clean(store: StepStore) -> bool:
    return not [path for path in (store.folder / ".new").iterdir() if path.is_dir()]


def text(outcome: Outcome) -> str:
    assert isinstance(outcome, Done), outcome
    return (outcome.path / "text.txt").read_text()


# What runs well


def test_results_are_made_once_and_flow_along_needs(
    store: StepStore, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = [step("c", needs=("a", "b")), step("a"), step("b", needs=("a",))]
    told: list[tuple[str, float, str]] = []
    first = run(plan, store, tell=lambda *news: told.append(news))
    assert list(first) == ["c", "a", "b"]
    assert text(first["c"]) == "a a b c"
    assert [name for name, _, doing in told if doing == "starting"] == ["a", "b", "c"]
    assert [news for news in told if news[0] == "a"] == [
        ("a", 0.0, "starting"),
        ("a", 0.5, "writing"),
        ("a", 1.0, "done"),
    ]
    told.clear()
    second = run(plan, store, tell=lambda *news: told.append(news))
    assert told == [("a", 1.0, "cached"), ("b", 1.0, "cached"), ("c", 1.0, "cached")]
    for name, done in first.items():
        again = second[name]
        assert isinstance(done, Done)
        assert isinstance(again, Done)
        assert (again.path, again.facts, again.seconds) == (done.path, done.facts, done.seconds)
        assert (done.cached, again.cached) == (False, True)
        assert done.peak_memory_bytes == again.peak_memory_bytes > 1 << 20
        assert (done.path / "log.txt").read_text() == "wrote it\n"
    assert clean(store)
    assert capfd.readouterr() == ("", ""), "what tools print is the log's"


def test_whatever_a_result_depends_on_makes_it_anew(store: StepStore, tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("one")
    plan = [step("a", files={"source": source}), step("b", needs=("a",))]
    assert text(do(store, *plan)["b"]) == "one a b"
    source.write_text("two")
    assert text(do(store, *plan)["b"]) == "two a b"
    source.write_text("one")
    assert all(isinstance(o, Done) and o.cached for o in do(store, *plan).values())
    plan[0] = step("a", files={"source": source}, options={"text": "other"})
    assert text(do(store, *plan)["b"]) == "one other b"


def test_two_jobs_run_at_the_same_time(store: StepStore, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    outcomes = do(
        store,
        step("a", "meet", options={"mine": one, "theirs": two}),
        step("b", "meet", options={"mine": two, "theirs": one}),
        jobs=2,
    )
    assert all(isinstance(outcome, Done) for outcome in outcomes.values())


def test_memory_is_the_steps_own_and_scratch_is_swept(store: StepStore, tmp_path: Path) -> None:
    ballast = bytearray(200 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    done = do(store, step("a", "measure", options={"bytes": 100 << 20}), step("b", "name_environment"))
    a, b = done["a"], done["b"]
    assert isinstance(a, Done)
    assert 100 << 20 < a.peak_memory_bytes < 180 << 20
    assert isinstance(b, Done)
    assert b.facts["cwd"] == str(Path.cwd())
    code = "print(hash('the same each time'))"
    seed = {**os.environ, "PYTHONHASHSEED": "0"}
    asked = subprocess.run([sys.executable, "-c", code], env=seed, capture_output=True, text=True, check=True)
    assert b.facts["hash"] == int(asked.stdout)
    assert clean(store)


# What fails


def test_a_refusal_arrives_as_it_was_raised(store: StepStore) -> None:
    failed = failure(store, "refuse")
    error = failed.error
    assert isinstance(error, ConversionError)
    assert (error.step, error.operator, error.layer) == ("bad", "GridSample", "/neck/warp")
    assert str(error) == (
        "the target has no such operator: expected opset 20 or newer, got opset 17. Take another target"
    )
    assert failed.kind == "ConversionError"
    assert failed.traceback[-1].startswith("edge_runtime.contract.errors.ConversionError")
    assert failed.log is not None
    said = json.loads((failed.log.parent / "error.json").read_text())
    assert said["error"]["operator"] == "GridSample"


@pytest.mark.parametrize(
    ("function", "options", "kind", "word"),
    [
        ("raise_foreign", {}, "KeyError", "step 'bad' failed with KeyError: got 'node_12"),
        ("leave", {}, "SystemExit", "step 'bad': its tool gave up: got ERROR: this model is no good"),
        ("vanish", {"code": 3}, "Crash", "its process ended with exit code 3 and no result: got so long"),
        ("vanish", {"code": 0}, "Crash", "its process ended with exit code 0 and no result: got so long"),
        ("segfault", {}, "Crash", "step 'bad': its process was ended by SIGSEGV"),
        ("kill_itself", {"signal": signal.SIGABRT}, "Crash", "was ended by SIGABRT"),
        ("kill_itself", {"signal": signal.SIGKILL}, "Crash", "was ended by SIGKILL. Too little memory is"),
        ("answer_nonsense", {}, "TypeError", "PosixPath is not JSON serializable"),
        ("not_there", {}, "AttributeError", "has no attribute 'not_there'"),
    ],
)
def test_a_failure_is_one_line(
    function: str, options: dict[str, Any], kind: str, word: str, store: StepStore
) -> None:
    failed = failure(store, function, options=options)
    assert failed.kind == kind
    assert word in str(failed.error)
    assert str(failed.log) in str(failed.error)
    assert failed.log is not None
    assert failed.log.is_file()


def test_a_crash_shows_where_it_was(store: StepStore) -> None:
    log = failure(store, "segfault").log
    assert log is not None
    assert "in segfault" in log.read_text()


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_nobody_foresaw_costs_its_step_only_and_is_in_its_log(store: StepStore, jobs: int) -> None:
    outcomes = do(store, step("bad", "babble"), step("good"), step("above", needs=("bad",)), jobs=jobs)
    failed = outcomes["bad"]
    assert isinstance(failed, Failed)
    assert failed.kind == "JSONDecodeError"
    assert "step 'bad' failed in edge-runtime itself with JSONDecodeError: got Expecting value" in str(
        failed.error
    )
    assert isinstance(outcomes["good"], Done)
    assert outcomes["above"] == Skipped("bad")
    assert failed.log is not None
    log = failed.log.read_text()
    assert log.startswith("so far so good\nTraceback")
    assert "attempt.py" in log
    assert log.splitlines()[-1] == failed.traceback[-1]
    assert failed.traceback[-1].startswith("json.decoder.JSONDecodeError")
    assert json.loads((failed.log.parent / "error.json").read_text())["error"]["kind"] == "JSONDecodeError"
    assert clean(store)


def test_a_memory_limit_is_kept_and_said(store: StepStore) -> None:
    failed = failure(store, "hoard", memory_bytes=1 << 30)
    assert "step 'bad' needs more memory than it may take: expected at most 1024 MiB" in str(failed.error)


def test_a_bad_source_and_a_missing_tool_cost_their_step_only(store: StepStore, tmp_path: Path) -> None:
    failed = failure(store, "write", files={"source": tmp_path / "gone.onnx"})
    assert "its source" in str(failed.error)
    assert "gone.onnx cannot be read: got No such file" in str(failed.error)
    assert failed.log is None
    source = tmp_path / "source.txt"
    source.write_text("source")
    failed = failure(store, "spoil", files={"source": source})
    assert f"step 'bad': {source} changed while it was read. Run it again" in str(failed.error)
    outcomes = do(store, Step("x", HERE + "write", "caffe"), step("good"))
    assert isinstance(outcomes["x"], Failed)
    assert "tool 'caffe'" in str(outcomes["x"].error)
    assert isinstance(outcomes["good"], Done)


def test_a_killed_worker_leaves_nothing_that_is_used(store: StepStore, tmp_path: Path) -> None:
    plan = step("a", "die_once", options={"flag": str(tmp_path / "flag"), "text": "a"})
    assert isinstance(do(store, plan)["a"], Failed)
    assert text(do(store, plan)["a"]) == "a"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and a kernel that lets it")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_and_costs_no_earlier_result(small_disk: Path) -> None:
    store = StepStore(small_disk / "store")
    before = do(store, step("a"))["a"]
    outcomes = do(store, step("a"), step("big", "fill_disk", needs=("a",)), step("b", needs=("a",)))
    failed = outcomes["big"]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, StorageError)
    assert str(failed.error).startswith(f"step 'big': no room for its result in {store.folder}")
    assert outcomes["a"] == Done(**{**fields(before), "cached": True})
    assert text(outcomes["b"]) == "a b", "the room of what failed is free again"

    # Full before a step can begin.
    with (
        (small_disk / "ballast").open("wb", buffering=0) as ballast,
        pytest.raises(OSError, match="No space left"),
    ):
        while True:
            ballast.write(bytes(4096))
    failed = do(store, step("c"))["c"]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, StorageError)
    assert "No space left on device" in str(failed.error)
    assert str(store.folder) in str(failed.error)
    (small_disk / "ballast").unlink()
    assert text(do(store, step("a"), step("c", needs=("a",)))["c"]) == "a c"


def fields(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in type(outcome).__slots__}
