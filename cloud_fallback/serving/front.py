"""What stands before the served models: which version answers, each request id answered once, quotas of rows.

A `Backend` over a `Backend`: doors ask this one, and it asks the served models. Runs no model and speaks no
protocol.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from cloud_fallback.serving import kept_answers
from cloud_fallback.serving.call import Call, current
from cloud_fallback.serving.gate import Gate
from cloud_fallback.serving.idempotency import Once
from cloud_fallback.serving.rush import Rush
from cloud_fallback.serving.shadow import SHADOW_PRIORITY, Shadows
from cloud_fallback.serving.slots import LOADING, LOADING_RETRY_S
from cloud_fallback.serving.steering import SteeringTable
from cloud_fallback.serving.traffic import choose, mirrors
from edge_runtime.contract.errors import EdgeRuntimeError, InputError, OverloadedError, UnknownModelError
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Answer
from edge_runtime.protocol.backend import (
    Backend,
    ModelDescription,
    ModelState,
    Piece,
    TensorAnswer,
    VersionLoader,
)
from edge_runtime.web.asking import PRIORITY, STICKY


class Front:
    """Answers requests through the served models.

    Args:
        served: The models.
        gate: Charges rows.
        table: The splits in force.
        shadows: Runs copies of requests.
        once: Answers each request id once.
        dice: Gives a number in [0, 1).
        clock_s: Monotonic seconds.

    Attributes:
        rush: What was refused a moment ago.
    """

    def __init__(
        self,
        served: Backend,
        *,
        gate: Gate,
        table: SteeringTable,
        shadows: Shadows,
        once: Once,
        dice: Callable[[], float],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._served = served
        self._gate = gate
        self._table = table
        self._shadows = shadows
        self._once = once
        self._dice = dice
        self._clock_s = clock_s
        self.rush = Rush()

    def ready(self) -> bool:
        """Say whether all models that should be loaded are."""
        return self._served.ready()

    def index(self) -> Sequence[ModelState]:
        """List every model and version known, loaded or not."""
        return self._served.index()

    def describe(self, model: str, version: str | None) -> ModelDescription:
        """Describe a loaded model: the version with most of the traffic, where none is named."""
        steering = self._table.get(model) if version is None else None
        if steering is not None:
            loaded = self._served.describe(model, None)
            weights = {v: w for v, w in steering.split.weights.items() if v in loaded.versions}
            if not weights:
                return loaded
            version = max(weights, key=lambda one: weights[one])
        return self._served.describe(model, version)

    async def load(self, model: str) -> None:
        """Load a model's newest version, and those that its split names: their callers wait for them.

        Raises:
            EdgeRuntimeError: One of them cannot be loaded; the others are.
        """
        steering = self._table.get(model)
        named = sorted(steering.split.versions()) if steering is not None else []
        trouble: EdgeRuntimeError | None = None
        try:
            await self._served.load(model)
        except EdgeRuntimeError as error:
            trouble = error
        there = {state.version for state in self._served.index() if state.name == model}
        for version in named:
            if version not in there:  # it has left the repository: the others have its share
                continue
            try:
                await self.load_version(model, version)
            except EdgeRuntimeError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    async def load_version(self, model: str, version: str) -> None:
        """Load one version of a model; see `VersionLoader`.

        Raises:
            InputError: The models behind this load no versions one by one.
            EdgeRuntimeError: It cannot be loaded.
        """
        if not isinstance(self._served, VersionLoader):
            raise InputError("parameter 'version'", expected="none: versions are not loaded one by one here")
        await self._served.load_version(model, version)

    async def unload(self, model: str) -> None:
        """Unload a model; requests under way are answered first."""
        await self._served.unload(model)

    async def infer(self, request: Request, outputs: Sequence[str] | None) -> TensorAnswer:
        """Run a model on tensors."""
        call = self._begin(request)
        if not call.request_id and self._table.get(request.model) is None:  # as nearly all requests are
            try:
                answer = await self._served.infer(_asked(request), outputs)
            except OverloadedError as error:
                if call.asked:
                    self.rush.refused(
                        call.asked,
                        error,
                        timeout_s=call.timeout_s,
                        priority=call.priority,
                        now_s=self._clock_s(),
                    )
                raise
            _learn(call, answer.model, answer.version, answer.details)
            return answer

        async def ask(one: Request) -> TensorAnswer:
            return await self._served.infer(one, outputs)

        async def compute() -> TensorAnswer:
            steered, shadow = self._steer(request)
            answer = await ask(steered)
            _learn(call, answer.model, answer.version, answer.details)
            if shadow is not None:

                async def copy() -> object:
                    return dict((await ask(_copy(request, shadow))).tensors)

                self._shadows.mirror(request.model, shadow, dict(answer.tensors), copy)
            return answer

        if not call.request_id:
            return await compute()

        async def encoded() -> bytes:
            return kept_answers.tensor_answer_bytes(await compute())

        digest = kept_answers.fingerprint(request, outputs)
        content, call.repeated = await self._once.answer(_key(call, request, "tensors"), digest, encoded)
        answer = kept_answers.tensor_answer_of(content)
        call.model, call.version = answer.model, answer.version
        return answer

    async def predict(self, request: Request) -> Answer[Any]:
        """Answer a picture, a text or a prompt by the model's task."""
        call = self._begin(request)

        async def compute() -> Answer[Any]:
            steered, shadow = self._steer(request)
            answer = await self._served.predict(steered)
            _learn(call, answer.model, answer.version, {})
            if shadow is not None:

                async def copy() -> object:
                    return (await self._served.predict(_copy(request, shadow))).value

                self._shadows.mirror(request.model, shadow, answer.value, copy)
            return answer

        if not call.request_id:
            return await compute()

        async def encoded() -> bytes:
            return kept_answers.answer_bytes(await compute())

        digest = kept_answers.fingerprint(request)
        content, call.repeated = await self._once.answer(_key(call, request, "task"), digest, encoded)
        answer = kept_answers.answer_of(content)
        call.model, call.version = answer.model, answer.version
        return answer

    async def generate(self, request: Request) -> AsyncIterator[Piece]:
        """Generate a text piece by piece; closing the iterator ends the work.

        A stream is not kept for repetitions: whoever loses one has read a part of it already.
        """
        call = self._begin(request)
        steered, _ = self._steer(request)
        pieces = self._served.generate(steered)
        try:
            async for piece in pieces:
                if piece.end is not None:
                    _learn(call, piece.end.model, piece.end.version, {})
                yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    def _begin(self, request: Request) -> Call:
        call = current.get() or Call("direct")
        self._gate.charge_rows(call, rows_of(request))
        return call

    def _steer(self, request: Request) -> tuple[Request, str | None]:
        """Name the version that answers, and the one that gets a copy."""
        steering = self._table.get(request.model) if request.version is None else None
        if steering is None:
            return _asked(request), None
        available = self._served.describe(request.model, None).versions
        sticky = request.parameters.get(STICKY)
        version = choose(
            steering.split,
            available,
            model=request.model,
            sticky=None if sticky is None else str(sticky),
            dice=self._dice(),
        )
        if version is None:
            named = steering.split.versions()
            if any(
                state.state == LOADING and state.version in named
                for state in self._served.index()
                if state.name == request.model
            ):
                raise OverloadedError(
                    f"model '{request.model}': the versions that have traffic are being loaded",
                    retry_after_s=LOADING_RETRY_S,
                )
            raise UnknownModelError(
                f"no version of '{request.model}' that has traffic is loaded",
                expected=", ".join(sorted(steering.split.versions())),
                got=f"{', '.join(available)} loaded",
                do="Load one, or change the weights",
            )
        return _asked(request, version), mirrors(steering.split, available, dice=self._dice())


