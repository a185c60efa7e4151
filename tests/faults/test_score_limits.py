"""`score` on a full disk, and on more than the memory holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulators.sentiment import sentiment_bundle

pytest.importorskip("pyarrow")
ROOT = Path(__file__).parents[2]

BEGIN = """
import resource, sys
from pathlib import Path
from edge_runtime.contract.errors import StorageError
from edge_runtime.scoring.files import Format
from edge_runtime.scoring.job import Job, run
from edge_runtime.scoring.model import Asked
from edge_runtime.scoring.plan import Limits

root = Path(sys.argv[1])

def work(table, form=Format.PARQUET, **more):
    job = Job(root / table, Asked(str(root / "model"), workers=1), root / f"{table}.out", form, **more)
    return run(job, stop=lambda: False, told=lambda _: None)
"""

FULL = """
(root / "t.jsonl").write_text('{"text": "good staff"}\\n' * 20_000)
form = Format(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    # Each part fits but the last one, whose rows are written together.
    work("t.jsonl", form, limits=Limits(rows=18_000))
except StorageError as error:
    print(error)
print(sorted(path.name for path in (root / "t.jsonl.out").iterdir() if "sqlite" not in path.name))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
report = work("t.jsonl", form, limits=Limits(rows=18_000))
print(report.rows, report.finished)
"""

LARGE = """
def rows(table, count):
    with (root / table).open("w") as lines:
        lines.write("id,text\\n")
        for row in range(count):
            lines.write(f"{row},{'good staff bad queue ' * 100}\\n")

rows("small.csv", 1000)
rows("large.csv", 30_000)
limits = Limits(rows=10_000)
work("small.csv", limits=limits)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = work("large.csv", limits=limits)
print(report.rows, (root / "large.csv").stat().st_size // 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def told(script: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
@pytest.mark.parametrize(("form", "limit"), [("jsonl", 500_000), ("parquet", 100_000)])
def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path, form: str, limit: int) -> None:
    sentiment_bundle(tmp_path / "model")
    refused, left, after = told(FULL, tmp_path, form, limit)
    assert "cannot be written" in refused
    assert "Free the disk" in refused
    assert left == "[]"
    assert after == "20000 True"


@pytest.mark.skipif(sys.platform != "linux", reason="counts the memory in other units")
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    sentiment_bundle(tmp_path / "model")
    first, grown = told(LARGE, tmp_path)
    rows, table_kib = map(int, first.split())
    assert rows == 30_000
    assert int(grown) < table_kib / 3
