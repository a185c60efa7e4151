"""Predictors: a task and a session together, the whole local prediction.

Chooses no engine and opens no file; whoever makes it does. Measures time only to find out, once, whether
pictures are cheaper together than alone.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from statistics import median
from typing import Any, Generic, TypeVar, cast

import numpy as np

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt
from edge_runtime.contract.result import Finish, Generation
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.engines.base import Session
from edge_runtime.engines.decoder import Decoder
from edge_runtime.tasks.base import Task, Undo
from edge_runtime.tasks.generation.sampling import next_token
from edge_runtime.tasks.generation.stops import StopScanner
from edge_runtime.tasks.generation.task import GenerationTask, Plan
from edge_runtime.tasks.generation.token_text import TokenText

Out = TypeVar("Out")

BATCH_SIZES = (1, 2, 4, 8)
"""What is measured to find the batch that pays."""

_PAYS = 0.85
"""A batch has to save 15 % a picture before it is worth a picture's waiting for others."""

_USUAL_SIZE = (720, 1280)
"""Height and width of the picture to warm up with when nobody gives one: 16:9, as cameras have it."""

WINDOWS_AT_ONCE = 8
"""Windows of a long text that are run together, where the model takes several."""


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


def run_rows(
    session: Session,
    tensors: Tensors,
    at_once: int | None = None,
    between: Callable[[], None] | None = None,
) -> Tensors:
    """Run a model on rows: together where it takes any number of them, one by one where it takes one only.

    Args:
        session: The model.
        tensors: The first axis of each is the rows; where they have not all the same number, the model is
            run once.
        at_once: So many rows together at most, so that a long text does not take memory without a bound;
            None: all.
        between: Called before each further run; raises where the answer is worth nothing any more.

    Returns:
        As `Session.run`, with as many rows.

    Raises:
        EdgeRuntimeError: As `Session.run`.
    """
    counts = {len(array) if array.ndim else 0 for array in tensors.values()}
    takes = {spec.shape[0] if spec.shape else 0 for spec in session.inputs}
    count = counts.pop()
    size = 1 if takes == {1} else at_once if at_once and takes == {None} else count
    if counts or count <= size:
        return session.run(tensors)
    parts: list[Tensors] = []
    for first in range(0, count, size):
        if first and between is not None:
            between()
        parts.append(session.run({name: array[first : first + size] for name, array in tensors.items()}))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class ValuePredictor:
    """Answers whatever an opened model's task takes. May be called from several threads at once.

    Attributes:
        task: Makes tensors of values, and answers of tensors.
        session: Runs the model.
    """

    def __init__(
        self, task: Task[Any, Any], session: Session, sample: Any, rows_at_once: int | None = None
    ) -> None:
        """Put a task and a session together.

        Args:
            task: The task.
            session: The model.
            sample: A value that the task takes, to warm up with.
            rows_at_once: See `run_rows`.
        """
        self.task = task
        self.session = session
        self._sample = sample
        self._rows_at_once = rows_at_once

    def predict(self, value: Any) -> Any:
        """Answer one value.

        Args:
            value: A picture, a text, or tensors, as the task has it.

        Raises:
            InputError: It is not what the task takes.
            BundleError: The model's output is not what its task declares.
            EngineError: The engine failed, gave no numbers, or is closed.
        """
        return self.predict_while(value, None)

    def predict_while(self, value: Any, between: Callable[[], None] | None) -> Any:
        """Answer one value as `predict`, asking before each further run whether anybody waits still.

        Args:
            value: A picture, a text, or tensors, as the task has it.
            between: Raises where the answer is worth nothing any more; None: it always is.

        Raises:
            EdgeRuntimeError: As `predict`.
        """
        tensors, undo = self.task.preprocess(value)
        found = run_rows(self.session, tensors, self._rows_at_once, between)
        return self.task.postprocess(found, undo)

    def warm_up(self) -> Any:
        """Answer the sample once; see `Predictor.warm_up`."""
        return self.predict(self._sample)

    def close(self) -> None:
        """Give the model's memory back; waits for answers under way."""
        self.session.close()


