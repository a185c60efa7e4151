"""A backend that says what it was told: versions `1`, `2`, … of one model, `parrot`.

It gives back its inputs, and in `who` the version that answered. A test may make a version slow, broken or
of another opinion, load and unload versions, and read what was asked.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np

from edge_runtime.contract.errors import EdgeRuntimeError, InputError, UnknownModelError
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer, Finish, Generation, TextClassification
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.protocol.backend import ModelDescription, ModelState, Piece, TensorAnswer

NAME = "parrot"
LABELS = ("bad", "good")


class Parrot:
    """The backend.

    Args:
        inputs: What it takes.
        versions: That are loaded.
    """

    def __init__(self, *inputs: TensorSpec, versions: Sequence[str] = ("1",)) -> None:
        self.inputs = inputs or (TensorSpec("x", "float32", (None, 3)),)
        self.versions = list(versions)
        self.asked: list[Request] = []
        self.failing: dict[str, EdgeRuntimeError] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.louder: dict[str, float] = {}
        self.open_streams = 0

    def ready(self) -> bool:
        return bool(self.versions)

    def index(self) -> Sequence[ModelState]:
        return [ModelState(NAME, version, "READY") for version in self.versions] or [
            ModelState(NAME, "1", "UNAVAILABLE", "unloaded")
        ]

    def describe(self, model: str, version: str | None) -> ModelDescription:
        known = version in self.versions if version is not None else bool(self.versions)
        if model != NAME or not known:
            raise UnknownModelError(f"model '{model}' {version or ''}", expected=NAME, got=model)
        who = TensorSpec("who", "str", (1,))
        return ModelDescription(
            NAME,
            tuple(self.versions),
            version or self.versions[-1],
            "onnx_onnxruntime",
            "tensors",
            self.inputs,
            (*self.inputs, who),
        )

    async def infer(self, request: Request, outputs: Sequence[str] | None) -> TensorAnswer:
        version = await self._answering(request)
        if not isinstance(request.value, dict):
            raise InputError("parrot", expected="tensors", got=type(request.value).__name__)
        louder = self.louder.get(version, 0.0)
        told = {
            name: array + array.dtype.type(louder) if louder else array
            for name, array in request.value.items()
        } | {"who": np.array([version], object)}
        wanted = {name: array for name, array in told.items() if outputs is None or name in outputs}
        details = {"route": "cloud", "variant": "v", "queue_ms": 0.25, "run_ms": 1.5}
        return TensorAnswer(wanted, NAME, version, details)

    async def predict(self, request: Request) -> Answer[Any]:
        version = await self._answering(request)
        good = "good" in str(request.value)
        best = int(good != bool(self.louder.get(version)))
        value = TextClassification(
            np.array([best], np.int32), np.array([0.9], np.float32), LABELS, tokens=3, truncated=False
        )
        return self._answer(value, version)

    async def generate(self, request: Request) -> AsyncIterator[Piece]:
        version = await self._answering(request)
        text = (request.value.text or "") if isinstance(request.value, Prompt) else str(request.value)
        self.open_streams += 1
        try:
            for word in text.split():
                yield Piece(word)
            end = Generation(text, Finish.STOP, len(text.split()), len(text.split()))
            yield Piece("", self._answer(end, version))
        finally:
            self.open_streams -= 1

    async def load(self, model: str) -> None:
        if model != NAME:
            raise UnknownModelError(f"model '{model}'", expected=NAME, got=model)
        self.versions = self.versions or ["1"]

    async def unload(self, model: str) -> None:
        self.describe(model, None)
        self.versions = []

    async def _answering(self, request: Request) -> str:
        version = self.describe(request.model, request.version).version
        self.asked.append(request)
        if version in self.held:
            await self.held[version].wait()
        if version in self.failing:
            raise self.failing[version]
        return version

    @staticmethod
    def _answer(value: Any, version: str) -> Answer[Any]:
        return Answer(value, Decision(Route.CLOUD, Reason.POLICY), NAME, version, "v", 1.0, 0.9)
