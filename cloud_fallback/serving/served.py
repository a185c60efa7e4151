"""A served version: one bundle's best variant, opened, proven and ready to be asked.

Opens, warms up and closes; answers tensors by its dispatcher, and pictures and texts by its task around it.
Knows no other version; `backend` holds them all.
"""

import asyncio
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cloud_fallback.serving.batcher import BatchLimits
from cloud_fallback.serving.desk import Desk, is_heavy
from cloud_fallback.serving.dispatcher import Dispatcher, Observer, Ran
from cloud_fallback.serving.golden import Proof, prove
from cloud_fallback.serving.instances import Crew, Instances
from cloud_fallback.serving.lengths import common_length, cut, filled_up
from cloud_fallback.serving.places import placeless_run
from cloud_fallback.serving.repository import servable
from cloud_fallback.serving.visits import Visits
from cloud_fallback.serving.writing import ServedGenerator
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import EngineError, InputError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Request
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    GenerationSpec,
    ImageEmbeddingSpec,
    TaskSpec,
    TensorsSpec,
    TextSpec,
)
from edge_runtime.contract.tensors import Tensors, check_tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import ENGINES, FORMATS
from edge_runtime.local_model import AnyModel, choices_here, open_any_model, variant_of
from edge_runtime.predict import WINDOWS_AT_ONCE, GenerationPredictor
from edge_runtime.tasks.base import Task
from edge_runtime.update.trial_side import Side

UNREAD = frozenset({"priority", "timeout"})
"""Parameters of a request that say how it is served, not what is asked."""
_USUAL_PRIORITY = 1
_LAST_PRIORITY = 9