def rows_of(request: Request) -> int:
    """Count what a request holds: rows of its first tensor, or one picture or text."""
    if isinstance(request.value, dict):
        first = next(iter(request.value.values()), None)
        return int(first.shape[0]) if first is not None and first.ndim else 1
    return 1


def _asked(request: Request, version: str | None = None) -> Request:
    """Name the version, and take out what was for the choice alone: only what is alike runs together."""
    if version is None and STICKY not in request.parameters:
        return request
    parameters = {key: value for key, value in request.parameters.items() if key != STICKY}
    return replace(request, version=version or request.version, parameters=parameters)


def _copy(request: Request, version: str) -> Request:
    asked = _asked(request, version)
    return replace(asked, parameters={**asked.parameters, PRIORITY: SHADOW_PRIORITY})


def _key(call: Call, request: Request, form: str) -> str:
    # The request's own id: of several questions under one id of the caller's, each has one.
    return f"{call.caller}\n{form}\n{request.model}\n{request.id}"


def _learn(call: Call, model: str, version: str, details: Any) -> None:
    call.model, call.version = model, version
    if not details:  # whoever answered has said it, or does not know
        return
    queue_ms, run_ms = details.get("queue_ms"), details.get("run_ms")
    call.queue_s = queue_ms / 1e3 if queue_ms is not None else None
    call.run_s = run_ms / 1e3 if run_ms is not None else None
