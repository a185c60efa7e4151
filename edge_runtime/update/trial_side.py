"""Side: one of the two versions in a trial, from a raw input to tensors and an answer. Opens nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Variant
from edge_runtime.contract.task import TaskSpec, TextSpec
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import Session
from edge_runtime.local_model import tokenizer_of
from edge_runtime.predict import WINDOWS_AT_ONCE, run_rows
from edge_runtime.tasks.base import Task
from edge_runtime.tasks.make import make_any_task
from edge_runtime.tasks.rows import raw_inputs, read_rows
from edge_runtime.tasks.sample_input import sample_input


@dataclass(frozen=True, slots=True)
class Side:
    """An opened version.

    Args:
        bundle: Where it came from.
        variant: What was opened of it.
        spec: The task as this variant has it.
        session: The engine's side; may answer others at the same time.
        task: Bound for this trial alone.
    """

    bundle: ModelBundle
    variant: Variant
    spec: TaskSpec
    session: Session
    task: Task[Any, Any]

    def tensors(self, raw: Any) -> tuple[Tensors, Any]:
        """Make tensors that last, and what `answer` needs to know of them.

        Raises:
            InputError: The input is not what the task takes.
        """
        tensors, undo = self.task.preprocess(raw)
        return {name: np.array(array) for name, array in tensors.items()}, undo

    def run(self, tensors: Tensors) -> Tensors:
        """Run the model once.

        Raises:
            EdgeRuntimeError: It failed.
        """
        at_once = WINDOWS_AT_ONCE if isinstance(self.spec, TextSpec) else None
        return run_rows(self.session, tensors, at_once)

    def samples(self) -> list[Any]:
        """Give the golden inputs; where the bundle has none, one that is made up.

        Raises:
            InputError: They cannot be read.
        """
        golden = self.bundle.manifest.golden
        if golden is None:
            return [sample_input(self.spec, self.session.inputs)]
        return raw_inputs(read_rows(self.bundle.root / golden.inputs.path), self.spec)


def side_of(
    bundle: ModelBundle, variant_id: str, session: Session, *, min_score: float | None = None
) -> Side:
    """Bind an opened version for a trial.

    Args:
        bundle: Where it came from.
        variant_id: What was opened of it.
        session: The engine's side.
        min_score: Answers of a vision model below are left out; None: as the task declares.

    Raises:
        BundleError: File, shapes and task do not belong together.
    """
    variant = next(each for each in bundle.manifest.variants if each.id == variant_id)
    spec = bundle.manifest.task_of(variant)
    task = make_any_task(spec, session.inputs, session.outputs, tokenizer_of(bundle), min_score=min_score)
    return Side(bundle, variant, spec, session, task)


def not_finite(outputs: Tensors) -> int:
    """Count outputs that have a NaN or an infinity."""
    return sum(array.dtype.kind in "fc" and not bool(np.isfinite(array).all()) for array in outputs.values())
