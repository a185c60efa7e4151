"""`score` is killed at every write: called again, it gives the rows of a life without a death, each once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulators.sentiment import sentiment_bundle

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from edge_runtime.scoring.files import Format
from edge_runtime.scoring.job import Job, run
from edge_runtime.scoring.model import Asked
from edge_runtime.scoring.plan import Limits
import pyarrow.parquet as parquet

root, form, rows = Path(sys.argv[1]), Format(sys.argv[2]), int(sys.argv[3])
WRITES = {"open", "write", "flush", "fsync", "rename", "replace", "unlink", "mkdir", "close", "execute",
          "executemany", "executescript"}

table = root / "comments.jsonl"
words = ("good", "bad", "queue", "kind")
with table.open("w") as lines:
    for row in range(rows):
        lines.write("not JSON" if row == 3 else json.dumps({"text": f"{words[row % 4]} staff"}))
        lines.write("\\n")

def work(out):
    job = Job(table, Asked(str(root / "model"), engine="onnxruntime", workers=1), out, form,
              limits=Limits(rows=4))
    return run(job, stop=lambda: False, told=lambda _: None)

def told(out):
    # Every part that is in place, in the order of their numbers; how long a row took is nobody's promise.
    found = []
    for path in sorted(out.glob(f"part-*.{form}")):
        if form is Format.PARQUET:
            found += parquet.read_table(path, partitioning=None).to_pylist()
        else:
            found += [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: cell for name, cell in row.items() if name != "ms"} for row in found]

def forked(action):
    # A process of its own for each life: threads of an engine do not survive a fork.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        code = 1
        try:
            os.write(writing, str(action()).encode())
            code = 0
        except BaseException as error:
            os.write(writing, repr(error).encode())
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        words = said.read()
    return os.waitpid(child, 0)[1], words

def live(out, die_at):
    seen = 0

    def watch(frame, event, called):
        nonlocal seen
        # What this thread writes with, from the first moment of the folder on.
        if event == "c_call" and called.__name__ in WRITES and "edge_runtime" in caller(frame):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def caller(frame):
        name = frame.f_code.co_filename
        return name if "pathlib" not in name or frame.f_back is None else frame.f_back.f_code.co_filename

    sys.setprofile(watch)
    work(out)
    sys.setprofile(None)
    return seen

status, said = forked(lambda: live(root / "whole", 0))
assert status == 0, said
writes, wanted = int(said), told(root / "whole")
assert [row["row"] for row in wanted] == list(range(rows)), wanted
kept = 0
for die_at in range(1, writes + 1):
    out = root / f"killed-{die_at}"
    status, said = forked(lambda: live(out, die_at))
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (die_at, status, said)
    before = told(out)
    assert before == wanted[: len(before)], die_at
    kept += len(before) > 0
    status, said = forked(lambda: work(out).new_rows)
    assert status == 0, (die_at, said)
    assert int(said) == rows - len(before), (die_at, said)
    assert told(out) == wanted, die_at
    assert not [*out.glob(".*")], die_at
print(writes, kept)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for each life")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("form", "rows"), [("jsonl", 14), ("parquet", 7)])
def test_killed_at_any_write_and_called_again_every_row_is_there_once(
    tmp_path: Path, form: str, rows: int
) -> None:
    sentiment_bundle(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), form, str(rows)],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    writes, kept = map(int, done.stdout.split())
    assert writes > 20
    assert kept > 10


TRACKED = """
import os, signal, sys
from pathlib import Path
from edge_runtime.scoring.job import Job, run
from edge_runtime.scoring.model import Asked
from edge_runtime.scoring.plan import Limits

clip, out, die_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def told(stage):
    if stage.rows == die_at:
        os.kill(os.getpid(), signal.SIGKILL)

job = Job(clip, Asked("efficientdet-lite0", track=True), out, fps=1.0, limits=Limits(rows=15))
print(run(job, stop=lambda: False, told=told).new_rows)
"""


def test_identities_go_on_after_a_kill_in_the_middle_of_a_recording(
    tmp_path: Path, shipped_clip: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    def life(out: str, die_at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", TRACKED, str(shipped_clip), str(tmp_path / out), str(die_at)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=ROOT)

    def tracks(out: str) -> list[tuple[int, object]]:
        parts = [parquet.read_table(path) for path in sorted((tmp_path / out).glob("part-*"))]
        return [(row["row"], row["tracks"]) for part in parts for row in part.to_pylist()]

    assert life("whole", 0).stdout.strip() == "80"
    assert any(found for _, found in tracks("whole"))
    assert [life("killed", die_at).returncode for die_at in (37, 20)] == [-9, -9]
    last = life("killed", 0)
    assert last.stdout.strip() == "35", (
        last.stderr
    )  # 30 rows were in place after one kill, 15 after the other
    assert tracks("killed") == tracks("whole")
