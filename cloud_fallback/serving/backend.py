"""ServedModels: the `Backend` of the cloud: every model and version of a repository, loaded, asked, unloaded.

Which version answers a request that names none is asked of a `pick`; canaries and shadows are built on it.
Speaks no protocol.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from cloud_fallback.serving.batcher import BatchLimits
from cloud_fallback.serving.call import current
from cloud_fallback.serving.desk import Desk
from cloud_fallback.serving.dispatcher import Observer
from cloud_fallback.serving.instances import Crew, Instances, give_memory_back, plan_instances, usable_cores
from cloud_fallback.serving.places import placeless, placeless_error
from cloud_fallback.serving.repository import Broken, Found, Repository, version_order
from cloud_fallback.serving.served import open_version
from cloud_fallback.serving.slots import (
    LOADING_RETRY_S,
    READY,
    UNAVAILABLE,
    UNLOADING,
    Served,
    Slot,
    not_ready,
    unknown_model,
    unknown_version,
)
from cloud_fallback.serving.writing import ServedGenerator
from edge_runtime.contract.errors import (
    BundleError,
    EdgeRuntimeError,
    EngineError,
    InputError,
    OverloadedError,
    StorageError,
)
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.local_model import this_device
from edge_runtime.protocol.backend import ModelDescription, ModelState, Piece, TensorAnswer
from edge_runtime.tasks.confidence import confidence_of

Pick: TypeAlias = Callable[[str, Request], str | None]
"""Names the version that answers a request to a model; None: the newest that is ready."""

_log = logging.getLogger(__name__)
_CLOUD = Decision(Route.CLOUD, Reason.POLICY)


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How models are served.

    Args:
        versions: Which are loaded when nothing else is said: all, or each model's newest.
        instances: Batches that run at the same time; None: as many as the cores have room for.
        threads: Threads of each of them; None: the cores, shared out.
        limits: Of each version's batches and queue.
        writers: Texts that are generated at the same time, by each model.
        profile: The device profile of this machine, or `auto`.
        engine: The only engine that is used; None: each model's best. An engine that is merely asked for its
            providers takes memory already.
    """

    versions: Literal["all", "newest"] = "all"
    instances: int | None = None
    threads: int | None = None
    limits: BatchLimits = field(default_factory=BatchLimits)
    writers: int = 2
    profile: str = "auto"
    engine: str | None = None


def newest(model: str, request: Request) -> str | None:
    """Let the newest version answer; the `Pick` of who wants nothing else."""
    return None


