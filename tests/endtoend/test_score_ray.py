"""`score` through Ray Data on a cluster of its own, in an environment of its own; run it with `-m rivals`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from tests.simulators.sentiment import sentiment_bundle
from tests.simulators.text_bundles import table_model, write_words

pytestmark = [pytest.mark.rivals, pytest.mark.timeout(900)]

KILLED = """
import os, signal, sys
from pathlib import Path
from edge_runtime.scoring.job import Job, run
from edge_runtime.scoring.model import Asked
from edge_runtime.scoring.plan import Limits

table, model, out = map(Path, sys.argv[1:])

def told(stage):
    if list(out.glob("part-*")):
        os.kill(os.getpid(), signal.SIGKILL)

job = Job(table, Asked(str(model), workers=2), out, on="ray", limits=Limits(rows=700))
run(job, stop=lambda: False, told=told)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The Python of an environment with Ray."""
    folder = tmp_path_factory.mktemp("score-venv")
    uv = (sys.executable, "-m", "uv")
    subprocess.run((*uv, "venv", "--quiet", "--python", sys.executable, str(folder)), check=True)
    found = folder / "bin" / "python"
    wanted = f"{repository}[onnx,litert,text,ray,tables]"
    subprocess.run((*uv, "pip", "install", "--quiet", "--python", str(found), "-e", wanted), check=True)
    return found


@pytest.fixture
def short() -> Iterator[str]:
    """A folder for Ray: the path of a socket has at most 107 characters."""
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield folder


def score(python: Path, short: str, *arguments: object) -> tuple[int, Any]:
    done = subprocess.run(
        (str(python), "-m", "edge_runtime", "score", *map(str, arguments), "--json"),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"RAY_TMPDIR": short, "PATH": str(python.parent)},
    )
    # Ray's own words may stand before it.
    return done.returncode, json.loads(done.stdout[done.stdout.index("{\n") :])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    lines = [line for part in sorted(folder.glob("*.jsonl")) for line in part.read_text().splitlines()]
    return [{**json.loads(line), "ms": None} for line in lines]


def test_pictures_recordings_and_their_tracks_are_what_they_are_here(
    python: Path, short: str, tmp_path: Path, shipped_clip: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for number in range(40):
        image = np.full((60, 80, 3), 5 * number, np.uint8)
        cv2.imwrite(str(store / f"{number:02d}.png"), image)
    (store / "bad.png").write_bytes(b"no picture")
    shutil.copy(shipped_clip, store / "clip.mp4")
    told = (store, "--model", "efficientdet-lite0", "--track", "--fps", 1, "--format", "jsonl")
    here = score(python, short, *told, "--out", tmp_path / "here")
    there = score(python, short, *told, "--out", tmp_path / "there", "--engine", "ray", "--workers", 2)
    assert (here[0], there[0]) == (4, 4)
    assert here[1]["rows"] == there[1]["rows"] > 41
    assert any(row["tracks"] for row in rows_of(tmp_path / "here"))
    # Both ways give float32; one of them by way of Arrow.
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")


def test_a_model_that_fails_on_ray_ends_the_job_as_it_does_here(
    python: Path, short: str, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    write_words(tmp_path / "model" / "tokenizer.json", ("good", "bad"))
    table = np.zeros((6, 3), np.float32)
    table[5] = np.nan  # of "bad"
    onnx.save(table_model(table, pooled=False), tmp_path / "model" / "model.onnx")
    (tmp_path / "task.yaml").write_text("kind: embedding\n")
    (tmp_path / "t.jsonl").write_text('{"text": "bad"}\n' * 100)
    told = ("--model", tmp_path / "model" / "model.onnx", "--task", tmp_path / "task.yaml", "--on", "ray")
    code, report = score(python, short, tmp_path / "t.jsonl", *told, "--workers", 1)
    assert code == 6
    assert "EngineError" in report["error"]["message"]


def test_a_job_that_is_killed_on_ray_goes_on_there_or_here(python: Path, short: str, tmp_path: Path) -> None:
    sentiment_bundle(tmp_path / "model")
    table = tmp_path / "t.csv"
    texts = [("good", "bad", "queue")[row % 3] for row in range(3000)]
    table.write_text("text\n" + "".join(f"{text}\n" for text in texts))
    for way in ("ray", "local"):
        out = tmp_path / way
        dead = subprocess.run(
            (str(python), "-c", KILLED, str(table), str(tmp_path / "model"), str(out)),
            capture_output=True,
            check=False,
            timeout=300,
            env={"RAY_TMPDIR": short, "PATH": str(python.parent)},
        )
        assert dead.returncode == -9, dead.stderr[-2000:]
        code, report = score(
            python, short, table, "--model", tmp_path / "model", "--out", out, "--on", way, "--workers", 2
        )
        assert (code, report["rows"]) == (0, 3000), report
        assert 0 < report["new_rows"] < 3000
        counted = subprocess.run(
            (
                str(python),
                "-c",
                "import sys, pyarrow.dataset as d; t = d.dataset(sys.argv[1]).to_table(); "
                "print(sorted(t['row'].to_pylist()) == list(range(3000)))",
                str(out),
            ),
            capture_output=True,
            text=True,
            check=True,
        )
        assert counted.stdout.strip() == "True"
