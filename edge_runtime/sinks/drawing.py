"""Draws a scene: boxes, zones, lines, counts, name and time on a picture of the height one asks for.

Knows no file and no codec. Anti-aliased, calm colours, sizes that follow the picture's.
"""

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.frame import Picture, Plane
from edge_runtime.contract.result import Boxes
from edge_runtime.contract.scene import Scene
from edge_runtime.tasks.fitted import fitter
from edge_runtime.tasks.geometry import Rect

Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, int, int]
Pixels: TypeAlias = NDArray[np.int32]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (40, 30, 24)
_ZONE: Colour = (196, 170, 92)
_LINE: Colour = (92, 190, 246)
_SQUARES = 6
"""Along the longer side of what is hidden: a face in a person's box has one or two of them."""
_GOLDEN = 0.618033988749895
"""Turns of the colour wheel between one track and the next: neighbours in time differ most (golden ratio)."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What a camera watches, to be drawn into its pictures.

    Args:
        zones: Corners of each zone, by name, as fractions of width and height.
        lines: Both ends of each line, by name, as fractions of width and height.
    """

    zones: Mapping[str, Sequence[Point]] = field(default_factory=dict[str, Sequence[Point]])
    lines: Mapping[str, tuple[Point, Point]] = field(default_factory=dict[str, tuple[Point, Point]])


def still(scene: Scene, overlay: Overlay, *, height: int = 480) -> Plane:
    """Draw a scene.

    Args:
        scene: The scene.
        overlay: What its camera watches.
        height: Of the drawing, in pixels; the width follows from the frame.

    Returns:
        (height, width, 3) uint8 BGR; both sides even.
    """
    image = picture_of(scene, height)
    _Desk(image).draw(scene, overlay)
    return image


def picture_of(scene: Scene, height: int) -> Plane:
    """Give a scene's picture without any drawing, but with what is hidden made unrecognizable.

    Args:
        scene: The scene.
        height: As for `still`.

    Returns:
        As `still`.
    """
    picture = scene.frame.picture
    image = shrink(picture, size_for(picture, height))
    cover(image, scene.hidden * (image.shape[0] / picture.height))
    return image