class ServedModels:
    """Answers requests with the models of a repository.

    Args:
        repository: Where the bundles are.
        options: How they are served.
        pick: Chooses the version of a request that names none.
        observer: Who counts batches, waits and refusals.
    """

    def __init__(
        self,
        repository: Repository,
        options: ServingOptions | None = None,
        *,
        pick: Pick = newest,
        observer: Observer | None = None,
    ) -> None:
        self.pick = pick
        self._repository = repository
        self._options = options = options or ServingOptions()
        self._observer = observer
        self.instances: Instances = plan_instances(usable_cores(), options.instances, options.threads)
        self._crew = Crew(self.instances.count)
        self._desk = Desk(usable_cores())
        self._slots: dict[str, dict[str, Slot]] = {}
        self._broken: Sequence[Broken] = ()
        self._started = False

    async def start(self) -> None:
        """Load what the options say; what cannot be loaded stands in the index with its reason.

        Raises:
            StorageError: The repository cannot be listed.
        """
        await self.rescan()
        every = self._options.versions == "all"
        wanted = [
            (model, version, versions[version])
            for model, versions in self._slots.items()
            for version in (versions if every else [max(versions, key=version_order)])
        ]
        for _, _, slot in wanted:  # whoever asks for one that comes later is told to wait
            slot.want()
        for model, version, slot in wanted:
            if not slot.wanted:  # unloaded meanwhile
                continue
            try:
                await self._open(slot)
            except EdgeRuntimeError as error:
                _log.error("model %s %s is not served: %s", model, version, error)
        self._started = True

    async def close(self) -> None:
        """Answer what is under way, then free everything."""
        for model in list(self._slots):
            await self.unload(model)
        self._desk.close()
        self._crew.close()

    async def rescan(self) -> None:
        """Look again what is in the repository; loads and unloads nothing.

        Raises:
            StorageError: It cannot be listed.
        """
        contents = await asyncio.to_thread(self._repository.scan)
        self._broken = contents.broken
        for model, versions in contents.models.items():
            slots = self._slots.setdefault(model, {})
            for version, found in versions.items():
                slots.setdefault(version, Slot(found)).found = found
        for model, slots in list(self._slots.items()):
            here = contents.models.get(model, {})
            gone = [v for v, slot in slots.items() if v not in here and slot.state == UNAVAILABLE]
            for version in gone:
                del slots[version]
            if not slots:
                del self._slots[model]

    def ready(self) -> bool:
        """Say whether of every model that should be loaded a version is.

        A new version that is refused does not take down a server whose older one still answers.
        """
        states = [
            {slot.state for slot in slots.values()}
            for slots in self._slots.values()
            if any(slot.wanted for slot in slots.values())
        ]
        return self._started and all(READY in each for each in states)

    def index(self) -> Sequence[ModelState]:
        """List every model and version of the repository, and what is broken in it."""
        states = [
            ModelState(
                model, version, slot.state, "" if slot.state == READY else slot.reason, slot.memory_bytes()
            )
            for model, versions in self._slots.items()
            for version, slot in versions.items()
        ]
        broken = [ModelState(each.name, each.version, UNAVAILABLE, self._said(each)) for each in self._broken]
        return states + broken

    def _said(self, broken: Broken) -> str:
        return placeless(broken.why, self._repository.source)

    def describe(self, model: str, version: str | None) -> ModelDescription:
        """Describe a loaded model; see `Backend.describe`."""
        slot, served = self._found(model, version)
        return slot.describe(model, tuple(self.versions(model)), served)

    def versions(self, model: str) -> list[str]:
        """Give the versions of a model that are ready, oldest first.

        Raises:
            UnknownModelError: The repository has no such model.
        """
        ready = [version for version, slot in self._known(model).items() if slot.state == READY]
        return sorted(ready, key=version_order) if len(ready) > 1 else ready

    async def infer(self, request: Request, outputs: Sequence[str] | None) -> TensorAnswer:
        """Run a model on tensors; see `Backend.infer`."""
        began = time.perf_counter()
        served = self._chosen(request)
        if isinstance(served, ServedGenerator):
            raise _wrong_kind(request, "a prompt, for this model generates texts")
        if not isinstance(request.value, Mapping):
            raise _wrong_kind(request, "tensors")
        ran = await served.infer(request.value, request, outputs)
        details = {
            "route": str(_CLOUD.route),
            "reason": str(_CLOUD.reason),
            "variant": served.opened.choice.variant,
            "latency_ms": round(1000 * (time.perf_counter() - began), 3),
            "queue_ms": round(1000 * ran.queue_s, 3),
            "run_ms": round(1000 * ran.run_s, 3),
            "batch_rows": ran.batch_rows,
        }
        return TensorAnswer(ran.tensors, request.model, served.opened.bundle.manifest.version, details)

    async def predict(self, request: Request) -> Answer[Any]:
        """Answer by the model's task; see `Backend.predict`."""
        began = time.perf_counter()
        served = self._chosen(request)
        if isinstance(served, ServedGenerator):
            async with aclosing(self.generate(request)) as pieces:
                async for piece in pieces:
                    if piece.end is not None:
                        return piece.end
            raise EngineError(f"model '{request.model}' ended without an answer")
        value, ran = await served.predict(request, self._desk)
        if (call := current.get()) is not None:
            call.queue_s, call.run_s = ran.queue_s, ran.run_s
        return _answer(served, request, value, began)

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Generate a text piece by piece; see `Backend.generate`."""
        began = time.perf_counter()
        served = self._chosen(request)
        if not isinstance(served, ServedGenerator):
            raise _wrong_kind(
                request, f"a model that generates texts, not one of kind '{served.opened.spec.kind}'"
            )
        if not isinstance(request.value, Prompt | str):
            raise _wrong_kind(request, "a prompt")
        async with aclosing(served.generate(request.value, request.timeout_s)) as items:
            async for text, end in items:
                yield Piece(text, None if end is None else _answer(served, request, end, began))

    async def load(self, model: str, version: str | None = None) -> None:
        """Load a version of a model, after looking again what is there.

        Args:
            model: Its name.
            version: None: its newest.

        Raises:
            UnknownModelError: The repository has no such model or version.
            EdgeRuntimeError: It cannot be loaded; the reason stands in the index as well.
        """
        try:
            await self.rescan()
        except StorageError as error:
            raise placeless_error(error, self._repository.source) from error
        slots = self._known(model)
        if version is None:
            version = max(slots, key=version_order)
        if version not in slots:
            raise unknown_version(model, version, slots)
        await self._open(slots[version])

    async def load_version(self, model: str, version: str) -> None:
        """Load one version of a model; see `load`."""
        await self.load(model, version)

    async def unload(self, model: str, version: str | None = None) -> None:
        """Unload a model; requests under way are answered first.

        Args:
            model: Its name.
            version: None: all of them.

        Raises:
            UnknownModelError: The repository has no such model or version.
        """
        slots = self._known(model)
        if version is not None and version not in slots:
            raise unknown_version(model, version, slots)
        for each in list(slots) if version is None else [version]:
            slot = slots[each]
            async with slot.turn:
                slot.wanted = False
                if slot.served is not None:
                    served, slot.served = slot.served, None
                    slot.state, slot.reason = UNLOADING, "being unloaded"
                    await served.close()
                    del served
                slot.state, slot.reason = UNAVAILABLE, "unloaded"
        await asyncio.to_thread(give_memory_back)

    async def _open(self, slot: Slot) -> None:
        """Load what is in the repository now; what is served goes on until its successor is ready."""
        slot.want()
        async with slot.turn:
            slot.want()  # who had the turn may have unloaded it
            found, before = slot.found, slot.served
            if before is not None and slot.digest == found.digest:
                return
            try:
                served = await asyncio.to_thread(self._opened, found)
            except EdgeRuntimeError as error:
                told = placeless_error(error, self._repository.source)
                if before is None:
                    slot.state, slot.reason = UNAVAILABLE, str(told)
                _log.warning("model %s %s: %s", found.model, found.version, error)
                raise told from error
            slot.served, slot.digest, slot.state, slot.reason = served, found.digest, READY, ""
        if before is not None:
            await before.close()
        await asyncio.to_thread(give_memory_back)  # what was read and tried to load it is as large as it

    def _opened(self, found: Found) -> Served:
        options = self._options
        try:
            return open_version(
                found.open(),
                this_device(options.profile),
                self.instances,
                self._crew,
                limits=options.limits,
                writers=options.writers,
                engine=options.engine,
                observer=self._observer,
            )
        except EdgeRuntimeError:
            raise
        except Exception as error:  # one strange bundle must not take the others along
            raise BundleError(
                f"model '{found.model}' {found.version}: cannot be opened",
                got=f"{type(error).__name__}: {error}"[:300],
                do="Build the bundle again",
            ) from error

    def _chosen(self, request: Request) -> Served:
        """Give what answers a request: the version it names, else the picked one, else the newest."""
        version = request.version or self.pick(request.model, request)
        return self._served(request.model, version)

    def _served(self, model: str, version: str | None) -> Served:
        return self._found(model, version)[1]

    def _found(self, model: str, version: str | None) -> tuple[Slot, Served]:
        slots = self._known(model)
        if version is None:
            ready = self.versions(model)
            version = ready[-1] if ready else None
        slot = slots.get(version) if version is not None else None
        if slot is None or slot.served is None:
            raise not_ready(model, version, slots)
        return slot, slot.served

    def _known(self, model: str) -> dict[str, Slot]:
        slots = self._slots.get(model)
        if slots is None:
            if not self._started and not self._slots:
                raise OverloadedError("the repository is being read", retry_after_s=LOADING_RETRY_S)
            raise unknown_model(model, self._slots)
        return slots


def _answer(served: Served, request: Request, value: Any, began: float) -> Answer[Any]:
    return Answer(
        value,
        _CLOUD,
        request.model,
        served.opened.bundle.manifest.version,
        served.opened.choice.variant,
        1000 * (time.perf_counter() - began),
        confidence_of(value),
    )


def _wrong_kind(request: Request, expected: str) -> InputError:
    return InputError(f"model '{request.model}'", expected=expected, got=type(request.value).__name__)
