"""Environments of isolated tools, made of a wheel that the test writes: no package index is asked."""

import json
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from converters.environments import AbandonedError, cache_folder, check_tool, prepare
from converters.runner import Done, run
from converters.step import Step
from converters.store import StepStore
from converters.toolchain import TOOLS, Tool
from edge_runtime.contract.errors import ConversionError, StorageError

SEES = """
import importlib.util, tiny
assert tiny.VALUE == 7
assert (importlib.util.find_spec("hypothesis") is not None) is {beneath}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A package of one module, and a pydantic that hides the real one."""
    path = tmp_path_factory.mktemp("wheels") / "tiny-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        "tiny.py": "VALUE = 7\n",
        "tiny-1.0.dist-info/METADATA": metadata,
        "tiny-1.0.dist-info/WHEEL": kind,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("tiny-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    return str(path)


def quiet(share: float, doing: str) -> None:
    pass


def own(wheel: str) -> Tool:
    return Tool("tiny", "own", (wheel,), ("tiny",), SEES.format(beneath=False))


def overlay(wheel: str) -> Tool:
    return Tool("tiny-over", "overlay", (wheel,), ("tiny",), SEES.format(beneath=True), over=("base",))


def test_an_environment_is_made_once_and_tried(wheel: str, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    launch = prepare(own(wheel), tell=lambda *news: told.append(news), cache=tmp_path)
    assert told[0] == (0.0, "making the environment of 'tiny', once")
    assert told[-1] == (1.0, "made the environment of 'tiny'")
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    home = Path(launch.command[0]).parents[1]
    mark = json.loads((home / "ready.json").read_text())
    assert mark["tool"] == "tiny"
    assert mark["size_bytes"] > 0
    assert prepare(own(wheel), tell=pytest.fail, cache=tmp_path) == launch  # type: ignore[arg-type]

    # One without its mark was never finished, whatever is in it.
    (home / "ready.json").unlink()
    (home / "left-over").write_text("x")
    prepare(own(wheel), tell=quiet, cache=tmp_path)
    assert (home / "ready.json").is_file()
    assert not (home / "left-over").exists()


@pytest.mark.parametrize("kind", [own, overlay])
def test_a_step_runs_among_our_code_and_its_tools(kind, wheel: str, tmp_path: Path) -> None:
    tool = kind(wheel)
    step = Step("s", "tests.simulators.isolated:look", tool.name)
    tools = {**TOOLS, tool.name: tool}
    outcomes = run([step], StepStore(tmp_path / "store"), tell=lambda *_: None, tools=tools, cache=tmp_path)
    done = outcomes["s"]
    assert isinstance(done, Done), done
    assert Path(str(done.facts["prefix"])).parent == tmp_path
    assert done.facts["tiny"] == 7
    assert done.facts["hypothesis"] is (tool.isolation == "overlay")
    repository = Path(__file__).parents[2]
    assert Path(str(done.facts["errors"])) == repository / "edge_runtime/contract/errors.py"


def test_a_tool_that_cannot_be_had_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    tool = Tool("gone", "own", (str(tmp_path / "gone-1.0-py3-none-any.whl"),), ("gone",), "import gone")
    with pytest.raises(ConversionError, match=r"tool 'gone': its environment could not .*gone-1\.0"):
        prepare(tool, tell=quiet, cache=tmp_path / "cache")
    assert [path.suffix for path in sorted((tmp_path / "cache").iterdir())] == [".lock", ".log"]


def test_a_tool_that_does_not_work_here_is_said(wheel: str, tmp_path: Path) -> None:
    broken = Tool("broken", "own", (wheel,), ("tiny",), "import tiny\nraise RuntimeError('needs AVX-512')")
    with pytest.raises(ConversionError, match="'broken' does not work on this machine: got RuntimeError"):
        prepare(broken, tell=quiet, cache=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    here = Tool("here", "in-process", (), (), "raise OSError('no such kernel')")
    with pytest.raises(ConversionError, match="'here' does not work on this machine: got OSError: no such k"):
        check_tool(here, tell=quiet, cache=tmp_path)
    check_tool(TOOLS["base"], tell=quiet, cache=tmp_path)


def test_giving_up_stops_the_making(wheel: str, tmp_path: Path) -> None:
    stop = threading.Event()
    slow = Tool("slow", "own", (), (), "import time; time.sleep(600)")

    def tell(share: float, doing: str) -> None:
        if doing.startswith("trying"):
            stop.set()

    with pytest.raises(AbandonedError):
        prepare(slow, tell=tell, stop=stop, cache=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


MAKER = """
import sys
from pathlib import Path
from converters.environments import prepare
from converters.toolchain import Tool
tool = Tool("slow", "own", (), (), f"from pathlib import Path; import time\\n"
    f"with Path({sys.argv[2]!r}).open('a') as f: f.write('tried ')\\n"
    f"while Path({sys.argv[3]!r}).exists(): time.sleep(0.05)")
prepare(tool, tell=lambda share, doing: print(doing, flush=True), cache=Path(sys.argv[1]))
"""


def test_two_processes_make_one_and_a_killed_one_is_made_again(tmp_path: Path) -> None:
    tries, hold = tmp_path / "tries", tmp_path / "hold"
    hold.touch()
    command = [sys.executable, "-c", MAKER, str(tmp_path / "cache"), str(tries), str(hold)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with start() as first:
        assert first.stdout is not None
        while "trying" not in first.stdout.readline():
            pass
        while not tries.exists():
            pass
        with start() as second:
            assert second.stdout is not None
            assert "waiting for another process" in second.stdout.readline()
            first.send_signal(signal.SIGKILL)
            # The smoke test of the killed one still runs, and must not meet another one in its place.
            hold.unlink()
            assert "making the environment of 'slow'" in second.stdout.readline()
            assert second.wait(60) == 0
    assert tries.read_text() == "tried tried "
    assert len(list((tmp_path / "cache").glob("slow-*/ready.json"))) == 1


def test_the_cache_is_where_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("EDGE_RUNTIME_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "xdg" / "edge-runtime"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/edge-runtime")


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tool = Tool("any", "own", (), (), "pass")
    with pytest.raises(StorageError, match=r"tool 'any': cannot make its env.*EDGE_RUNTIME_CACHE"):
        prepare(tool, tell=quiet, cache=tmp_path / "file")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
