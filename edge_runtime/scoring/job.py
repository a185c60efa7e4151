"""A job: inputs, model, ledger and parts put together; everything that is left is answered and written.

Shows nothing: whoever starts it is told how it stands. What answers, and where, the `Way` knows.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_runtime.analytics.tracker import TrackerOptions
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import DetectionSpec, PictureSpec, TaskSpec
from edge_runtime.local_model import find_bundle, this_device
from edge_runtime.scoring.columns import LAST, Cells
from edge_runtime.scoring.files import Format, pyarrow, read_rows
from edge_runtime.scoring.following import Follower
from edge_runtime.scoring.inputs import Inventory, Kind, Source, find, take_stock
from edge_runtime.scoring.ledger import Known, Ledger
from edge_runtime.scoring.local import local_rows
from edge_runtime.scoring.model import Asked, Scorer, check_options
from edge_runtime.scoring.parts import Parts
from edge_runtime.scoring.plan import Gap, Limits, Span, gaps
from edge_runtime.scoring.tables import Table
from edge_runtime.scoring.work import LOCAL, SHARE, Pending, Way, Work, find_way

_LARGE = 100
"""Pictures from which on some dozen runs are spent to find the batch that pays."""
_NAMED = 5
"""Inputs that changed are named so far; the others are counted."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a person asks for.

    Args:
        path: The inputs.
        out: Folder of the results; None: beside the input.
        asked: The model.
        format: Of the results.
        fps: Frames a second of recordings; None: every one.
        column: Of tables; None: the usual one.
        on: Where the model runs.
        restart: Throw away what is there.
        limits: When a part is full.
    """

    path: Path
    asked: Asked
    out: Path | None = None
    format: Format = Format.PARQUET
    fps: float | None = None
    column: str | None = None
    on: str = LOCAL
    restart: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.out or self.path.resolve().with_name(f"{self.path.resolve().name}.scores")


@dataclass(frozen=True, slots=True)
class Stage:
    """How a job stands.

    Args:
        rows: Written or about to be, by this run.
        errors: Of them, those with an error.
        share: Of all inputs, by their bytes, in [0, 1].
        source: What is being read.
    """

    rows: int
    errors: int
    share: float
    source: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a job.

    Args:
        out: Folder of the results.
        finished: Whether nothing is left.
        rows: In the folder, of all runs.
        errors: Of them, those with an error.
        parts: Files in the folder.
        new_rows: Of this run.
        seconds: Of this run, without opening the model.
        changed: Names of inputs that changed since their rows were made, the first few.
        changed_count: How many.
        other_files: Of the folder, that are nothing to this model.
        model: Name of the bundle.
        version: Of the bundle.
        variant: That ran.
        engine: That ran it.
    """

    out: Path
    finished: bool
    rows: int
    errors: int
    parts: int
    new_rows: int
    seconds: float
    changed: tuple[str, ...]
    changed_count: int
    other_files: int
    model: str
    version: str
    variant: str
    engine: str


def run(job: Job, *, stop: Callable[[], bool], told: Callable[[Stage], None]) -> Report:
    """Do a job, or what is left of it.

    Args:
        job: What is wanted.
        stop: Asked after each batch: whether to put what is done in place and end.
        told: Called with every batch.

    Raises:
        ConfigError: The folder holds rows of another job, or an option is wrong.
        InputError: There is nothing to do.
        StorageError: The results cannot be written; what is in place stays.
        EdgeRuntimeError: The model does not open, or fails at everything.
    """
    bundle = find_bundle(job.asked.name, job.asked.task)
    texts = not isinstance(bundle.manifest.task, PictureSpec)
    _check(job, bundle.manifest.task)
    sources = find(job.path, texts=texts, avoid=job.folder)
    stock = take_stock(job.path, sources, texts=texts, avoid=job.folder)
    if texts and not job.path.is_dir():  # a column that is not there is said before the model is opened
        job = replace(job, column=Table(next(sources()), job.column).column)
    way = find_way(job.on, local_rows)
    ledger = Ledger(job.folder, f".{job.format}")
    try:
        scorer = Scorer(_for_tracking(job.asked), bundle)
        try:
            ledger.begin(_identity(job, scorer), restart=job.restart)
            return _Run(job, sources, stock, scorer, ledger).do(way, stop, told)
        finally:
            scorer.close()
    finally:
        ledger.close()


def _check(job: Job, task: TaskSpec) -> None:
    """Refuse what cannot be before anything is opened or written."""
    check_options(job.asked, task)
    texts = not isinstance(task, PictureSpec)
    if job.format is Format.PARQUET:
        pyarrow()
    if job.asked.track and job.format is Format.CSV:
        raise ConfigError("--track", expected="--format parquet or jsonl", got="csv")
    if texts and job.fps is not None:
        raise ConfigError("--fps", expected="recordings", got="texts")
    if not texts and job.column is not None:
        raise ConfigError("--column", expected="a model of texts", got="a model of pictures")


def _for_tracking(asked: Asked) -> Asked:
    """Have weak detections found, too: they continue tracks."""
    if not asked.track or asked.min_score is not None:
        return asked
    return replace(asked, min_score=TrackerOptions().low_score)


