"""An input to warm a model up or to measure it with, where nobody brings one. Runs nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Sampling
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    GenerationSpec,
    ImageEmbeddingSpec,
    TaskSpec,
    TensorsSpec,
    TextClassificationSpec,
    TokenClassificationSpec,
)
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.tasks.rows import raw_inputs, read_rows

_TEXT = "The quick brown fox jumps over the lazy dog. " * 4
_OPEN_AXIS = 16
"""Length of an axis that a model leaves open."""
_USUAL_SIZE = (720, 1280)
"""Height and width: 16:9, as cameras have it."""


def sample_input(spec: TaskSpec, inputs: Sequence[TensorSpec], golden: Path | None = None) -> Any:
    """Give something that a task takes: the first golden input, else one made up, the same every time.

    Args:
        spec: The task.
        inputs: What the model takes.
        golden: The bundle's golden inputs; None: it has none.

    Returns:
        A picture (noise), a text, a prompt for two tokens, or tensors (zeros and ones).

    Raises:
        InputError: The golden inputs cannot be read.
    """
    if golden is not None:
        return raw_inputs(read_rows(golden), spec)[0]
    dice = np.random.default_rng(0)
    match spec:
        case TextClassificationSpec() | TokenClassificationSpec() | EmbeddingSpec():
            return _TEXT[: spec.input.max_length] if spec.input.overflow == "refuse" else _TEXT
        case GenerationSpec():
            return Prompt(text="The", sampling=Sampling(max_tokens=2))
        case TensorsSpec():
            shapes = {
                one.name: (one.dtype, [1, *(_OPEN_AXIS if axis is None else axis for axis in one.shape[1:])])
                for one in inputs
            }
            return {name: dice.integers(0, 2, shape).astype(dtype) for name, (dtype, shape) in shapes.items()}
        case DetectionSpec() | ClassificationSpec() | ImageEmbeddingSpec():
            return Picture.from_bgr(dice.integers(0, 256, (*_USUAL_SIZE, 3), np.uint8))
