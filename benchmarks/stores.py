"""Store settings of the benchmark: what ours is asked to do in each row. Runs nothing."""

from pathlib import Path
from typing import Any

CROWD_AREA = [[0.05, 0.35], [0.95, 0.35], [0.95, 0.95], [0.05, 0.95]]


def store(
    bundle: Path,
    sources: list[str],
    *,
    engine: str | None,
    workers: int,
    camera: dict[str, Any] | None = None,
    sinks: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Settings with a zone and a line on every camera, and events to a file.

    Args:
        bundle: The model.
        sources: One camera each.
        engine: None: what the ranking picks from the bundle's receipts.
        workers: Threads that infer.
        camera: More keys for each camera.
        sinks: More sinks.
    """
    watched = {
        "model": "people",
        "zones": {"street": {"polygon": CROWD_AREA, "labels": ["person"], "dwell_s": 3}},
        "lines": {"kerb": {"from": [0.05, 0.6], "to": [0.95, 0.6], "a_to_b": "out", "b_to_a": "in"}},
    }
    return {
        "version": 1,
        "site": "bench",
        "workers": workers,
        "models": {
            "people": {"bundle": str(bundle), "labels": ["person"], "engine": {"name": engine, "threads": 1}}
        },
        "cameras": {
            f"camera-{number}": watched | {"source": source} | (camera or {})
            for number, source in enumerate(sources, 1)
        },
        "sinks": [{"type": "jsonl", "path": "events.jsonl"}, *(sinks or [])],
    }
