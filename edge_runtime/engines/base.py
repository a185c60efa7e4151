"""The seam to inference engines: an Engine opens a variant and gives a Session.

Knows no vendor. An adapter is one file beside this one, imported when its name is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_runtime.contract.tensors import Tensors, TensorSpec


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to open a variant.

    Args:
        threads: Threads one `run` may use. Callers that run in parallel want 1.
        providers: Execution providers or delegates, best first; empty: the engine's plain CPU path.
        allow_fallback: Accept the CPU when none of `providers` really runs; otherwise that is an error.
        cache: Folder for compiled models; None: none is kept.
        callers: How many threads will call `run` at the same time; an engine that must know beforehand lets
            more than that wait for each other.
        half_precision: Let the engine calculate a float32 model in bfloat16 or float16 where the hardware is
            built for it. Faster, and not what the receipts measured unless they were measured so.
    """

    threads: int = 1
    providers: tuple[str, ...] = ()
    allow_fallback: bool = False
    cache: Path | None = None
    callers: int = 1
    half_precision: bool = False


class Session(Protocol):
    """An opened model. `run` may be called from several threads at once."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What `run` takes."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What `run` gives."""
        ...

    @property
    def provider(self) -> str:
        """What really executes the model, in the engine's words: `CPUExecutionProvider`, `XNNPACK`, `GPU`."""
        ...

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once.

        Args:
            inputs: One array for each of `inputs`.

        Returns:
            One array for each of `outputs`, owned by the caller.

        Raises:
            InputError: A name, dtype or shape is wrong; the session stays usable.
            EngineError: The engine failed, or the session is closed.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back. Idempotent; waits for a `run` under way."""
        ...


class Engine(Protocol):
    """A vendor's runtime."""

    name: str
    formats: tuple[str, ...]

    def available(self) -> str | None:
        """Say why this engine cannot run here and what to install; None when it can."""
        ...

    def providers(self) -> tuple[str, ...]:
        """The execution providers or delegates this installation has, the engine's own order."""
        ...

    def open(self, variant: Path, *, options: EngineOptions) -> Session:
        """Open a model file (or folder).

        Raises:
            BundleError: The file is missing, corrupt or not of a format this engine takes.
            EngineError: The engine is not available, or no wanted provider runs.
        """
        ...
