"""Charts of a conversion's report: SVG for lines and bars, HTML for words, so that no word is ever stretched.

Pure text in, text out; every word from outside is escaped here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

_STEPS = (1, 2, 2.5, 5, 10)
_TICKS = 4
_SAME = 1e-9
"""Values that differ by less are drawn at one height."""
_NEAR = (4.0, 8.0)
"""Per cent of the axes within which two marks would hide each other."""


@dataclass(frozen=True, slots=True)
class Point:
    """One variant in a plot.

    Args:
        number: Written in the point, and the row of the table.
        x: Place to the right.
        y: Place upwards.
        said: For who points at it, and for who hears the page.
        shipped: Filled; else hollow.
    """

    number: int
    x: float
    y: float
    said: str
    shipped: bool


def scatter(
    points: Sequence[Point],
    *,
    x: str,
    y: str,
    level: float | None,
    level_name: str,
    most: float | None = None,
) -> str:
    """Draw points on two axes.

    Args:
        points: At least one.
        x: Name of the lower axis, which begins at 0.
        y: Name of the other one, which shows the range of the points.
        level: A line across, to compare with; None: none.
        level_name: What the line is.
        most: The most that `y` can be; None: any number. What is more by rounding is drawn there.
    """
    if most is not None:
        points = [replace(point, y=min(point.y, most)) for point in points]
    right = axis(0, max(point.x for point in points))
    heights = [point.y for point in points] + ([] if level is None else [level])
    up = axis(min(heights), max(heights), most)
    marks = "".join(_mark(near, right, up) for near in _near(points, right, up))
    lines = "".join(f'<path class="grid" d="M0 {100 - _share(tick, up):.1f}H100"/>' for tick in up)
    said = f"{y} against {x}: " + "; ".join(point.said for point in points)
    across = ""
    if level is not None:
        height = _share(level, up)
        lines += f'<path class="level" d="M0 {100 - height:.1f}H100"/>'
        across = f'<span class="level" style="bottom:{height:.1f}%">{escape(level_name)}</span>'
    rulers = (
        "".join(f'<span style="bottom:{_share(tick, up):.1f}%">{_number(tick)}</span>' for tick in up),
        "".join(f'<span style="left:{_share(tick, right):.1f}%">{_number(tick)}</span>' for tick in right),
    )
    return (
        f'<figure class="plot"><figcaption>{escape(y)} against {escape(x)}</figcaption>'
        f'<div class="y">{rulers[0]}</div><div class="field" role="img" aria-label="{escape(said)}">'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>'
        f'{across}{marks}</div><div class="x">{rulers[1]}</div></figure>'
    )


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Draw one bar a row, the longest as wide as the page.

    Args:
        rows: Name, value of 0 or more, and a word that sets the row apart; empty: it is like the others.
    """
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    lines = "".join(
        f'<span class="name">{escape(name)}{f" <b>{escape(word)}</b>" if word else ""}</span>'
        f'<svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{"apart" if word else "bar"}" width="{100 * value / most:.2f}" height="1"/></svg>'
        f'<span class="value">{value:.2g}</span>'
        for name, value, word in rows
    )
    return f'<div class="bars">{lines}</div>'


def axis(low: float, high: float, most: float | None = None) -> list[float]:
    """Give round numbers that hold a range: the ends of an axis and what stands between.

    Args:
        low: The range begins there.
        high: It ends there.
        most: A round number that no value is above, so no number of the axis is; None: there is none.
    """
    span = high - low
    if span <= _SAME * max(abs(low), abs(high), 1.0):
        span = max(abs(low), abs(high)) or 1.0
        if most is not None:
            low = high - span
    raw = max(span, _SAME) / _TICKS
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(one * scale for one in _STEPS if one * scale >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _near(points: Sequence[Point], right: Sequence[float], up: Sequence[float]) -> list[list[Point]]:
    """Group points that would hide each other; each group is drawn as one mark with several numbers."""
    groups: list[list[Point]] = []
    # Of marks that still touch, the shipped one lies on top.
    for point in sorted(points, key=lambda point: point.shipped):
        for group in groups:
            first = group[0]
            beside = abs(_share(point.x, right) - _share(first.x, right)) < _NEAR[0]
            level = abs(_share(point.y, up) - _share(first.y, up)) < _NEAR[1]
            if beside and level and point.shipped == first.shipped:
                group.append(point)
                break
        else:
            groups.append([point])
    return groups


def _mark(points: Sequence[Point], right: Sequence[float], up: Sequence[float]) -> str:
    first = points[0]
    place = f"left:{_share(first.x, right):.1f}%;bottom:{_share(first.y, up):.1f}%"
    kind = "point" if first.shipped else "point hollow"
    said = escape("\n".join(point.said for point in points))
    numbers = " ".join(str(point.number) for point in points)
    return f'<i class="{kind}" style="{place}" title="{said}">{numbers}</i>'


def _share(value: float, ticks: Sequence[float]) -> float:
    return 100 * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _number(value: float) -> str:
    return f"{value:.6g}"
