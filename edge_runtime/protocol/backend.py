"""The seam between a protocol and whoever answers: the device's runtime, or the cloud's served models.

Knows neither HTTP nor JSON: doors (REST, gRPC) speak those and ask a `Backend`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Answer, Generation
from edge_runtime.contract.tensors import Tensors, TensorSpec


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model as v2's model metadata tell it.

    Args:
        name: As it is asked for.
        versions: All that are loaded.
        version: The one described.
        platform: E.g. `onnx_onnxruntime`; v2's `platform`.
        kind: The task: `detection`, `embedding`, …
        inputs: What the model takes; empty: not known here, so that whoever runs it compares.
        outputs: What it gives; empty: not known here.
    """

    name: str
    versions: tuple[str, ...]
    version: str
    platform: str
    kind: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A line of the repository's index.

    Args:
        name: The model.
        version: Of it.
        state: `READY`, `LOADING`, `UNLOADING`, `UNAVAILABLE` (v2 model repository extension).
        reason: Why it is not ready; empty when it is.
        memory_bytes: That it takes at its peak, as its receipt measured it, or the size of its files where
            nobody did; None: it is not loaded, or not known.
    """

    name: str
    version: str
    state: str
    reason: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TensorAnswer:
    """What a model gave for tensors.

    Args:
        tensors: The outputs that were asked for, or all.
        model: Its name.
        version: The version that ran.
        details: Of the answer: route, reason, variant, latency; become v2 response parameters.
    """

    tensors: Tensors
    model: str
    version: str
    details: Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text that is being generated.

    Args:
        text: New characters; may be empty.
        end: The whole, with the last piece only.
    """

    text: str
    end: Answer[Generation] | None = None


class Backend(Protocol):
    """Answers requests. Every method may be called at any time, many at once, on one event loop.

    All of them raise `EdgeRuntimeError`s only: `UnknownModelError`, `InputError`, `TooLargeError`,
    `OverloadedError`, `DeadlineError`, `RefusedError`, `EngineError`, `BundleError`, `RemoteError`.
    A caller that goes away cancels the task it awaits in; work not yet begun for it is dropped.
    """

    def ready(self) -> bool:
        """Say whether all models that should be loaded are."""
        ...

    def index(self) -> Sequence[ModelState]:
        """List every model and version known, loaded or not."""
        ...

    def describe(self, model: str, version: str | None) -> ModelDescription:
        """Describe a loaded model."""
        ...

    async def infer(self, request: Request, outputs: Sequence[str] | None) -> TensorAnswer:
        """Run a model on tensors.

        Args:
            request: Its value is tensors.
            outputs: The outputs wanted; None: all.
        """
        ...

    async def predict(self, request: Request) -> Answer[Any]:
        """Answer a picture, a text or a prompt by the model's task."""
        ...

    def generate(self, request: Request) -> AsyncIterator[Piece]:
        """Generate a text piece by piece; closing the iterator ends the work."""
        ...

    async def load(self, model: str) -> None:
        """Load a model of the repository, or its newest version."""
        ...

    async def unload(self, model: str) -> None:
        """Unload a model; requests under way are answered first."""
        ...


@runtime_checkable
class VersionLoader(Protocol):
    """What a backend can do besides where versions of a model are loaded one by one."""

    async def load_version(self, model: str, version: str) -> None:
        """Load one version of a model of the repository."""
        ...