class ServedVersion:
    """A version that is ready.

    Args:
        opened: The model.
        task: Its own, the device's pre- and postprocessing.
        proof: What its golden inputs showed.
        dispatcher: Runs it in batches.
    """

    def __init__(self, opened: AnyModel, task: Task[Any, Any], proof: Proof, dispatcher: Dispatcher) -> None:
        manifest = opened.bundle.manifest
        self.opened = opened
        self.proof = proof
        self._task = task
        self._dispatcher = dispatcher
        self._inputs = opened.session.inputs
        self._outputs = frozenset(spec.name for spec in opened.session.outputs)
        takes = {spec.shape[0] for spec in self._inputs if spec.shape}
        texts = isinstance(opened.spec, TextSpec) and takes == {None}
        self._rows_at_once = 1 if 1 in takes else WINDOWS_AT_ONCE if texts else None
        self._visits = Visits(f"model '{manifest.name}' {manifest.version}")

    async def infer(self, tensors: Tensors, request: Request, outputs: Sequence[str] | None) -> Ran:
        """Run the model on a request's tensors.

        Args:
            tensors: Named and typed as the model takes them.
            request: How long its answer is worth anything, and how it is served.
            outputs: The outputs wanted; None: all.

        Raises:
            InputError: A tensor or a wanted output is not the model's.
            EdgeRuntimeError: As `Dispatcher.infer`.
        """
        with self._visits.inside():
            return await self._infer(tensors, request, outputs)

    async def _infer(self, tensors: Tensors, request: Request, outputs: Sequence[str] | None) -> Ran:
        check_tensors(tensors, self._inputs)
        wanted = None if outputs is None else tuple(outputs)
        if wanted is not None and not self._outputs.issuperset(wanted):
            raise InputError(
                "requested outputs", expected=f"of {', '.join(sorted(self._outputs))}", got=", ".join(wanted)
            )
        refuse_empty(tensors)
        refuse_nan(tensors)
        ran = await self._dispatcher.infer(
            tensors,
            rows=self._rows(tensors),
            key=batch_key(tensors, wanted, request.parameters),
            timeout_s=request.timeout_s,
            priority=priority_of(request),
        )
        if wanted is None:
            return ran
        return Ran({name: ran.tensors[name] for name in wanted}, ran.queue_s, ran.run_s, ran.batch_rows)

    async def predict(self, request: Request, desk: Desk) -> tuple[Any, Ran]:
        """Answer a picture, a text or tensors by the model's task.

        Args:
            request: Its value is what the task takes.
            desk: Where pictures and long texts are prepared.

        Returns:
            What the task made of it, and how the run was.

        Raises:
            EdgeRuntimeError: As the task and `Dispatcher.infer`.
        """
        refuse_stranger(self.opened.spec, request)
        task, began = self._task, time.perf_counter()
        heavy = is_heavy(request.value)
        with self._visits.inside():
            tensors, undo = await desk.do(heavy, partial(_prepare, task, request.value))
            ran = await self._run_prepared(tensors, left(request, time.perf_counter() - began))
            return await desk.do(heavy, partial(task.postprocess, ran.tensors, undo)), ran

    async def _run_prepared(self, tensors: Tensors, request: Request) -> Ran:
        """Run what the task made of a value: where it does not fit the model, no caller is at fault."""
        try:
            return await self._run_task(tensors, request)
        except InputError as error:
            if isinstance(self.opened.spec, TensorsSpec):
                raise
            raise EngineError(
                f"model '{request.model}': its task makes what the model does not take", got=error.got
            ) from error

    async def _run_task(self, tensors: Tensors, request: Request) -> Ran:
        """Run what a task made, texts filled up to a length that others have too where that is the same."""
        spec = self.opened.spec
        if not self.proof.fills or not isinstance(spec, TextSpec):
            return await self._run_rows(tensors, request)
        length = next(iter(tensors.values())).shape[1]
        filled = max(length, min(common_length(length), spec.input.max_length))
        ran = await self._run_rows(filled_up(tensors, filled), request)
        return replace(ran, tensors=cut(ran.tensors, length, filled))

    async def _run_rows(self, tensors: Tensors, request: Request) -> Ran:
        """Run the rows that a task made of one value, as `predict.run_rows` does.

        The parts of a long text queue one after the other: others get their turn in between, and where its
        time is over the rest is not run.
        """
        rows, size = next(iter(tensors.values())).shape[0], self._rows_at_once
        if size is None or rows <= size:
            return await self._infer(tensors, request, None)
        parts: list[Ran] = []
        began = time.perf_counter()
        for at in range(0, rows, size):
            part = {name: array[at : at + size] for name, array in tensors.items()}
            parts.append(await self._infer(part, left(request, time.perf_counter() - began), None))
        joined = {name: np.concatenate([part.tensors[name] for part in parts]) for name in parts[0].tensors}
        queue_s, run_s = sum(part.queue_s for part in parts), sum(part.run_s for part in parts)
        return Ran(joined, queue_s, run_s, max(part.batch_rows for part in parts))

    async def close(self) -> None:
        """Answer what is under way, then give the memory back."""
        await self._visits.close()
        await self._dispatcher.close()
        await asyncio.to_thread(self.opened.predictor.close)

    def _rows(self, tensors: Tensors) -> int:
        if not self.proof.batches:
            return 1
        counts = {name: array.shape[0] for name, array in tensors.items()}
        rows = next(iter(counts.values()))
        if rows < 1 or any(count != rows for count in counts.values()):
            raise InputError(
                "inputs",
                expected="as many rows, at least 1, in each",
                got=", ".join(f"{name}: {count}" for name, count in counts.items()),
            )
        return rows


def open_version(
    bundle: ModelBundle,
    profile: DeviceProfile,
    instances: Instances,
    crew: Crew,
    *,
    limits: BatchLimits,
    writers: int = 2,
    engine: str | None = None,
    observer: Observer | None = None,
) -> ServedVersion | ServedGenerator:
    """Open a bundle's best variant, try it on its golden inputs, and make it ready.

    Args:
        bundle: The model.
        profile: This machine.
        instances: Threads of a run, and runs at the same time.
        crew: The threads that run it.
        limits: Of its batches.
        writers: Texts that a model which generates writes at the same time.
        engine: The only one that is used; None: the best.
        observer: Who counts.

    Raises:
        BundleError: No variant may be served, its files and task do not belong together, or its answers to
            the golden inputs are not the source model's.
        EngineError: Nothing here runs it.
    """
    options = EngineOptions(threads=instances.threads, callers=instances.count)
    bundle = servable(bundle)
    opened = open_any_model(bundle, profile, options, engine=engine or sure_engine(bundle, profile))
    variant = variant_of(opened.bundle, opened.choice)
    predictor, manifest = opened.predictor, opened.bundle.manifest
    try:
        if isinstance(predictor, GenerationPredictor):
            predictor.warm_up()
            return ServedGenerator(opened, predictor, writers)
        proof = prove(Side(bundle, variant, opened.spec, opened.session, predictor.task))
    except Exception:
        predictor.close()
        raise
    dispatcher = Dispatcher(
        placeless_run(opened.session.run, str(bundle.root)),
        crew,
        model=manifest.name,
        version=manifest.version,
        limits=limits if proof.batches else replace(limits, max_rows=1),
        observer=observer,
    )
    rows = next(iter(proof.sample.values())).shape[0] if proof.batches else 1
    dispatcher.prime(batch_key(proof.sample, None, {}), rows, proof.run_s)
    return ServedVersion(opened, predictor.task, proof, dispatcher)


