"""Charts of the report: inline SVG that stretches with the page, labels in HTML so that they never shrink.

Pure text in, text out; every word from outside is escaped here.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 240
_WORDS = ' class="words"'
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def clock(seconds: float) -> str:
    """Write a time since the start: `0:07`, `12:30`, `1:02:03`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def area_chart(values: NDArray[np.float64], bin_s: float, *, what: str) -> str:
    """Draw values over time as an area.

    Args:
        values: One a bin; the chart shows at most 240 points, each the mean of its bins.
        bin_s: Seconds a bin.
        what: What is counted, for the description.
    """
    group = max(1, -(-len(values) // _COLUMNS))
    points = np.array([values[start : start + group].mean() for start in range(0, len(values), group)])
    top = _round_up(float(points.max(initial=0.0)))
    step = group * bin_s
    seconds = len(values) * bin_s
    # Steps, not slopes: a count holds for its whole bin.
    path = " ".join(
        f"L{index * step:g} {top - value:.3f} H{min((index + 1) * step, seconds):g}"
        for index, value in enumerate(points)
    )
    hints = "".join(
        f'<rect x="{index * step:g}" width="{step:g}" y="0" height="{top:g}">'
        f"<title>{clock(index * step)}: {value:.1f}</title></rect>"
        for index, value in enumerate(points)
    )
    peak = float(points.max(initial=0.0))
    label = f"{what} over {clock(seconds)}, mean {values.mean():.1f}, highest {peak:.1f}"
    middle = f"{top / 2:g}"
    return (
        f'<div class="chart"><div class="y"><span>{top:g}</span><span>{middle}</span><span>0</span></div>'
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {seconds:g} {top:g}"'
        ' preserveAspectRatio="none">'
        f'<path class="grid" d="M0 0H{seconds:g}M0 {top / 2:g}H{seconds:g}"/>'
        f'<path class="area" d="M0 {top:g} {path} L{seconds:g} {top:g}Z"/>'
        f'<path class="edge" d="M{path[1:]}"/><g class="hints">{hints}</g></svg>{_time_axis(seconds)}</div>'
    )


def timeline(rows: Mapping[str, Sequence[float]], seconds: float) -> str:
    """Draw events as ticks, one row for each kind.

    Args:
        rows: Seconds of the events, by row.
        seconds: Length of the time axis.
    """
    lines = "".join(
        f'<span class="name">{escape(name)}</span>{_ticks(name, times, seconds)}'
        f'<span class="count">{len(times)}</span>'
        for name, times in rows.items()
    )
    return f'<div class="timeline">{lines}<span></span>{_time_axis(seconds)}<span></span></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """Write a table; the first column names its row, numbers stand right.

    Args:
        head: Titles of the columns.
        rows: Cells; anything that is not text is a number.
        caption: What the table shows.
    """
    cells = [tuple(row) for row in rows]
    words = [isinstance(cell, str) for cell in (cells[0] if cells else head)]
    titles = "".join(
        f'<th scope="col"{_WORDS if wordy else ""}>{escape(title)}</th>'
        for title, wordy in zip(head, words, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>' + "".join(map(_cell, rest)) + "</tr>"
        for first, *rest in cells
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    content = f"{said}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{content}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, str):
        return f"<td{_WORDS}>{escape(value)}</td>"
    return f"<td>{value:,.1f}</td>" if isinstance(value, float) else f"<td>{value:,}</td>"


def _ticks(name: str, times: Sequence[float], seconds: float) -> str:
    marks = "".join(f'<path d="M{at:.2f} 0V1"><title>{clock(at)}</title></path>' for at in times)
    return (
        f'<svg role="img" aria-label="{escape(name)}: {len(times)}" viewBox="0 0 {seconds:g} 1"'
        f' preserveAspectRatio="none"><path class="grid" d="M0 .5H{seconds:g}"/>{marks}</svg>'
    )


def _time_axis(seconds: float) -> str:
    step = next((step for step in _STEPS_S if seconds / step <= 7), seconds / 7)
    labels = "".join(
        f'<span style="left:{100 * at / seconds:.2f}%">{clock(at)}</span>'
        for at in np.arange(0, seconds, step).tolist()
    )
    return f'<div class="x">{labels}</div>'


def _round_up(value: float) -> float:
    """The next number a person likes as the end of an axis."""
    if value <= 2:
        return 2.0
    scale = 10.0 ** np.floor(np.log10(value))
    return float(next(step * scale for step in (1, 2, 4, 5, 6, 8, 10) if step * scale >= value))
