"""The model of a job: opened once, asked by several threads, and its answers as rows. Reads no input."""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.errors import BundleError, ConfigError, EdgeRuntimeError, EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Message, Prompt, Sampling
from edge_runtime.contract.result import Embedding
from edge_runtime.contract.task import DetectionSpec, GenerationSpec, PictureSpec, TaskSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.local_model import (
    LocalModel,
    find_bundle,
    open_any_model,
    open_model,
    this_device,
    variant_of,
)
from edge_runtime.predict import Predictor, measure_batches
from edge_runtime.scoring.columns import LAST, Cells, Columns, cells_of, columns_for
from edge_runtime.scoring.pictures import Item

TEXTS_AT_ONCE = 16
"""Texts that one thread answers before it comes back for more: handing over costs more than a small model."""
_IN_A_ROW = 32
"""Failures of the model, not of its input, one after the other, until it is believed to be broken."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job wants of its model. Travels to other machines.

    Args:
        name: A bundle's name or folder.
        task: Of a bare model file.
        engine: Only this engine; None: the best one.
        min_score: Of pictures: answers below are left out; None: as the task declares.
        track: Give the objects of recordings identities.
        sampling: Of a model that generates: how.
        workers: Threads that run the model at the same time; None: one a processor.
    """

    name: str
    task: TaskSpec | None = None
    engine: str | None = None
    min_score: float | None = None
    track: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    workers: int | None = None


class Scorer:
    """An opened, warm model. `answer` may be called from several threads at once.

    Attributes:
        task: What the model does.
        columns: Of the rows.
        facts: Name, version, variant and engine: the cells that all rows share.
        identity: What must be the same for rows to belong together, for a person to read.
        batch: Items that `answer` is best given at once.
    """

    def __init__(self, asked: Asked, bundle: ModelBundle | None = None) -> None:
        """Open the model.

        Args:
            asked: What is wanted.
            bundle: It, where somebody has it open already.

        Raises:
            EdgeRuntimeError: It does not open or run, or an option is for another kind of model.
        """
        bundle = bundle or find_bundle(asked.name, asked.task)
        check_options(asked, bundle.manifest.task)
        options, profile = EngineOptions(callers=asked.workers or usual_workers()), this_device("auto")
        pictures = isinstance(bundle.manifest.task, PictureSpec)
        if pictures:
            model = open_model(bundle, profile, options, engine=asked.engine, min_score=asked.min_score)
        else:
            model = open_any_model(bundle, profile, options, engine=asked.engine)
        self._predictor: Any = model.predictor
        self._together: Predictor[Any] | None = None
        if isinstance(model, LocalModel):
            self._together = model.predictor
        self._asked = asked
        self._failures = 0
        try:
            sample = self._predictor.warm_up()
        except BaseException:
            self._predictor.close()
            raise
        self.task: TaskSpec = bundle.manifest.task_of(variant_of(bundle, model.choice))
        vector = len(sample.vector) if isinstance(sample, Embedding) else 0
        self.columns: Columns = columns_for(self.task, track=asked.track, vector=vector)
        self.batch = 1 if pictures else TEXTS_AT_ONCE
        manifest, choice = bundle.manifest, model.choice
        self.facts: Cells = {
            "model": manifest.name,
            "version": manifest.version,
            "variant": choice.variant,
            "engine": choice.engine,
        }
        self.identity: dict[str, str] = {
            **self.facts,
            "the model's file": variant_of(bundle, choice).sha256,
            "tokenizer": manifest.tokenizer.sha256 if manifest.tokenizer else "",
            "task": hashlib.sha256(self.task.model_dump_json().encode()).hexdigest(),
            "provider": model.session.provider,
            **_options(asked),
        }

    def measure(self) -> None:
        """Find the batch that pays here; takes some dozen runs."""
        if self._together is not None:
            self.batch = measure_batches(self._together)

    def answer(self, items: Sequence[Item]) -> list[Cells]:
        """Answer some items, together where they are pictures.

        Returns:
            A row for each, in their order; one that is broken or is refused has `error` set.

        Raises:
            EdgeRuntimeError: The model fails at everything.
        """
        whole = [item for item in items if item.value is not None]
        answered = iter(self._answers(whole))
        return [self._row(item, *next(answered) if item.value is not None else ({}, None)) for item in items]

    def close(self) -> None:
        """Give the model's memory back; waits for answers under way."""
        self._predictor.close()

    def _answers(self, items: Sequence[Item]) -> list[tuple[Cells, float | None]]:
        if len(items) > 1 and self._together is not None:
            began = time.perf_counter()
            try:
                answers = self._together.predict_many([cast("Picture", item.value) for item in items])
            except EdgeRuntimeError:
                pass  # one of them: each is asked alone, and tells
            else:
                self._failures = 0
                ms = (time.perf_counter() - began) * 1e3 / len(items)
                return [(cells_of(answer), ms) for answer in answers]
        return [self._alone(item) for item in items]

    def _alone(self, item: Item) -> tuple[Cells, float | None]:
        began = time.perf_counter()
        try:
            answer: Any = self._predictor.predict(self._value(item))
        except EdgeRuntimeError as error:
            if isinstance(error, EngineError | BundleError):
                self._failures += 1
                if self._failures >= _IN_A_ROW:
                    raise
            return {"error": str(error)}, None
        self._failures = 0
        return cells_of(answer), (time.perf_counter() - began) * 1e3

    def _value(self, item: Item) -> Any:
        if not isinstance(self.task, GenerationSpec):
            return item.value
        text = str(item.value)
        if self.task.chat_template is None:
            return Prompt(text=text, sampling=self._asked.sampling)
        return Prompt(messages=(Message("user", text),), sampling=self._asked.sampling)

    def _row(self, item: Item, cells: Cells, ms: float | None) -> Cells:
        row: Cells = {"source": item.source.name, "row": item.row, "pts_ns": item.pts_ns, LAST: item.last}
        if isinstance(item.value, Picture):
            row |= {"height": item.value.height, "width": item.value.width}
        if item.error:
            row["error"] = item.error
        return {**row, **cells, "ms": ms, **self.facts}


def usual_workers() -> int:
    """Give how many threads run the model where nobody says: one a processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_options(asked: Asked, task: TaskSpec) -> None:
    """Refuse options that are for another kind of model.

    Raises:
        ConfigError: One is.
    """
    refused = {
        "--min-score": (asked.min_score is not None, isinstance(task, PictureSpec), "a model of pictures"),
        "--track": (asked.track, isinstance(task, DetectionSpec), "a detector"),
        "--max-tokens, --temperature, --top-p, --seed and --stop": (
            asked.sampling != Sampling(),
            isinstance(task, GenerationSpec),
            "a model that generates",
        ),
    }
    for option, (given, fits, wanted) in refused.items():
        if given and not fits:
            raise ConfigError(option, expected=wanted, got=f"a model of kind '{task.kind}'")


def _options(asked: Asked) -> dict[str, str]:
    told = {"min-score": asked.min_score, "track": asked.track or None}
    sampling = asked.sampling
    if sampling != Sampling():
        told |= {"sampling": sampling}
    return {name: str(value) for name, value in told.items() if value is not None}
