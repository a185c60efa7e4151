"""Average precision of a detector on the held-out end of the benchmark's recording, through our task code.

The truth is what the teacher saw, so the figure compares variants of one model; it says nothing about people.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.device import Decoding
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.tensors import Array, TensorSpec
from edge_runtime.video.source import SourceSpec, VideoSource

Floats = NDArray[np.float64]
IOU = 0.5


def ap50(predict: Callable[[Picture], Detections], pictures: Iterable[tuple[Picture, Path]]) -> float:
    """Area under the precision-recall curve at IoU 0.5, all points (PASCAL VOC 2010's definition).

    Args:
        predict: The detector, its score threshold near zero; only its class 0 counts.
        pictures: Each with its YOLO label file.
    """
    scores: list[float] = []
    hits: list[bool] = []
    people = 0
    for picture, label in pictures:
        truth = _truth(label, picture.width, picture.height)
        people += len(truth)
        found = predict(picture)
        person = found.classes == 0
        scores += found.scores[person].tolist()
        hits += _hits(found.boxes[person].astype(np.float64), truth)
    order = np.argsort(-np.asarray(scores), kind="stable")
    right = np.asarray(hits, dtype=np.float64)[order].cumsum()
    recall = right / max(people, 1)
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def images(frames: Sequence[Path], labels: Path) -> Iterator[tuple[Picture, Path]]:
    """Pictures from files, each with the label file of its name."""
    for path in frames:
        yield Picture.from_bgr(cv2.imread(str(path))), labels / f"{path.stem}.txt"


def recorded(clip: Path, decoding: Decoding, labels: dict[int, Path]) -> Iterator[tuple[Picture, Path]]:
    """Pictures of a recording as a camera's are decoded.

    Args:
        clip: The recording.
        decoding: Decoder options.
        labels: Number of a frame -> its label file; other frames are decoded, but not given.
    """
    source = VideoSource(SourceSpec(camera="bench", url=str(clip), decoding=decoding))
    try:
        for number, decoded in enumerate(source.frames()):
            if number in labels and decoded.picture is not None:
                yield decoded.picture, labels[number]
    finally:
        source.close()


def grey(spec: TensorSpec) -> Array:
    """An input of the shape and dtype a session declares, to time it with."""
    return np.full([axis or 1 for axis in spec.shape], 114, spec.dtype)


def _hits(boxes: Floats, truth: Floats) -> list[bool]:
    """Match boxes, best score first, each to the free true box it overlaps most."""
    free = np.ones(len(truth), dtype=bool)
    hits = []
    for box in boxes:
        overlaps = _iou(box, truth) * free
        best = int(overlaps.argmax()) if len(truth) else -1
        hit = best >= 0 and overlaps[best] >= IOU
        if hit:
            free[best] = False
        hits.append(bool(hit))
    return hits


def _iou(box: Floats, others: Floats) -> Floats:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return common / (areas - common)


def _truth(path: Path, width: int, height: int) -> Floats:
    rows = np.array([line.split() for line in path.read_text().splitlines()], dtype=np.float64).reshape(-1, 5)
    centres, sizes = rows[:, 1:3], rows[:, 3:5]
    return np.hstack([centres - sizes / 2, centres + sizes / 2]) * (width, height, width, height)
