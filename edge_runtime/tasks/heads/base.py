"""The seam between detection and its heads: outputs in, candidates out.

Clipping, sorting and the way back to the picture are the same for all heads and stand in
`edge_runtime.tasks.detection`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_runtime.contract.result import Boxes, ClassIds, Scores
from edge_runtime.contract.tensors import Tensors
from edge_runtime.tasks.geometry import Size
from edge_runtime.tasks.outputs import Output

_FAR = 1 << 24
"""More classes than any model has, and exact as float32 and int32: garbage stays garbage when converted."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Objects as the model sees them, in any order.

    Args:
        boxes: (n, 4) float32 xyxy, pixels of the model's input, perhaps outside it.
        scores: (n,) float32 in [0, 1], none below the wanted one.
        classes: (n,) int32, not yet compared with the labels.
    """

    boxes: Boxes
    scores: Scores
    classes: ClassIds


class Decoder(Protocol):
    """Reads the outputs of one model."""

    def decode(self, tensors: Tensors, canvas: Size, min_score: float) -> Candidates:
        """Find the candidates.

        Args:
            tensors: The outputs of the model.
            canvas: (height, width) of the model's input.
            min_score: Candidates below are left out.

        Raises:
            BundleError: An output has not the shape or range that the head says.
            EngineError: An output is missing or not a number.
        """
        ...


def corners(centred: Boxes, canvas: Size | None) -> Boxes:
    """Turn cx cy w h into xyxy.

    Args:
        centred: (n, 4) float32.
        canvas: Size that the values are fractions of; None: they are pixels.
    """
    middle: Boxes = centred[:, :2]
    half: Boxes = centred[:, 2:] * np.float32(0.5)
    boxes = np.concatenate((middle - half, middle + half), axis=1)
    return boxes if canvas is None else to_pixels(boxes, canvas)


def to_pixels(boxes: Boxes, canvas: Size) -> Boxes:
    """Turn xyxy fractions of the canvas into pixels."""
    return boxes * np.array((canvas[1], canvas[0]) * 2, np.float32)


def class_indices(output: Output, values: Scores, offset: int) -> ClassIds:
    """Turn the class numbers of an output into indices.

    Args:
        output: Where they come from.
        values: (n,) float32: many exporters write classes as floats.
        offset: What the model calls its first class.

    Raises:
        EngineError: A value is not a number.
    """
    output.finite(values)
    return np.clip(np.rint(values), -_FAR, _FAR).astype(np.int32) - offset
