"""Local: one model as this device has it: opened, or why not, how long it takes, and how many wait for it.

Opens no file and chooses no variant: `edge_runtime.runtime.models` does.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.errors import EdgeRuntimeError, EngineError, InputError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Value
from edge_runtime.contract.result import Generation, Values
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.routing.facts import LocalFacts
from edge_runtime.routing.latency import LocalPredictor
from edge_runtime.tasks.confidence import confidence_of


class Runs(Protocol):
    """A model's own side: its session."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What `run` takes."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What `run` gives."""
        ...

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once."""
        ...


class Predicts(Protocol):
    """A model bound to its task."""

    def predict(self, value: Any) -> Any:
        """Answer one value."""
        ...

    def warm_up(self) -> object:
        """Answer a sample once."""
        ...

    def close(self) -> None:
        """Give the memory back; waits for answers under way."""
        ...


PredictWhile = Callable[[Any, Callable[[], None] | None], Any]
"""What a model has beside `predict` that may take several runs for one value: see `ValuePredictor`."""


class Streams(Protocol):
    """A model that generates."""

    def stream(self, value: Prompt | str) -> Generator[str | Generation, None, None]:
        """Give new characters piece by piece, and the whole last."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that runs here.

    Args:
        bundle: Name of its bundle.
        version: Of the bundle.
        variant: Id of the variant.
        kind: Its task: `detection`, …
        platform: As v2 calls what runs it: `onnx_onnxruntime`.
        predictor: Values in, answers out; one that generates has `stream`, too.
        session: Tensors in and out.
        peak_bytes: Memory it needs at its peak, as measured; its file's size where nobody measured.
        receipt_ms: What its receipt says of one run; None: nothing.
        source: Where it came from; None: nobody said.
        engine: What runs it.
    """

    bundle: str
    version: str
    variant: str
    kind: str
    platform: str
    predictor: Predicts
    session: Runs
    peak_bytes: int
    receipt_ms: float | None = None
    source: ModelBundle | None = None
    engine: str = ""


_TAKES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "detection": (Picture, "a picture"),
    "classification": (Picture, "a picture"),
    "text-classification": (str, "a text"),
    "token-classification": (str, "a text"),
    "embedding": (str, "a text"),
    "generation": ((Prompt, str), "a prompt"),
    "tensors": (Mapping, "tensors"),
}


class Local:
    """One model on this device. Safe to share between threads.

    Args:
        name: As requests name it.
        opened: The model; None: it is not open.
        needs_bytes: What it needs, or would.
        budget_bytes: What it may take.
        why_not: Why nothing here can run it; empty: it can, or does not fit.
        workers: Requests that run side by side.
    """

    def __init__(
        self,
        name: str,
        opened: Opened | None,
        *,
        needs_bytes: int,
        budget_bytes: int,
        why_not: str = "",
        workers: int | None = None,
    ) -> None:
        self.name = name
        self.opened = opened
        self._needs_bytes = needs_bytes
        self._budget_bytes = budget_bytes
        self._why_not = why_not
        self._workers = workers or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._inside: Counter[int] = Counter()
        """Requests that an opened model is answering, by its identity."""
        self._leaving: dict[int, Callable[[], None]] = {}
        self.tap: Callable[[Value], None] | None = None
        """Is shown every value that was answered; must not keep anybody."""
        known = {} if opened is None or opened.receipt_ms is None else {opened.variant: opened.receipt_ms}
        self._speed = LocalPredictor(known)

    @property
    def kind(self) -> str | None:
        """The task; None where the model is not open."""
        return None if self.opened is None else self.opened.kind

    def facts(self, version: str | None, now_s: float) -> LocalFacts:
        """Say what the device can do with the model now.

        Args:
            version: That is asked for; None: any.
            now_s: Monotonic seconds.
        """
        opened = self.opened
        if opened is None:
            return LocalFacts(self._needs_bytes, self._budget_bytes, why_not=self._why_not)
        why_not = ""
        if version is not None and version != opened.version:
            why_not = f"the device has version {opened.version}, not {version}"
        running = self._inside[id(opened)]
        predicted_ms = self._speed.predict_ms(opened.variant, running, now_s, workers=self._workers)
        return LocalFacts(self._needs_bytes, self._budget_bytes, running, predicted_ms, why_not)

    def predict(
        self,
        value: Value,
        outputs: Sequence[str] | None = None,
        between: Callable[[], None] | None = None,
    ) -> tuple[Any, float]:
        """Answer a value.

        Args:
            value: What the model's task takes; or its own tensors, which every model takes that does not
                generate.
            outputs: Of tensors: those wanted; None: all.
            between: Where a value takes several runs: called before each further one, and raises where the
                answer is worth nothing any more.

        Returns:
            The result, and how sure the model is.

        Raises:
            InputError: It is not what the model takes.
            EngineError: The engine failed, or the model is not open.
            BundleError: The model's output is not what its task declares.
        """
        began_s = time.monotonic()
        with self._lent() as opened:
            if isinstance(value, Mapping):
                return self._run(opened, value, outputs), 1.0
            takes, called = _TAKES[opened.kind]
            if not isinstance(value, takes):
                path = isinstance(value, str) and takes is Picture
                do = "Give a picture's file as pathlib.Path(…), not as a string" if path else None
                raise InputError(f"model '{self.name}'", expected=called, got=_called(value), do=do)
            in_parts: PredictWhile | None = getattr(opened.predictor, "predict_while", None)
            found = in_parts(value, between) if in_parts else opened.predictor.predict(value)
        if (tap := self.tap) is not None:
            tap(value)
        now_s = time.monotonic()
        with self._lock:
            self._speed.add(opened.variant, (now_s - began_s) * 1000, now_s)
        return found, confidence_of(found)

    def stream(self, prompt: Prompt | str) -> Generator[str | Generation, None, None]:
        """Generate a text piece by piece; the last item is the whole.

        Raises:
            InputError: The model generates nothing, or the prompt is none.
            EngineError: The engine failed, or the model is not open.
        """
        with self._lent() as opened:
            begin = getattr(opened.predictor, "stream", None)
            if begin is None:
                raise InputError(
                    f"model '{self.name}'",
                    expected="a model that generates text",
                    got=f"a {opened.kind} model",
                )
            yield from begin(prompt)

    def swap(self, other: "Local", left: Callable[[], None]) -> None:
        """Become what another one is; who is being answered is answered by what was open until now.

        Args:
            other: With an opened model.
            left: Called once when nobody is answered by the old model any more, perhaps by who was.
        """
        with self._lock:
            old = self.opened
            self.adopt(other)
            busy = old is not None and self._inside[id(old)] > 0
            if busy:
                self._leaving[id(old)] = left
        if not busy:
            left()

    def adopt(self, other: "Local") -> None:
        """Become what another one is: the model was opened again."""
        self._needs_bytes, self._budget_bytes = other._needs_bytes, other._budget_bytes
        self._why_not, self._speed = other._why_not, other._speed
        self.opened = other.opened

    def close(self) -> None:
        """Give the model's memory back; waits for answers under way."""
        opened, self.opened = self.opened, None
        if opened is not None:
            self._why_not = "the model was closed"
            opened.predictor.close()

    @contextmanager
    def _lent(self) -> Generator[Opened]:
        """Give the opened model, which nobody closes meanwhile because of another version."""
        with self._lock:
            opened = self._ready()
            self._inside[id(opened)] += 1
        left: Callable[[], None] | None = None
        try:
            yield opened
        finally:
            with self._lock:
                self._inside[id(opened)] -= 1
                if not self._inside[id(opened)]:
                    del self._inside[id(opened)]
                    left = self._leaving.pop(id(opened), None)
            if left is not None:
                left()

    def _ready(self) -> Opened:
        if self.opened is None:
            raise EngineError(f"model '{self.name}' is not open", got=self._why_not or "it does not fit")
        return self.opened

    def _run(self, opened: Opened, tensors: Tensors, outputs: Sequence[str] | None) -> Values:
        if opened.kind == "generation":
            raise InputError(f"model '{self.name}'", expected="a prompt", got="tensors")
        known = [spec.name for spec in opened.session.outputs]
        unknown = [name for name in outputs or () if name not in known]
        if unknown:
            raise InputError(f"outputs of model '{self.name}'", expected=", ".join(known), got=unknown[0])
        given = opened.session.run(tensors)
        return Values({name: given[name] for name in outputs or known}, ())


def not_here(name: str, error: EdgeRuntimeError) -> Local:
    """Make the side of a model that did not open."""
    return Local(name, None, needs_bytes=0, budget_bytes=0, why_not=str(error))


def _called(value: object) -> str:
    if isinstance(value, Picture):
        return "a picture"
    if isinstance(value, str):
        return "a text"
    return "a prompt" if isinstance(value, Prompt) else "tensors"
