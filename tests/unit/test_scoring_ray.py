"""The way through Ray Data, by a Ray that runs its actors in this process; the real one is in the rivals."""

import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_fallback.scoring.ray_data import ray_rows
from edge_runtime.contract.errors import ConfigError, EngineError
from edge_runtime.scoring.job import Job, Report, run
from edge_runtime.scoring.model import Asked
from edge_runtime.scoring.work import Work
from tests.simulators.sentiment import sentiment_bundle

parquet = pytest.importorskip("pyarrow.parquet")


class RayError(Exception):
    """What Ray raises for whatever happened in a worker."""


class FakeData:
    """The part of a dataset that a job uses: lazy, in order, one unit at a time."""

    def __init__(self, rows: Iterator[Mapping[str, Any]], breaks: bool) -> None:
        self.context = SimpleNamespace(execution_options=SimpleNamespace())
        self._rows = rows
        self._breaks = breaks

    def map_batches(self, actor: Any, *, fn_constructor_args: tuple[Any, ...], **_: Any) -> "FakeData":
        made = actor(*fn_constructor_args)
        tables = (table for row in self._rows for table in made({name: [cell] for name, cell in row.items()}))
        return FakeData(tables, self._breaks)

    def iter_batches(self, **_: Any) -> Iterator[Any]:
        yield from self._rows
        if self._breaks:
            raise RayError(
                "ray::Actor\nTraceback\nedge_runtime.contract.errors.EngineError: NaN\nTo retry, …"
            )


class FakeRay:
    """A cluster of one process."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, breaks: bool = False) -> None:
        self.up = False
        self.told: list[str] = []
        self.data = SimpleNamespace(
            from_items=lambda rows, override_num_blocks: FakeData(iter(rows), breaks),
            ActorPoolStrategy=lambda size: self.told.append(f"{size} actors"),
        )

    def is_initialized(self) -> bool:
        return self.up

    def init(self, **_: Any) -> None:
        self.up = True
        self.told.append("up")

    def shutdown(self) -> None:
        self.up = False
        self.told.append("down")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    return installed(FakeRay(), monkeypatch)


def installed(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)  # type: ignore[arg-type]
    return ray


def job(tmp_path: Path, out: str, **more: Any) -> Job:
    if not (tmp_path / "model").exists():
        sentiment_bundle(tmp_path / "model")
        lines = [f'{{"text": "{("good", "bad")[row % 2]}"}}' for row in range(2000)]
        lines[700] = "broken"
        (tmp_path / "t.jsonl").write_text("\n".join(lines))
    return Job(tmp_path / "t.jsonl", Asked(str(tmp_path / "model")), tmp_path / out, **more)


def done(some: Job) -> Report:
    return run(some, stop=lambda: False, told=lambda _: None)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    return [{**row, "ms": None} for row in rows]


def test_the_rows_are_those_of_this_process(tmp_path: Path, ray: FakeRay) -> None:
    here, there = done(job(tmp_path, "here")), done(job(tmp_path, "there", on="ray"))
    assert (there.rows, there.errors) == (here.rows, here.errors) == (2000, 1)
    assert rows_of(tmp_path / "there") == rows_of(tmp_path / "here")
    # As many actors as the cluster has processors, and never more than there is work.
    assert ray.told == ["up", "3 actors", "down"]


def test_a_cluster_that_was_there_stays(tmp_path: Path, ray: FakeRay) -> None:
    ray.init()
    done(job(tmp_path, "out", on="ray"))
    assert ray.up


def test_what_a_worker_raised_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = installed(FakeRay(breaks=True), monkeypatch)
    with pytest.raises(EngineError, match="EngineError: NaN"):
        done(job(tmp_path, "out", on="ray"))
    assert not ray.up
    assert not list((tmp_path / "out").glob("part-*"))


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
def test_where_ray_is_missing_it_is_said() -> None:
    work = Work(lambda: iter(()), None, Asked("model"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"edge-runtime\[ray,tables\]"):
        next(ray_rows(work))
