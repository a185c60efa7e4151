"""From a declaration to the task that follows it. Opens no model and reads no file."""

from collections.abc import Collection, Sequence

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import ClassificationSpec, DetectionSpec, TaskSpec
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.tasks.base import VisionTask
from edge_runtime.tasks.classification import ClassificationTask
from edge_runtime.tasks.detection import DetectionTask


def make_task(
    spec: TaskSpec,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    min_score: float | None = None,
    keep: Collection[str] = (),
) -> VisionTask:
    """Bind a declaration to a model.

    Args:
        spec: What the bundle declares.
        inputs: What the session takes.
        outputs: What the session gives.
        min_score: Answers below are left out; None: as declared.
        keep: Labels of interest of a detector; empty: all.

    Raises:
        BundleError: Declaration and model do not belong together, as far as shapes tell.
        ConfigError: A label to keep is none of the model's, or the model is no detector.
    """
    match spec:
        case DetectionSpec():
            return DetectionTask(spec, inputs, outputs, min_score=min_score, keep=keep)
        case ClassificationSpec():
            if keep:
                raise ConfigError(
                    "labels to keep", expected="none for a classifier", got=", ".join(sorted(keep))
                )
            return ClassificationTask(spec, inputs, outputs, min_score=min_score)
