"""Predictor: a task and a session together, the whole local prediction.

Chooses no engine and opens no file; whoever makes it does. Measures time only to find out, once, whether
pictures are cheaper together than alone.
"""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Generic, TypeVar

import numpy as np

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.base import Session
from edge_runtime.tasks.base import Task, Undo

Out = TypeVar("Out")

BATCH_SIZES = (1, 2, 4, 8)
"""What is measured to find the batch that pays."""

_PAYS = 0.85
"""A batch has to save 15 % a picture before it is worth a picture's waiting for others."""

_USUAL_SIZE = (720, 1280)
"""Height and width of the picture to warm up with when nobody gives one: 16:9, as cameras have it."""


class Predictor(Generic[Out]):
    """Answers pictures with one opened model. May be called from several threads at once.

    Attributes:
        task: Makes tensors of pictures, and answers of tensors.
        session: Runs the model.
        batch: Pictures that `predict_many` is best given at once, at most.
    """

    def __init__(self, task: Task[Picture, Out], session: Session, batch: int = 1) -> None:
        self.task = task
        self.session = session
        self.batch = batch

    def predict(self, picture: Picture) -> Out:
        """Answer one picture.

        Args:
            picture: Any size, any format.

        Raises:
            InputError: The picture is broken.
            BundleError: The model's output is not what its task declares.
            EngineError: The engine failed, gave no numbers, or is closed.
        """
        tensors, undo = self.task.preprocess(picture)
        return self.task.postprocess(self.session.run(tensors), undo)

    def predict_many(self, pictures: Sequence[Picture]) -> list[Out]:
        """Answer several pictures, together where their tensors have one shape, otherwise one by one.

        Args:
            pictures: At least one.

        Raises:
            EdgeRuntimeError: As `predict`.
        """
        if len(pictures) == 1:
            return [self.predict(pictures[0])]
        rows: list[dict[str, Array]] = []
        undos: list[Undo] = []
        for picture in pictures:
            tensors, undo = self.task.preprocess(picture)
            # The task overwrites its tensors with the next picture.
            rows.append({name: array.copy() for name, array in tensors.items()})
            undos.append(undo)
        if any(row[name].shape != array.shape for row in rows for name, array in rows[0].items()):
            return [self.predict(picture) for picture in pictures]
        together = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        outputs = self.session.run(together)
        return [
            self.task.postprocess({name: array[at : at + 1] for name, array in outputs.items()}, undo)
            for at, undo in enumerate(undos)
        ]

    def warm_up(self, picture: Picture | None = None) -> Out:
        """Answer once, so that the first real picture does not pay for lazy work of the engine.

        Args:
            picture: What a usual picture looks like; None: a grey 720p one.

        Raises:
            EdgeRuntimeError: As `predict`; a model that cannot run shows it here.
        """
        return self.predict(picture or Picture.from_bgr(np.full((*_USUAL_SIZE, 3), 114, np.uint8)))

    def close(self) -> None:
        """Give the model's memory back; waits for answers under way."""
        self.session.close()


def measure_batches(predictor: Predictor[Out], runs: int = 3) -> int:
    """Find the batch that pays on this machine by running the model on grey pictures.

    Args:
        predictor: Warmed up.
        runs: Runs of each size, interleaved; their median counts.

    Returns:
        1 where the model takes one picture only, or none of `BATCH_SIZES` is cheap enough.

    Raises:
        EdgeRuntimeError: The model failed.
    """
    session = predictor.session
    if any(spec.shape and spec.shape[0] is not None for spec in (*session.inputs, *session.outputs)):
        return 1
    grey = Picture.from_bgr(np.full((*_USUAL_SIZE, 3), 114, np.uint8))
    tensors = {name: array.copy() for name, array in predictor.task.preprocess(grey)[0].items()}
    taken_s: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    for _ in range(runs):
        for size, times in taken_s.items():
            batch = {name: np.repeat(array, size, axis=0) for name, array in tensors.items()}
            began = time.perf_counter()
            session.run(batch)
            times.append(time.perf_counter() - began)
    return batch_that_pays({size: median(times) for size, times in taken_s.items()})


def batch_that_pays(taken_s: Mapping[int, float]) -> int:
    """Choose a batch size from what each costs.

    Args:
        taken_s: Seconds of one run, by batch size; has 1.

    Returns:
        The size with the least time a picture, or 1 when none saves enough.
    """
    best = min(taken_s, key=lambda size: (taken_s[size] / size, size))
    return best if taken_s[best] / best <= _PAYS * taken_s[1] else 1
