"""Blackout: parts of a camera's picture that are painted over before anything looks at it.

Works on the planes as they were decoded, on a copy: the decoder predicts the next picture from its own.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from edge_runtime.contract.frame import Frame, Picture, PixelFormat, Plane

Polygon = Sequence[tuple[float, float]]
_BLACK = {
    PixelFormat.I420: (16, 128, 128),
    PixelFormat.I420_FULL: (0, 128, 128),
    PixelFormat.NV12: (16, 128),
    PixelFormat.BGR: (0,),
}


class Blackout:
    """The painted parts of one camera.

    Args:
        polygons: Corners as fractions of width and height; none: pictures stay as they are.
    """

    def __init__(self, polygons: Sequence[Polygon]) -> None:
        self._polygons = [np.array(polygon, np.float64) for polygon in polygons]

    def of(self, frame: Frame) -> Frame:
        """Give a frame without what is in the polygons; the same object where there are none."""
        return replace(frame, picture=self.paint(frame.picture)) if self._polygons else frame

    def paint(self, picture: Picture) -> Picture:
        """Give a picture without what is in the polygons."""
        blacks = _BLACK[picture.format]
        planes = tuple(
            self._painted(plane, black) for plane, black in zip(picture.planes, blacks, strict=True)
        )
        return Picture(picture.format, planes, picture.height, picture.width)

    def _painted(self, plane: Plane, black: int) -> Plane:
        copy = plane.copy()
        height, width = copy.shape[:2]
        for polygon in self._polygons:
            # One pixel wider: half a chroma sample must not show what the brightness hides.
            corners = np.rint(polygon * (width, height)).astype(np.int32)
            cv2.fillPoly(copy, [corners], (black,) * 4)
            cv2.polylines(copy, [corners], isClosed=True, color=(black,) * 4, thickness=2)
        return copy
