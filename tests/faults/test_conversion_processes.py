"""Processes of conversions: none outlives its runner, none is started for a kept one; any may be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.runner import Done, Failed, run
from converters.step import Step
from converters.store import StepStore

HANG = "tests.simulators.steps:hang"
REPOSITORY = Path(__file__).parents[2]


def clean(store: StepStore) -> bool:
    return not [path for path in (store.folder / ".new").iterdir() if path.is_dir()]


def python(code: str, *args: str) -> subprocess.Popen[str]:
    path = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", code, *args], env=path, stdout=subprocess.PIPE, text=True)


def wait_gone(pids: Path) -> None:
    """Wait until the processes whose numbers are in a file are gone."""
    deadline = time.monotonic() + 30
    for pid in pids.read_text().split():
        while running(pid):
            assert time.monotonic() < deadline, f"{pid} still runs"
            time.sleep(0.01)


def running(pid: str) -> bool:
    try:
        # A zombie has ended; whoever adopted it has not looked yet.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


CACHED = """
import sys
from pathlib import Path
from converters.runner import run
from converters.step import Step
from converters.store import StepStore

plan = [Step(name, "tests.simulators.steps:write", "base", {"text": name}) for name in "abc"]
store = StepStore(Path(sys.argv[1]))
run(plan, store, tell=lambda *_: None)

def refuse(event, _):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "_thread.start_new_thread"):
        raise RuntimeError(event)

sys.addaudithook(refuse)
print(*(outcome.cached for outcome in run(plan, store, tell=lambda *_: None).values()))
"""


def test_a_cached_run_starts_no_process(tmp_path: Path) -> None:
    done = python(CACHED, str(tmp_path))
    assert done.communicate(timeout=60) == ("True True True\n", None)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_step_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pids, store = tmp_path / "pids", StepStore(tmp_path / "store")
    hanging = Step("bad", HANG, "base", {"pids": str(pids)}, timeout_s=90)

    def clock() -> float:
        return 100.0 if pids.exists() else 0.0

    failed = run([hanging], store, tell=lambda *_: None, clock=clock)["bad"]
    assert isinstance(failed, Failed)
    assert failed.kind == "Timeout"
    assert "step 'bad' was ended: expected a result within 1.5 minutes, got none" in str(failed.error)
    wait_gone(pids)
    assert clean(store)


HANGING = """
import sys
from pathlib import Path
from converters.runner import run
from converters.step import Step
from converters.store import StepStore

step = Step("hang", "tests.simulators.steps:hang", "base", {"pids": sys.argv[2]})
run([step], StepStore(Path(sys.argv[1])), tell=lambda *_: None)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_runner(number: signal.Signals, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    runner = python(HANGING, str(tmp_path / "store"), str(pids))
    while not pids.exists():
        assert runner.poll() is None
        time.sleep(0.01)
    runner.send_signal(number)
    runner.communicate(timeout=30)
    assert runner.returncode == {signal.SIGTERM: 128 + signal.SIGTERM}.get(number, -number)
    wait_gone(pids)
    store = StepStore(tmp_path / "store")
    assert clean(store) or number == signal.SIGKILL
    good = Step("good", "tests.simulators.steps:write", "base")
    assert isinstance(run([good], store, tell=lambda *_: None)["good"], Done)
    assert clean(store)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from converters.runner import Done, run
from converters.step import Step
from converters.store import StepStore

root = Path(sys.argv[1])
step = Step("a", "tests.simulators.steps:write", "base", {"text": "a"}, files={"source": Path(sys.argv[2])})
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "shutil.rmtree"}


def die_at(point, folder):
    # An audit hook hears of every change of the disk just before it is made; of fsync it does not.
    left = point

    def count(what):
        nonlocal left
        left -= 1
        if left == 0:
            (root / f"{point}.what").write_text(what)
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event, args):
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and left > 0 and str(folder) in str(args[0]):
            count(f"{event} {args[0]}")

    fsync = os.fsync
    os.fsync = lambda descriptor: (count("fsync"), fsync(descriptor))
    sys.addaudithook(hear)


def walk(folder, point=0):
    child = os.fork()
    if child == 0:
        if point:
            die_at(point, folder)
        done = run([step], StepStore(folder), tell=lambda *_: None)["a"]
        good = isinstance(done, Done) and (done.path / "text.txt").read_text() == "source a"
        os._exit(0 if good else 1)
    return os.waitpid(child, 0)[1]


point = 0
while True:
    point += 1
    folder = root / str(point)
    StepStore(folder)
    status = walk(folder, point)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    what = (root / f"{point}.what").read_text()
    for result in folder.glob("?" * 64):
        assert json.loads((result / "facts.json").read_text()), what
        assert json.loads((result / "run.json").read_text()), what
        assert (result / "text.txt").read_text() == "source a", what
    assert walk(folder) == 0, what
    assert not [path for path in (folder / ".new").iterdir() if path.is_dir()], what
    print(what.replace(str(folder), ""))
"""


def test_a_runner_killed_at_any_change_of_the_disk_goes_on_from_whole_results(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("source")
    os.utime(source, ns=(0, 0))
    nest = python(KILLED, str(tmp_path), str(source))
    points = nest.communicate(timeout=100)[0].splitlines()
    assert nest.returncode == 0
    kinds = {point.split()[0] for point in points}
    assert kinds >= {"open", "fsync", "os.rename", "os.mkdir", "shutil.rmtree"}
    assert sum(point == "fsync" for point in points) >= 6, "four files, their folder, and the one above"