class GenerationPredictor:
    """Generates texts with one opened decoder. May be called from several threads at once.

    Attributes:
        task: Makes tokens of prompts.
        session: The decoder; every text has a past of its own.
    """

    def __init__(self, task: GenerationTask, session: Decoder, sample: Prompt) -> None:
        """Put a task and a decoder together.

        Args:
            task: The task.
            session: The model.
            sample: A prompt to warm up with.
        """
        self.task = task
        self.session = session
        self._sample = sample

    def predict(self, value: Prompt | str) -> Generation:
        """Generate a text and give it when it is whole.

        Args:
            value: A prompt; a string is a prompt without wishes.

        Raises:
            EdgeRuntimeError: As `stream`.
        """
        return self.predict_while(value, None)

    def predict_while(self, value: Prompt | str, between: Callable[[], None] | None) -> Generation:
        """Generate a text as `predict`, asking after each token whether anybody waits still.

        Args:
            value: A prompt; a string is a prompt without wishes.
            between: Raises where the text is worth nothing any more; None: it always is.

        Raises:
            EdgeRuntimeError: As `stream`.
        """
        last: str | Generation = ""
        with closing(self.stream(value)) as pieces:
            for last in pieces:
                if between is not None and not isinstance(last, Generation):
                    between()
        return cast("Generation", last)

    def stream(self, value: Prompt | str) -> Generator[str | Generation]:
        """Generate a text piece by piece.

        Args:
            value: A prompt; a string is a prompt without wishes.

        Returns:
            A generator that gives the new characters after every token (none, while they may still become a
            stop sequence or are half a character), and the whole as its last item. Closing it stops the
            work and frees the text's past.

        Raises:
            InputError: It is no prompt, or asks for sampling that does not exist. This and the next are
                raised here; the others come out of the generator.
            TooLargeError: It leaves no room for an answer in the model's context.
            BundleError: The chat template fails.
            EngineError: The engine failed, gave no numbers, or is closed.
        """
        prompt = Prompt(text=value) if isinstance(value, str) else value
        if not isinstance(prompt, Prompt):  # pyright: ignore[reportUnnecessaryIsInstance] - callers read JSON
            raise InputError("input", expected="a prompt", got=type(prompt).__name__)
        return self._write(self.task.plan(prompt))

    def warm_up(self) -> Generation:
        """Generate from the sample once; see `Predictor.warm_up`."""
        return self.predict(self._sample)

    def close(self) -> None:
        """Give the model's memory back; waits for runs under way."""
        self.session.close()

    def _write(self, plan: Plan) -> Generator[str | Generation]:
        dice = np.random.default_rng(plan.seed)
        text, scanner = TokenText(self.task.decode, plan.prompt), StopScanner(plan.stop)
        pieces: list[str] = []
        chances: list[float] = []
        finish, stopped = Finish.LENGTH, False
        with closing(self.session.start()) as reading:
            # In parts, for the logits of all of a part are in memory for a moment.
            size = self.task.prompt_at_once
            logits = reading.read(plan.prompt[:size])
            for first in range(size, len(plan.prompt), size):
                yield ""  # whoever waits may have gone
                logits = reading.read(plan.prompt[first : first + size])
            while True:
                token, chance = next_token(logits, dice, temperature=plan.temperature, top_p=plan.top_p)
                chances.append(chance)
                if token in self.task.ends:
                    finish = Finish.STOP
                    break
                piece, stopped = scanner.push(text.push(token))
                pieces.append(piece)
                yield piece
                if stopped or len(pieces) == plan.max_tokens:
                    break
                logits = reading.read((token,))
        if not stopped:
            piece, stopped = scanner.push(text.flush())
            pieces.append(piece if stopped else piece + scanner.flush())
            yield pieces[-1]
        tokens = len(chances) - (finish is Finish.STOP)
        yield Generation(
            "".join(pieces),
            Finish.STOP if stopped else finish,
            len(plan.prompt),
            tokens,
            float(np.mean(chances)),
        )
