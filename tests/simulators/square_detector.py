"""A detector for the clips of `clips`: finds the bright square. Implements the port that models implement."""

import threading
from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections

LABELS = ("square",)


class SquareDetector:
    """Boxes everything brighter than 180.

    Args:
        batch: Pictures it likes to get at once.
        gate: When given, every call waits until it is set.
        fail_at: Numbers of the calls that fail, counted from 0.
    """

    def __init__(
        self, batch: int = 1, gate: threading.Event | None = None, fail_at: frozenset[int] = frozenset()
    ) -> None:
        self.batch = batch
        self.sizes: list[int] = []
        self.shapes: set[tuple[int, int]] = set()
        self._gate = gate
        self._fail_at = fail_at
        self._lock = threading.Lock()

    def predict_many(self, pictures: Sequence[Picture]) -> list[Detections]:
        with self._lock:
            call = len(self.sizes)
            self.sizes.append(len(pictures))
            self.shapes |= {(picture.height, picture.width) for picture in pictures}
        if self._gate is not None:
            self._gate.wait(30)
        if call in self._fail_at:
            raise EngineError("model 'square'", expected="numbers", got="NaN in output 'boxes'")
        return [find(picture) for picture in pictures]


def find(picture: Picture) -> Detections:
    rows, columns = np.nonzero(picture.luma > 180)
    if not rows.size:
        return Detections.empty(LABELS)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return Detections(np.array([box], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32), LABELS)
