"""A small shop of models behind the `Backend` port: real ONNX networks, and a few honest rules for texts.

`sums` and `echo-<dtype>` run in onnxruntime. `sentiment`, `letters`, `parrot`, `upper` and `light` follow a
rule that anyone can check by eye. `broken`, `busy`, `late`, `forbidden` and `buggy` fail as their names say.
`slow` answers only when it is released, and tells whether somebody stopped waiting.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_runtime.contract.errors import (
    DeadlineError,
    EngineError,
    InputError,
    OverloadedError,
    RefusedError,
    UnknownModelError,
)
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import (
    Answer,
    Classification,
    Embedding,
    Finish,
    Generation,
    TextClassification,
)
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.registry import load_engine
from edge_runtime.protocol.backend import ModelDescription, ModelState, Piece, TensorAnswer

LOCAL = Decision(Route.LOCAL, Reason.FITS)
NUMBERS = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
FAILURES: Mapping[str, Callable[[], Exception]] = {
    "broken": lambda: EngineError("model 'broken': the engine failed", got="a shape it cannot multiply"),
    "busy": lambda: OverloadedError("model 'busy'", retry_after_s=2.5, got="9 requests before this one"),
    "late": lambda: DeadlineError("model 'late': no answer in time"),
    "forbidden": lambda: RefusedError("model 'forbidden'", do="Ask another"),
    "buggy": lambda: ZeroDivisionError("secret: hunter2"),
}
KINDS = {
    "sentiment": "text-classification",
    "letters": "embedding",
    "parrot": "generation",
    "light": "classification",
    "slow": "text-classification",
}


def sums_model() -> onnx.ModelProto:
    """(n, 4) float32 `a` and `b` -> their sum, and a dense layer of the sum, (n, 2)."""
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("MatMul", ["sum", "w"], ["dense"])],
        "sums",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "ab"],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["n", 2]),
        ],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def echo_model(dtype: str) -> onnx.ModelProto:
    """`x` of two axes of any length -> `y`, the same."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "echo",
        [helper.make_tensor_value_info("x", kind, ["n", "m"])],
        [helper.make_tensor_value_info("y", kind, ["n", "m"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Upper:
    """A session that makes texts upper case: what a model of BYTES tensors looks like from outside."""

    inputs: Sequence[TensorSpec] = (TensorSpec("x", "str", (None, None)),)
    outputs: Sequence[TensorSpec] = (TensorSpec("y", "str", (None, None)),)

    def run(self, inputs: Tensors) -> Tensors:
        texts = inputs["x"]
        answer = np.empty(texts.shape, object)
        answer[...] = [[text.upper() for text in row] for row in texts.tolist()]
        return {"y": answer}


class Shop:
    """All models above, version 1 of each; `spare` stands in the repository and is not loaded.

    Args:
        folder: Where to write the ONNX files.

    Attributes:
        asked: Every request that came as far as a model.
        release: Set: `slow` answers.
        waiting: Set: `slow` has been asked.
        left: Set: whoever asked `slow` stopped waiting.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[Request] = []
        self.release, self.waiting, self.left = threading.Event(), threading.Event(), threading.Event()
        self.sessions: dict[str, Session | Upper] = {"upper": Upper()}
        files = {"sums": sums_model(), "spare": sums_model()} | {f"echo-{d}": echo_model(d) for d in NUMBERS}
        for name, model in files.items():
            (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        self.shelf = {name: folder / f"{name}.onnx" for name in files}
        for name in set(files) - {"spare"}:
            self._open(name)
        self.texts = set(KINDS) | set(FAILURES)

    def _open(self, name: str) -> None:
        self.sessions[name] = load_engine("onnxruntime").open(self.shelf[name], options=EngineOptions())

    def ready(self) -> bool:
        return "sums" in self.sessions

    def index(self) -> Sequence[ModelState]:
        names = sorted(self.texts | set(self.sessions) | set(self.shelf))
        loaded = self.texts | set(self.sessions)
        return [
            ModelState(name, "1", *(("READY",) if name in loaded else ("UNAVAILABLE", "unloaded")))
            for name in names
        ]

    def describe(self, model: str, version: str | None) -> ModelDescription:
        if model not in self.sessions and model not in self.texts:
            known = ", ".join(sorted(self.texts | set(self.sessions)))
            raise UnknownModelError("model", expected=f"one of {known}", got=model)
        if version not in {None, "1"}:
            raise UnknownModelError(f"version of model '{model}'", expected="1", got=version)
        session = self.sessions.get(model)
        inputs, outputs = (session.inputs, session.outputs) if session is not None else ((), ())
        kind = KINDS.get(model, "tensors")
        return ModelDescription(model, ("1",), "1", "onnx_onnxruntime", kind, inputs, outputs)

    async def infer(self, request: Request, outputs: Sequence[str] | None) -> TensorAnswer:
        session = self.sessions.get(request.model)
        if session is None or not isinstance(request.value, Mapping):
            await self._misbehave(request)
            raise InputError(f"model '{request.model}'", expected="a text", got="tensors")
        self.asked.append(request)
        found = await asyncio.to_thread(session.run, request.value)
        wanted = found if outputs is None else {name: found[name] for name in outputs}
        return TensorAnswer(
            wanted, request.model, "1", {"route": "local", "reason": "fits", "variant": "onnx"}
        )

    async def predict(self, request: Request) -> Answer[Any]:
        self.describe(request.model, request.version)
        await self._misbehave(request)
        self.asked.append(request)
        value = await self._value(request)
        confidence = float(value.scores[0]) if hasattr(value, "scores") else 1.0
        return Answer(value, LOCAL, request.model, "1", "rule", 0.25, confidence)

    async def _misbehave(self, request: Request) -> None:
        if request.model in FAILURES:
            raise FAILURES[request.model]()

    async def _value(self, request: Request) -> Any:
        match request.model, request.value:
            case "sentiment", str(text):
                return sentiment(text)
            case "letters", str(text):
                return letters(text)
            case "parrot", Prompt() as prompt:
                words = parrot(prompt)
                return spoken(prompt, words)
            case "light", Picture() as seen:
                bright = float(seen.luma.mean()) / 255
                order = [0, 1] if bright >= 0.5 else [1, 0]
                scores = np.float32([max(bright, 1 - bright), min(bright, 1 - bright)])
                return Classification(np.int32(order), scores, ("bright", "dark"))
            case "slow", str(text):
                await self._wait()
                return sentiment(text)
        raise InputError(
            f"model '{request.model}'", expected="what it takes", got=f"a {type(request.value).__name__}"
        )

    async def _wait(self) -> None:
        self.waiting.set()
        try:
            while not self.release.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def generate(self, request: Request) -> AsyncIterator[Piece]:
        self.describe(request.model, request.version)
        await self._misbehave(request)
        self.asked.append(request)
        if not isinstance(request.value, Prompt) or request.model not in {"parrot", "slow"}:
            raise InputError(
                f"model '{request.model}'", expected="a model that speaks", got="one that does not"
            )
        words = parrot(request.value)
        for index, word in enumerate(words):
            if word == "crash":
                raise EngineError("model 'parrot': the engine failed in the middle")
            if word == "wait":
                await self._wait()
            yield Piece(word if index == 0 else f" {word}")
        whole = spoken(request.value, words)
        yield Piece("", Answer(whole, LOCAL, request.model, "1", "rule", 0.5, 1.0))

    async def load(self, model: str) -> None:
        if model not in self.shelf:
            raise UnknownModelError("model", expected=f"one of {', '.join(sorted(self.shelf))}", got=model)
        if model not in self.sessions:
            self._open(model)

    async def unload(self, model: str) -> None:
        self.describe(model, None)
        self.sessions.pop(model, None)


def sentiment(text: str) -> TextClassification:
    """Kind words against unkind ones."""
    words = Counter(text.lower().split())
    score = (1 + words["kind"] + words["short"]) / (2 + words["kind"] + words["short"] + words["rude"])
    order = [0, 1] if score >= 0.5 else [1, 0]
    scores = np.float32(sorted((score, 1 - score), reverse=True))
    return TextClassification(np.int32(order), scores, ("good", "bad"), len(text.split()) + 2, False)


def letters(text: str) -> Embedding:
    """How often each letter stands in a text, to length 1."""
    counts = Counter(text.lower())
    vector = np.float32([counts[chr(code)] for code in range(ord("a"), ord("z") + 1)])
    return Embedding(vector / max(float(np.linalg.norm(vector)), 1e-9), len(text.split()) + 2, False)


def parrot(prompt: Prompt) -> list[str]:
    """The words of the last thing said, as many as are asked for, up to the first stop sequence."""
    text = prompt.messages[-1].content if prompt.messages else prompt.text or ""
    for stop in prompt.sampling.stop:
        text = text.partition(stop)[0]
    return text.split()[: prompt.sampling.max_tokens]


def spoken(prompt: Prompt, words: list[str]) -> Generation:
    heard = " ".join(m.content for m in prompt.messages) if prompt.messages else prompt.text or ""
    cut = prompt.sampling.max_tokens is not None and len(words) == prompt.sampling.max_tokens
    return Generation(" ".join(words), Finish.LENGTH if cut else Finish.STOP, len(heard.split()), len(words))
