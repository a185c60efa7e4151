"""The process that counts is killed at every statement: nothing promised is lost, nothing counts twice."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.simulators.broker import wait_until

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, signal, sys
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo
from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import Entrance, Layout
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.recorder import CountsRecorder
from tests.simulators.shoppers import crossed, entered, left, scene

CLOCK = StoreClock(ZoneInfo("Europe/Berlin"))
DAY = date(2026, 11, 25)
OPENS_S = CLOCK.begin_s(DAY) + 5 * 3600
LAYOUT = Layout({"front": Entrance(("door", "front"), "in")}, frozenset({("till", "line")}))
LATER_S = OPENS_S + 3 * 86400
BATCHES = [
    [crossed(OPENS_S + at, "in", track=at) for at in range(4)],
    [entered(OPENS_S + 5, track=1), crossed(OPENS_S + 6, "out", track=1)],
    [left(OPENS_S + 80, 75.0, track=1), crossed(OPENS_S + 90, "out", track=2)],
]
NEXT = [crossed(LATER_S, "in", track=77)]
now = [OPENS_S]

def recorder(folder):
    return CountsRecorder(folder, CLOCK, LAYOUT, keep_days=400, now=lambda: now[0], steady=lambda: now[0])

def stand(made, seconds):
    for second in range(seconds + 1):
        made.show(scene("door", OPENS_S + second, [(0.5, 0.5)], began_s=OPENS_S))

def live(folder, die_at, say):
    # A day, and the next ones, until it is killed at its statement `die_at`; says what it promised.
    now[0], seen = OPENS_S, [0]
    made = recorder(folder)

    def trace(said):
        seen[0] += 1
        if seen[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    made._store._database.do(lambda connection: connection.set_trace_callback(trace))
    made._store.begin()
    for number, batch in enumerate(BATCHES):
        made.write(batch)
        say(f"kept {number}")
    stand(made, 10)
    made.tend()
    say("heat")
    now[0] = LATER_S
    made.write(NEXT)
    say("next")
    made.tend()
    say("closed")
    made.close()
    return seen[0]

def told(folder):
    reader = CountsReader(folder, CLOCK, lambda: LAYOUT, now=lambda: now[0])
    days = [reader.day(day) for day in (DAY, DAY + timedelta(days=3))]
    heat = {camera: float(grid.sum()) for camera, grid in reader.heat(DAY).items()}
    return days, heat

def forked(work):
    # Runs it in a child, which has no thread of this process; gives its exit status and what it said.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            work(lambda words: os.write(writing, (words + "\\n").encode()))
        except BaseException as error:
            os.write(writing, f"failed {error!r}\\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        lines = said.read().splitlines()
    return os.waitpid(child, 0)[1], lines

root = Path(sys.argv[1])
_, (statements,) = forked(lambda say: say(str(live(root / "whole", 0, lambda _: None))))
now[0] = LATER_S
wanted = told(root / "whole")
for die_at in range(1, int(statements) + 1):
    folder = root / str(die_at)
    status, kept = forked(lambda say: live(folder, die_at, say))
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (die_at, status, kept)
    now[0] = LATER_S if "next" in kept else OPENS_S
    if "kept 0" in kept:
        day = CountsReader(folder, CLOCK, lambda: LAYOUT, now=lambda: now[0]).day(DAY)
        passed = sum(day.entrances["front"].entered), sum(day.entrances["front"].left)
        promised = 4, ("kept 1" in kept) + ("kept 2" in kept)
        assert promised <= passed <= (4, 2), (die_at, kept, passed)
    # What was not acknowledged comes again, and so may what was.
    made = recorder(folder)
    made.start()
    if "next" not in kept:
        for batch in BATCHES:
            made.write(batch)
        if "heat" not in kept:
            before = made._kept_heat(DAY, "door")
            if before is None:
                stand(made, 10)
        made.tend()
    now[0] = LATER_S
    made.write(NEXT)
    made.tend()
    made.close()
    assert told(folder) == wanted, (die_at, kept)
print("statements", statements)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for each statement")
def test_killed_at_any_statement_the_counts_are_those_of_an_undisturbed_life(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    word, count = done.stdout.split()
    assert word == "statements"
    assert int(count) > 20


STORE = f"""
version: 1
site: test
models:
  people: {{bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}}
cameras:
  path:
    source: {ROOT / "edge_runtime" / "media" / "pedestrians.mp4"}
    model: people
    loop: true
    lines: {{path: {{from: [0.7, 0.2], to: [0.7, 0.8], a_to_b: in, b_to_a: out}}}}
counts: {{timezone: UTC, day_starts_at: "{(datetime.now(UTC) + timedelta(hours=12)).strftime("%H:00")}"}}
"""


def counted(store: Path) -> int:
    """Ask for today's crossings in a process of its own; 0 while there is no file yet."""
    command = [sys.executable, "-m", "edge_runtime", "counts", str(store), "--every", "day", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    said = json.loads(done.stdout)
    return sum(row["in"] + row["out"] for row in said.get("rows", ()))


def test_an_agent_that_is_killed_has_counted_what_others_read_meanwhile(tmp_path: Path) -> None:
    store = tmp_path / "store.yaml"
    store.write_text(STORE)
    read = list[int]()

    def enough() -> bool:
        read.append(counted(store))
        return read[-1] >= 3

    command = [sys.executable, "-m", "edge_runtime", "run", str(store), "--quiet"]
    agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        wait_until(enough, timeout_s=60)
        assert agent.poll() is None
    finally:
        agent.kill()
        agent.wait(30)
    assert counted(store) >= read[-1]
    assert read == sorted(read)


FULL = """
import resource, sys
from pathlib import Path
from edge_runtime.contract.errors import StorageError
from edge_runtime.counts.store import CountsStore, Moment
from tests.simulators.shoppers import crossed

def moments(first, count):
    return [Moment(number, 1000 * number, ("door", "front"), "in") for number in range(first, first + count)]

store = CountsStore(Path(sys.argv[1]))
print(store.add(moments(0, 10), ()))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    store.add(moments(10, 20_000), ())
except StorageError as error:
    print(error)
print(len(store.crossings(0, 1e9)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(store.add(moments(5, 20_005), ()), len(store.crossings(0, 1e9)))
store.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
def test_a_full_disk_keeps_what_it_has_and_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    first, refused, kept, after = done.stdout.splitlines()
    assert first == "10"
    assert "cannot keep counts" in refused
    assert "Free the disk" in refused
    assert kept == "10"
    assert after == "20000 20010"
