"""Drawing: what a person drew over a camera's picture, as the editor of the page sends it.

Says what is drawn; `edge_runtime.settings` says whether that is good, and knows the file.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Fraction, Fraction]
Polygon = Annotated[list[Point], Field(max_length=200)]
Word = Annotated[str, Field(max_length=100)]


class _Drawn(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DrawnZone(_Drawn):
    """A zone.

    Attributes:
        was: Its name in the file; None: it is new.
        name: Its name from now on.
        polygon: Corners as fractions of width and height.
        dwell_s: As in the settings.
    """

    was: Word | None = None
    name: Word
    polygon: Polygon
    dwell_s: float | None = None


class DrawnLine(_Drawn):
    """A line; as a zone, with both ends and the words for its directions."""

    was: Word | None = None
    name: Word
    start: Point
    end: Point
    a_to_b: Word = "a_to_b"
    b_to_a: Word = "b_to_a"


class Drawing(_Drawn):
    """All that is drawn over one camera's picture.

    Attributes:
        zones: In any order.
        lines: In any order.
        masks: Polygons in which motion does not count.
        never_look: Polygons that nothing looks at.
    """

    zones: Annotated[list[DrawnZone], Field(max_length=100)] = []
    lines: Annotated[list[DrawnLine], Field(max_length=100)] = []
    masks: Annotated[list[Polygon], Field(max_length=100)] = []
    never_look: Annotated[list[Polygon], Field(max_length=100)] = []


class Save(_Drawn):
    """A wish to save a drawing.

    Attributes:
        version: Of the file that it was drawn over.
        drawing: What is to be in it.
    """

    version: Word
    drawing: Drawing
