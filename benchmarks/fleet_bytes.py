"""What an update costs in bytes: the published patch of a real change, against plain zstd of the whole file.

The files are those that devices fetch, published through a real manager: the shipped detector with other
weights, and a store's settings. A retrained model is taken for the worst case: every weight is another.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from score import Score, console

from cloud_fallback.fleet.simulation.headquarters import Headquarters
from cloud_fallback.fleet.simulation.remodel import DETECTOR, LAST_LAYER, make_version

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 19
"""Of the plain zstd that patches are compared with: what one would choose for a file that is packed once."""
WEIGHTS_FROM = 51_200
"""Where they begin in the shipped detector's file; before them are biases and shapes."""


def last_layer(model: bytes) -> bytes:
    """Fine-tune: every weight of the last layer is a little other."""
    changed = bytearray(model)
    at = slice(LAST_LAYER.start, LAST_LAYER.start + LAST_LAYER.size_bytes)
    changed[at] = _nudged(model[at])
    return bytes(changed)


def everything(model: bytes) -> bytes:
    """Retrain: all bytes that look like weights are others."""
    changed = bytearray(model)
    for start, end in _dense(model):
        changed[start:end] = _nudged(model[start:end])
    return bytes(changed)


def _nudged(weights: bytes) -> bytes:
    old = np.frombuffer(weights, np.int8).astype(np.int16)
    step = np.random.default_rng(1).normal(0, 12, len(old)).round().astype(np.int16)
    return np.clip(old + step, -127, 127).astype(np.int8).tobytes()


def _dense(model: bytes, block: int = 4096) -> list[tuple[int, int]]:
    """Find blocks that hardly compress: 8-bit weights, and nothing else in such a file."""
    return [
        (start, min(start + block, len(model)))
        for start in range(WEIGHTS_FROM, len(model), block)
        if len(zstd.compress(model[start : start + block])) > 0.7 * len(model[start : start + block])
    ]


def settings(cameras: int, min_score: float) -> str:
    """Write the settings of a store with cameras."""
    lines = ["version: 1", "site: west-0042", "models:", "  people:", f"    bundle: {DETECTOR}"]
    lines += [f"    min_score: {min_score}", "    labels: [person]", "cameras:"]
    for number in range(cameras):
        x = (37 * number % 89) / 100
        lines += [
            f"  camera-{number}:",
            f"    source: rtsp://10.0.{number % 4}.{20 + 7 * number}/stream{number % 3}",
            "    model: people",
            "    zones:",
            f"      door: {{polygon: [[{x:.3f}, 0.1], [0.9, 0.1], [0.9, 0.8]], dwell_s: {5 + number}}}",
        ]
    lines += ["sinks:", "  - {type: jsonl, path: events.jsonl}"]
    return "\n".join(lines) + "\n"


def measure_bytes(score: Score) -> None:
    """Publish both files of each case, and compare what the manager then offers."""
    with tempfile.TemporaryDirectory() as name, Headquarters(Path(name) / "hq") as hq:
        folder = Path(name)
        keys = {kind: hq.delegate(kind, what) for kind, what in (("model", DETECTOR), ("settings", "agent"))}
        changes: dict[str, tuple[Callable[[bytes], bytes], float]] = {
            "last_layer": (last_layer, 0.05),
            "full": (everything, 1.0),
        }
        with hq.client() as client:
            hq.publish(make_version(folder / "first", "1.0.0"), keys["model"])
            for number, (what, (change, goal)) in enumerate(changes.items(), 1):
                source = make_version(folder / what, f"2.{number}.0", change)
                hq.publish(source, keys["model"])
                _tell(score, what, _sizes(client, DETECTOR, f"2.{number}.0", "1.0.0"), goal)
            for version, min_score in (("1.0.0", 0.35), ("1.0.1", 0.4)):
                file = folder / f"store-{version}.yaml"
                file.write_text(settings(8, min_score))
                hq.publish(file, keys["settings"], version=version)
            _tell(score, "config", _sizes(client, "agent", "1.0.1", "1.0.0"), 0.5)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one update: what is sent, the whole with plain zstd, and the whole."""

    sent: int
    plain: int
    whole: int


def _sizes(client: httpx.Client, name: str, version: str, base: str) -> Sizes:
    """Ask the manager what it offers to a device that has the version before."""
    found = client.get("/v1/releases", params={"name": name}).raise_for_status().json()["releases"]
    releases: dict[str, Any] = {each["version"]: each for each in found}
    new, old = releases[version], releases[base]
    whole = client.get(f"/artifacts/{new['target']}").raise_for_status().content
    patches = [each["size_bytes"] for each in new["deltas"] if each["base_sha256"] == old["sha256"]]
    return Sizes(min([*patches, len(whole)]), len(zstd.compress(whole, LEVEL)), len(whole))


def _tell(score: Score, what: str, sizes: Sizes, goal: float) -> None:
    console.print(
        f"{what}: whole {sizes.whole:,}, plain zstd {sizes.plain:,}, sent {sizes.sent:,}", highlight=False
    )
    score.figure(f"bytes_{what}", sizes.sent)
    score.figure(f"bytes_{what}_plain_zstd", sizes.plain)
    score.at_most(f"bytes_{what}_over_plain_zstd", sizes.sent / sizes.plain, goal)
