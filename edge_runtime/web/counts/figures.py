"""What the page of counts draws, as plain numbers. Pure: reads no file and makes no HTML."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.analytics.durations import Durations
from edge_runtime.analytics.storeday import SLOT_S, StoreClock
from edge_runtime.analytics.storesummary import DaySummary, Place, Queue

EDGES_S = (5, 15, 30, 60, 120, 300, 600, 1200, 3600)
"""Of the bars of a distribution of stays."""
LABELS = (
    "< 5 s",
    "5–15 s",
    "15–30 s",
    "½–1 min",
    "1–2 min",
    "2–5 min",
    "5–10 min",
    "10–20 min",
    "20–60 min",
    "> 1 h",
)


def figures(
    clock: StoreClock,
    summary: DaySummary,
    waiting: Mapping[Place, Sequence[float]],
    cameras: Sequence[str],
    *,
    now_s: float,
) -> dict[str, Any]:
    """Give what is drawn of a day.

    Args:
        clock: The store's.
        summary: The day.
        waiting: How long people have waited that wait now, by waiting line; empty for a day that is over.
        cameras: Those that have a heatmap of the day.
        now_s: Seconds since 1970.
    """
    begun = ceil((min(now_s, summary.end_s) - summary.hours[0]) / SLOT_S)
    return {
        "day": summary.day.isoformat(),
        "timezone": clock.zone.key,
        "begin": summary.hours[0],
        "end": summary.end_s,
        "slot": SLOT_S,
        "hours": _hours(clock, summary.hours),
        "entrances": [
            {
                "name": name,
                "in": passed.entered,
                "out": passed.left,
                "unseen_s": SLOT_S * max(begun - sum(summary.looked.get(passed.camera, ())), 0),
            }
            for name, passed in summary.entrances.items()
        ],
        "levels": {
            "inside": [level.inside for level in summary.levels],
            "most": [level.most for level in summary.levels],
            "missed": [level.missed for level in summary.levels],
        },
        "totals": _totals(summary),
        "labels": LABELS,
        "dwell": [
            {"name": _name(zone), **_distribution(Durations.sum(by_hour))}
            for zone, by_hour in sorted(summary.dwell.items())
        ],
        "queues": [
            {"name": _name(zone), **_line(queue), "now": [round(each) for each in waiting.get(zone, ())]}
            for zone, queue in sorted(summary.queues.items())
        ],
        "heat": list(cameras),
    }


def heat_figures(grid: NDArray[np.float32]) -> dict[str, Any]:
    """Give what is drawn of a heatmap: (rows, columns) seconds as one list of rows, and the most."""
    return {
        "rows": grid.shape[0],
        "columns": grid.shape[1],
        "seconds": [round(each, 1) for each in grid.reshape(-1).tolist()],
        "most": round(float(grid.max(initial=0)), 1),
    }


def _line(queue: Queue) -> dict[str, Any]:
    return {
        "mean": [round(each.mean, 2) for each in queue.lengths],
        "most": [each.most for each in queue.lengths],
        **_distribution(Durations.sum(queue.waits)),
    }


def _distribution(durations: Durations) -> dict[str, Any]:
    return {
        "count": durations.count,
        "median": durations.quantile(0.5),
        "p90": durations.quantile(0.9),
        "bars": durations.between(EDGES_S),
    }


def _name(place: Place) -> str:
    return " · ".join(place)


def _hours(clock: StoreClock, begins: Sequence[int]) -> list[str]:
    """Name hours; those that come twice with their time zone's letters."""
    plain = [clock.local(at_s).strftime("%H:%M") for at_s in begins]
    return [
        clock.local(at_s).strftime("%H:%M %Z") if plain.count(name) > 1 else name
        for at_s, name in zip(begins, plain, strict=True)
    ]


def _totals(summary: DaySummary) -> dict[str, int]:
    levels = summary.levels
    return {
        "in": sum(sum(passed.entered) for passed in summary.entrances.values()),
        "out": sum(sum(passed.left) for passed in summary.entrances.values()),
        "inside": levels[-1].inside if levels else 0,
        "most": max((level.most for level in levels), default=0),
        "missed": sum(level.missed for level in levels),
    }