def _identity(job: Job, scorer: Scorer) -> dict[str, str]:
    told = {"fps": job.fps, "column": job.column}
    options = {name: str(value) for name, value in told.items() if value is not None}
    return {**scorer.identity, "input": str(job.path.resolve()), "format": job.format, **options}


class _Run:
    """One run of a job: what is left goes to a way, and its rows into parts."""

    def __init__(
        self,
        job: Job,
        sources: Callable[[], Iterator[Source]],
        stock: Inventory,
        scorer: Scorer,
        ledger: Ledger,
    ) -> None:
        self._job = job
        self._sources = sources
        self._stock = stock
        self._scorer = scorer
        self._ledger = ledger
        self._open: dict[str, Source] = {}
        self._aside: list[Cells] = []
        self._changed: list[str] = []
        self._changed_count = self._done_bytes = self._rows = self._errors = 0
        task = scorer.task
        labels = task.labels if isinstance(task, DetectionSpec) else ()
        self._follower = Follower(labels, self._stored) if job.asked.track else None
        self._parts = Parts(ledger, job.format, scorer.columns, job.limits, time.monotonic)

    def do(self, way: Way, stop: Callable[[], bool], told: Callable[[Stage], None]) -> Report:
        """Do all that is left, or what comes before the wish to stop."""
        began, finished = time.perf_counter(), True
        rows = way(self._work())
        try:
            for some in rows:
                self._take(some)
                told(self._stage(some[-1]))
                if stop():
                    finished = False
                    break
            self._take(self._aside)
            self._parts.commit()
        finally:
            self._parts.abandon()
            rows.close()
        return self._report(finished=finished, seconds=time.perf_counter() - began)

    def _work(self) -> Work:
        pictures = self._stock.sources - self._stock.recordings
        return Work(
            self._pending,
            self._scorer,
            _for_tracking(self._job.asked),
            # A camera may be looked at by its key frames; here a frame is a frame.
            this_device("auto").decoding.model_copy(update={"frames": "all"}),
            self._job.fps,
            self._job.column,
            large=pictures >= _LARGE or self._stock.recordings > 0,
        )

    def _pending(self) -> Iterator[Pending]:
        for source in self._sources():
            known = self._ledger.known(source.name)
            left = (Gap(0, None),) if known is None else self._left(source, known)
            if left:
                self._open[source.name] = source
                yield Pending(source, left)
            else:
                self._done_bytes += source.size_bytes

    def _left(self, source: Source, known: Known) -> tuple[Gap, ...]:
        """Say what is left of an input that was begun; of one that changed in the middle, nothing is."""
        left = gaps(known.spans)
        if (source.size_bytes, source.mtime_ns) == (known.size_bytes, known.mtime_ns):
            return left
        self._note_change(source)
        if not left:
            return left
        self._open[source.name] = source
        first = left[-1].first
        error = f"it changed when {first} of its rows were done; they are of what it was before"
        self._aside.append(
            {"source": source.name, "row": first, "error": error, **self._scorer.facts, LAST: True}
        )
        return ()

    def _take(self, rows: list[Cells]) -> None:
        for row in rows:
            source = self._open[row["source"]]
            if self._follower is not None and source.kind is Kind.RECORDING:
                self._follower.follow(row)
            self._parts.add(row, source)
            self._rows += 1
            self._errors += row.get("error") is not None
            if row[LAST]:
                self._close(source)

    def _close(self, source: Source) -> None:
        del self._open[source.name]
        self._done_bytes += source.size_bytes
        if source.kind is not Kind.PICTURE and source.again() != source:
            self._note_change(source)

    def _note_change(self, source: Source) -> None:
        self._changed_count += 1
        if len(self._changed) < _NAMED:
            self._changed.append(source.name)

    def _stored(self, name: str) -> Iterator[Cells]:
        """Read a recording's rows that are in place, in their order."""
        known = self._ledger.known(name)
        places = [] if known is None else sorted(zip(known.spans, known.parts, strict=True), key=_first)
        wanted = ("source", "row", "pts_ns", "detections")
        for span, part in places:
            for row in read_rows(self._job.format, self._ledger.path(part), wanted):
                if row["source"] == name and span.first <= row["row"] < span.end:
                    yield row

    def _stage(self, row: Cells) -> Stage:
        source = self._open.get(row["source"])
        reading = 0.0 if source is None else row[SHARE] * source.size_bytes
        share = min((self._done_bytes + reading) / max(self._stock.size_bytes, 1), 1.0)
        return Stage(self._rows, self._errors, share, row["source"])

    def _report(self, *, finished: bool, seconds: float) -> Report:
        standing = self._ledger.standing()
        return Report(
            out=self._job.folder,
            finished=finished,
            rows=standing.rows,
            errors=standing.errors,
            parts=standing.parts,
            new_rows=self._rows,
            seconds=seconds,
            changed=tuple(self._changed),
            changed_count=self._changed_count,
            other_files=self._stock.others,
            **self._scorer.facts,
        )


def _first(place: tuple[Span, int]) -> int:
    return place[0].first
