"""Detection: pictures in, boxes out, whatever the model, as its declaration says. Runs no model."""

from collections.abc import Collection, Sequence

import numpy as np

from edge_runtime.contract.errors import BundleError, ConfigError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import DetectionSpec, DetrHead, DistancesHead, NmsHead, SsdHead, YoloHead
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.geometry import Placement
from edge_runtime.tasks.heads.base import Decoder
from edge_runtime.tasks.heads.detr import DetrDecoder
from edge_runtime.tasks.heads.distances import DistancesDecoder
from edge_runtime.tasks.heads.nms import NmsDecoder
from edge_runtime.tasks.heads.ssd import SsdDecoder
from edge_runtime.tasks.heads.yolo import YoloDecoder
from edge_runtime.tasks.pixels import ImageTensor


class DetectionTask:
    """A detector, by declaration."""

    def __init__(
        self,
        spec: DetectionSpec,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        min_score: float | None = None,
        keep: Collection[str] = (),
    ) -> None:
        """Bind the declaration to a model.

        Args:
            spec: The declaration.
            inputs: What the model takes.
            outputs: What the model gives.
            min_score: Detections below are dropped; None: as declared.
            keep: Labels of interest; empty: all.

        Raises:
            BundleError: Declaration and model do not belong together.
            ConfigError: A label to keep is none of the model's.
        """
        self._labels = spec.labels
        self._most = spec.max_detections
        self._min_score = spec.min_score if min_score is None else min_score
        self._wanted = _wanted(spec.labels, keep)
        self._image = ImageTensor(spec.input, inputs)
        self._decoder = _decoder(spec, outputs, np.flatnonzero(self._wanted).tolist() if keep else ())

    def preprocess(self, x: Picture) -> tuple[Tensors, Placement]:
        """Make the model's input; see `Task.preprocess`."""
        tensor, placement = self._image.fill(x)
        return {self._image.name: tensor}, placement

    def postprocess(self, y: Tensors, undo: Placement) -> Detections:
        """Make detections of the model's output; see `Task.postprocess`."""
        found = self._decoder.decode(y, undo.canvas, self._min_score)
        if not len(found.scores):
            return Detections.empty(self._labels)
        self._check_classes(found.classes.min(), found.classes.max())
        boxes = undo.to_picture(found.boxes)
        real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & self._wanted[found.classes]
        kept = np.flatnonzero(real)
        order = kept[np.argsort(-found.scores[kept], kind="stable")[: self._most]]
        return Detections(boxes[order], found.scores[order], found.classes[order], self._labels)

    def _check_classes(self, lowest: int, highest: int) -> None:
        if lowest < 0 or highest >= len(self._labels):
            raise BundleError(
                "the model found a class that has no label",
                expected=f"an index from 0 to {len(self._labels) - 1} for {len(self._labels)} labels",
                got=f"index {lowest if lowest < 0 else highest}",
                do="Give the task all labels of the model, or correct the head's class_offset",
            )


def _decoder(spec: DetectionSpec, outputs: Sequence[TensorSpec], wanted: Sequence[int]) -> Decoder:
    match spec.head:
        case SsdHead():
            return SsdDecoder(spec.head, outputs)
        case NmsHead():
            return NmsDecoder(spec.head, outputs)
        case YoloHead():
            return YoloDecoder(spec.head, outputs, len(spec.labels), wanted)
        case DistancesHead():
            return DistancesDecoder(spec.head, outputs, len(spec.labels), wanted)
        case DetrHead():
            return DetrDecoder(spec.head, outputs, len(spec.labels))


def _wanted(labels: tuple[str, ...], keep: Collection[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    strangers = sorted(set(keep) - set(labels))
    if strangers:
        raise ConfigError(
            "labels to keep",
            expected=f"some of {', '.join(labels)}",
            got=", ".join(strangers),
            do="Correct the labels, or leave them out to keep all",
        )
    return np.array([not keep or label in keep for label in labels])