def sure_engine(bundle: ModelBundle, profile: DeviceProfile) -> str | None:
    """Name the engine that would be chosen in any case; the others need not be loaded to be asked.

    Each takes some 50 MB for it. Where nothing was measured here and the profile names no engines, the order
    of the engines decides.

    Args:
        bundle: The model.
        profile: This machine.

    Returns:
        None: all have to be asked.
    """
    manifest = bundle.manifest
    here = {profile.cpu.name, *(each.name for each in profile.accelerators)}
    measured = any(
        one.latency and (one.profile == profile.name or one.machine in here) for one in manifest.receipts
    )
    if measured or profile.engines or isinstance(manifest.task, GenerationSpec):
        return None
    formats = {variant.format for variant in manifest.variants}
    first = next((name for name in ENGINES if formats & set(FORMATS[name])), None)
    return first if first is not None and choices_here(bundle, profile, first)[0].usable else None


def batch_key(tensors: Tensors, outputs: Sequence[str] | None, parameters: Mapping[str, object]) -> Hashable:
    """Give what requests must have in common to run together: shapes, dtypes, outputs, parameters.

    Args:
        tensors: The request's.
        outputs: Those wanted; None: all.
        parameters: The request's; how it is served is left out.
    """
    told = tuple(sorted((name, value) for name, value in parameters.items() if name not in UNREAD))
    shapes = tuple((name, array.shape[1:], array.dtype.num) for name, array in sorted(tensors.items()))
    return shapes, None if outputs is None else tuple(outputs), told


def priority_of(request: Request) -> int:
    """Give how urgent a request is, 0 the most: its parameter `priority`, kept in 0 … 9."""
    told = request.parameters.get("priority", _USUAL_PRIORITY)
    return min(max(told, 0), _LAST_PRIORITY) if isinstance(told, int) else _USUAL_PRIORITY


def refuse_stranger(spec: TaskSpec, request: Request) -> None:
    """Refuse a value that is not what the kind of model takes.

    Raises:
        InputError: Says what it takes.
    """
    match spec:
        case DetectionSpec() | ClassificationSpec() | ImageEmbeddingSpec():
            fits, expected = isinstance(request.value, Picture), "a picture"
        case TensorsSpec():
            fits, expected = isinstance(request.value, Mapping), "tensors"
        case _:
            fits, expected = isinstance(request.value, str), "a text"
    if not fits:
        raise InputError(f"model '{request.model}'", expected=expected, got=type(request.value).__name__)


def left(request: Request, used_s: float) -> Request:
    """Take time that was used off what a request has left."""
    return request if request.timeout_s is None else replace(request, timeout_s=request.timeout_s - used_s)


def refuse_empty(tensors: Tensors) -> None:
    """Refuse tensors that hold nothing: engines fail at them, each in its own way.

    Raises:
        InputError: Names the tensor.
    """
    for name, array in tensors.items():
        if 0 in array.shape:
            raise InputError(f"input '{name}'", expected="at least 1 on each axis", got=str(array.shape))


def refuse_nan(tensors: Tensors) -> None:
    """Refuse tensors that hold what is no number.

    Raises:
        InputError: Names the tensor.
    """
    for name, array in tensors.items():
        # The least of values with NaN among them is NaN: one pass, nothing allocated.
        if array.dtype.kind == "f" and array.size and math.isnan(array.min()):
            raise InputError(f"input '{name}'", expected="numbers", got="NaN")


def _prepare(task: Task[Any, Any], value: Any) -> tuple[Tensors, Any]:
    tensors, undo = task.preprocess(value)
    # The task may overwrite its tensors with the next value of this thread.
    return {name: np.array(array) for name, array in tensors.items()}, undo