def cover(image: Plane, boxes: Boxes) -> None:
    """Make parts of a picture unrecognizable, in place: a few squares of one colour are left of each.

    Args:
        image: (h, w, 3) uint8 BGR.
        boxes: (n, 4) xyxy, pixels of the image.
    """
    rows, columns = image.shape[:2]
    for x1, y1, x2, y2 in boxes.tolist():
        left, top = max(0, math.floor(x1)), max(0, math.floor(y1))
        part = image[top : min(rows, math.ceil(y2)), left : min(columns, math.ceil(x2))]
        if not part.size:
            continue
        height, width = part.shape[:2]
        square = max(height, width, _SQUARES) / _SQUARES
        few = (max(1, round(width / square)), max(1, round(height / square)))
        squares = cv2.resize(part, few, interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(squares, (width, height), interpolation=cv2.INTER_NEAREST)


def label_boxes(image: Plane, found: Sequence[tuple[str, tuple[float, float, float, float] | None]]) -> None:
    """Draw named boxes into a picture, in place; a name without a box goes into the corner.

    Args:
        image: (h, w, 3) uint8 BGR.
        found: A text and (x1, y1, x2, y2) in pixels of the image, for each object.
    """
    desk = _Desk(image)
    # The last one drawn covers the others, so the first, which is the surest, comes last.
    for number, (text, box) in reversed(list(enumerate(found))):
        desk.box(number, box or (0, 24 * (number + 1), 0, 24 * (number + 1)), text)


def size_for(picture: Picture, height: int) -> tuple[int, int]:
    """Height and width, both even as video wants them, of a drawing with the picture's shape."""
    rows = max(2, height // 2 * 2)
    return rows, max(2, round(picture.width * rows / picture.height / 2) * 2)


def shrink(picture: Picture, size: tuple[int, int]) -> Plane:
    """Bring a picture to BGR at (height, width), resizing its planes before converting them."""
    image = np.empty((*size, 3), np.uint8)
    fitter(picture.format, Rect(0, 0, picture.height, picture.width), size, "bgr").write(picture, image)
    return image


def _named(scene: Scene, track: int, label: str) -> str:
    said = scene.attributes.get(track, {})
    return " ".join((f"{track} {label}", *(f"{name}={one.value}" for name, one in said.items())))


@lru_cache(maxsize=256)
def track_colour(track: int) -> Colour:
    """Give a track its colour (BGR): the same in every picture, of one brightness, easy to tell apart."""
    red, green, blue = colorsys.hls_to_rgb(track * _GOLDEN % 1.0, 0.6, 0.65)
    return round(blue * 255), round(green * 255), round(red * 255)


class _Desk:
    """One picture being drawn on."""

    def __init__(self, image: Plane) -> None:
        self._image = image
        self._height, self._width = image.shape[:2]
        self._unit = self._height / 480
        self._text = 0.42 * max(self._unit, 0.75)
        self._stroke = max(1, round(1.6 * self._unit))

    def draw(self, scene: Scene, overlay: Overlay) -> None:
        for name, corners in overlay.zones.items():
            self._zone(name, corners, scene.occupancy.get(name, 0))
        for name, ends in overlay.lines.items():
            self._line(name, ends, scene.crossings.get(name, {}))
        self._tracks(scene)
        moment = datetime.fromtimestamp(scene.frame.time_ns / 1e9, UTC)
        self._pill(f"{scene.frame.camera}   {moment:%Y-%m-%d %H:%M:%S}", (8, 8), _INK, _WHITE)

    def _zone(self, name: str, corners: Sequence[Point], occupancy: int) -> None:
        polygon = self._pixels(corners)
        self._tint(polygon, _ZONE, 0.28 if occupancy else 0.1)
        self._outline(polygon, _ZONE, max(1, self._stroke - 1), closed=True)
        x, y = polygon[np.lexsort((polygon[:, 0], polygon[:, 1]))[0]]
        self._pill(f"{name}  {occupancy}", (int(x) + 4, int(y) + 4), _ZONE, _INK)

    def _line(self, name: str, ends: tuple[Point, Point], counts: Mapping[str, int]) -> None:
        polygon = self._pixels(ends)
        self._outline(polygon, _LINE, self._stroke, closed=False)
        for x, y in polygon:
            cv2.circle(self._image, (int(x), int(y)), self._stroke * 2, _LINE, cv2.FILLED, cv2.LINE_AA)
        said = "  ".join(f"{word} {count}" for word, count in counts.items())
        x, y = polygon.mean(axis=0)
        self._pill(f"{name}  {said}".rstrip(), (int(x) + 6, int(y) + 6), _LINE, _INK)

    def _tracks(self, scene: Scene) -> None:
        tracks, picture = scene.tracks, scene.frame.picture
        scale = np.array((self._width / picture.width, self._height / picture.height) * 2)
        boxes = np.rint(tracks.boxes * scale).astype(int)
        for number, (x1, y1, x2, y2), kind in zip(tracks.ids, boxes, tracks.classes, strict=True):
            self.box(int(number), (x1, y1, x2, y2), _named(scene, int(number), str(tracks.labels[int(kind)])))

    def box(self, number: int, sides: tuple[float, float, float, float], text: str) -> None:
        x1, y1, x2, y2 = (round(side) for side in sides)
        colour = track_colour(number)
        cv2.rectangle(self._image, (x1, y1), (x2, y2), colour, self._stroke, cv2.LINE_AA)
        self._pill(text, (x1, y1), colour, _INK, above=True)

    def _pill(
        self, text: str, corner: tuple[int, int], back: Colour, ink: Colour, *, above: bool = False
    ) -> None:
        """Write text on a rounded plate whose top left (or, `above`, bottom left) corner is given."""
        (width, height), base = cv2.getTextSize(text, _FONT, self._text, 1)
        pad = round(4 * max(self._unit, 0.75))
        plate_width, plate_height = width + 2 * pad, height + base + pad
        x = min(max(0, corner[0]), max(0, self._width - plate_width))
        y = corner[1] - plate_height if above else corner[1]
        y = min(max(0, y), max(0, self._height - plate_height))
        self._plate(x, y, plate_width, plate_height, back)
        at = x + pad, y + plate_height - base - pad // 2
        cv2.putText(self._image, text, at, _FONT, self._text, ink, 1, cv2.LINE_AA)

    def _plate(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        radius = max(1, height // 5)
        left, top, right, bottom = x + radius, y + radius, x + width - radius - 1, y + height - radius - 1
        cv2.rectangle(self._image, (left, y), (right, y + height - 1), colour, cv2.FILLED)
        cv2.rectangle(self._image, (x, top), (x + width - 1, bottom), colour, cv2.FILLED)
        for centre in ((left, top), (right, top), (left, bottom), (right, bottom)):
            cv2.circle(self._image, centre, radius, colour, cv2.FILLED, cv2.LINE_AA)

    def _tint(self, polygon: Pixels, colour: Colour, strength: float) -> None:
        left, top, width, height = cv2.boundingRect(polygon)
        part = self._image[max(0, top) : top + height, max(0, left) : left + width]
        layer = part.copy()
        cv2.fillPoly(layer, [polygon - (max(0, left), max(0, top))], colour)
        cv2.addWeighted(layer, strength, part, 1 - strength, 0, dst=part)

    def _outline(self, polygon: Pixels, colour: Colour, stroke: int, *, closed: bool) -> None:
        cv2.polylines(self._image, [polygon], closed, colour, stroke, cv2.LINE_AA)

    def _pixels(self, points: Sequence[Point]) -> Pixels:
        sides = (self._width - 1, self._height - 1)
        return np.rint(np.array(points, np.float64) * sides).astype(np.int32)
