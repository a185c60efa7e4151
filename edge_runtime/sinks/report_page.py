"""Puts the report's page together: one HTML file that needs no network, no script and no other file.

Reads and writes no report; every word from outside is escaped on its way in.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

import cv2
import numpy as np

from edge_runtime.contract.frame import Plane
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import AgentStatus, CameraStatus
from edge_runtime.sinks.drawing import Overlay, picture_of, still
from edge_runtime.sinks.report_charts import area_chart, clock, table, timeline
from edge_runtime.sinks.report_ledger import Ledger

_HEIGHT = 540
_BRIGHT = 99.0
"""Percentile of the visited cells that gets the brightest colour, so that one busy spot hides no other."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of one camera, (height, width, 3) uint8 BGR."""

    still: Plane
    heatmap: Plane


def paint(ledger: Ledger, scene: Scene, overlay: Overlay) -> Pictures:
    """Draw the busiest scene, and where objects stood over a grey copy of it."""
    heat = _heat(ledger, picture_of(scene, _HEIGHT))
    return Pictures(still(scene, overlay, height=_HEIGHT), heat)


def page(
    title: str,
    ledgers: Mapping[str, Ledger],
    pictures: Mapping[str, Pictures],
    status: AgentStatus,
    facts: Mapping[str, str],
) -> str:
    """Write the page.

    Args:
        title: Its heading.
        ledgers: What happened, by camera.
        pictures: By camera; a camera that showed nothing has none.
        status: The agent at the end.
        facts: What a reader should know about machine, model and version, by name.

    Returns:
        HTML.
    """
    template = Template(files("edge_runtime.sinks").joinpath("report.html").read_text("utf-8"))
    known = {camera.name: camera for camera in status.cameras}
    cameras = [_camera(name, ledger, pictures.get(name), known.get(name)) for name, ledger in ledgers.items()]
    return template.substitute(
        title=escape(title),
        lead=escape(_lead(ledgers)),
        tiles=_tiles(ledgers, status),
        cameras="\n".join(cameras),
        speed=_speed(status),
        sinks=_sinks(status),
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items()),
    )


def _lead(ledgers: Mapping[str, Ledger]) -> str:
    longest = max((ledger.seconds for ledger in ledgers.values()), default=0.0)
    count = len(ledgers)
    return f"{count} camera{'' if count == 1 else 's'}, {clock(longest)} of source time"


def _tiles(ledgers: Mapping[str, Ledger], status: AgentStatus) -> str:
    inferred = sum(camera.inferred for camera in status.cameras)
    decoded = sum(camera.decoded for camera in status.cameras)
    slowest = max((camera.latency.p95_ms for camera in status.cameras), default=0.0)
    cpu = sum(camera.cpu_ms * camera.decoded for camera in status.cameras) / max(decoded, 1)
    tiles = (
        (f"{sum(ledger.objects for ledger in ledgers.values()):,}", f"{_what(ledgers.values())} followed"),
        (f"{sum(ledger.events for ledger in ledgers.values()):,}", "events"),
        (f"{inferred:,}", f"pictures looked at, of {decoded:,}"),
        (f"{slowest:.0f} ms", "latency, 95 of 100 pictures"),
        (f"{cpu:.1f} ms", "CPU a picture"),
        (f"{status.rss_bytes / 1e6:.0f} MB", "memory"),
    )
    return "".join(f"<div><b>{escape(number)}</b><span>{escape(said)}</span></div>" for number, said in tiles)


def _what(ledgers: Iterable[Ledger]) -> str:
    labels = {label for ledger in ledgers for label in ledger.labels}
    return "people" if labels == {"person"} else "objects"


def _camera(name: str, ledger: Ledger, pictures: Pictures | None, status: CameraStatus | None) -> str:
    what = _what([ledger])
    parts = [f"<section><h2>{escape(name)}{_badge(status)}</h2>", _figures(name, ledger, pictures, what)]
    if len(ledger.counts.means):
        chart = area_chart(ledger.counts.means, ledger.counts.bin_s, what=f"{what} in view")
        parts.append(f"<h3>{what.capitalize()} in view</h3>{chart}")
    parts.append(f"<h3>Events</h3>{_events(ledger)}")
    return "\n".join([*parts, _tables(ledger), "</section>"])


def _badge(status: CameraStatus | None) -> str:
    if status is None:
        return ""
    reason = f": {status.reason}" if status.reason else ""
    return f' <small class="{escape(status.state)}">{escape(status.state + reason)}</small>'


def _figures(name: str, ledger: Ledger, pictures: Pictures | None, what: str) -> str:
    if pictures is None:
        return "<p>No picture was looked at.</p>"
    scene = ledger.busiest
    at = clock(0 if scene is None else scene.frame.pts_ns / 1e9)
    longest = float(ledger.heatmap.grid.max(initial=0.0))
    busiest = _image(pictures.still, f"The busiest moment of {name}: {ledger.most} {what} at {at}")
    heat = _image(
        pictures.heatmap, f"Where {what} stood in front of {name}; longest in one place {longest:.1f} s"
    )
    captions = (
        f"Busiest moment, {at}: {ledger.most} {what}",
        f'Where {what} stood <i class="scale"></i> longest in one place {longest:.1f} s',
    )
    return "".join(
        (
            '<div class="figures">',
            *(
                f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
                for image, caption in zip((busiest, heat), captions, strict=True)
            ),
            "</div>",
        )
    )


def _image(image: Plane, alt: str) -> str:
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 84])
    data = base64.b64encode(jpeg.tobytes()).decode()
    height, width = image.shape[:2]
    return f'<img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'


def _events(ledger: Ledger) -> str:
    if not ledger.marks:
        return "<p>None.</p>"
    rows: dict[str, list[float]] = {}
    for mark in sorted(ledger.marks, key=lambda mark: mark.row):
        rows.setdefault(mark.row, []).append(mark.second)
    shown = len(ledger.marks)
    note = f"<p>The latest {shown:,} of {ledger.events:,} are shown.</p>" if shown < ledger.events else ""
    return timeline(rows, max(ledger.seconds, 1.0)) + note


def _tables(ledger: Ledger) -> str:
    parts: list[str] = []
    if ledger.lines:
        rows = [
            (line, way, count) for line, ways in ledger.lines.items() for way, count in sorted(ways.items())
        ]
        parts.append(table(("Line", "direction", "crossings"), rows))
    if ledger.zones:
        head = ("Zone", "entered", "left", "lingered", "most at once", "mean stay, s")
        rows = [
            (zone, stays.entered, stays.left, stays.lingered, stays.most, stays.mean_dwell_s)
            for zone, stays in ledger.zones.items()
        ]
        parts.append(table(head, rows))
    return f'<div class="tables">{"".join(parts)}</div>' if parts else ""


def _speed(status: AgentStatus) -> str:
    pace = [
        (
            camera.name,
            camera.latency.p50_ms,
            camera.latency.p95_ms,
            camera.latency.p99_ms,
            camera.inference.p50_ms,
            camera.inference.p95_ms,
            camera.cpu_ms,
        )
        for camera in status.cameras
    ]
    causes = sorted({cause for camera in status.cameras for cause in camera.dropped})
    frames = [
        (camera.name, camera.decoded, camera.inferred, *(camera.dropped.get(cause, 0) for cause in causes))
        for camera in status.cameras
    ]
    head = ("Camera", "latency p50", "p95", "p99", "inference p50", "p95", "CPU a picture")
    dropped = [f"not looked at: {cause}" for cause in causes]
    return (
        table(head, pace, caption="Milliseconds; latency is from the decoded picture to its events")
        + table(("Camera", "decoded", "looked at", *dropped), frames, caption="Pictures")
        + f"<p>{status.cpu_cores:.2f} cores busy over {clock(status.uptime_s)}.</p>"
    )


def _sinks(status: AgentStatus) -> str:
    if not status.sinks:
        return ""
    head = ("Sink", "written", "waiting", "dropped", "trouble")
    rows = [
        (sink.name, sink.written, sink.waiting, sink.dropped, sink.trouble or "–") for sink in status.sinks
    ]
    return f"<h2>Sinks</h2>{table(head, rows)}"


def _heat(ledger: Ledger, background: Plane) -> Plane:
    height, width = background.shape[:2]
    seconds = cv2.GaussianBlur(ledger.heatmap.grid, (0, 0), 1.0)
    visited = seconds[seconds > 0]
    bright = float(np.percentile(visited, _BRIGHT)) if visited.size else 1.0
    # The square root shows a path walked once beside a spot stood on for minutes.
    share = np.sqrt(np.clip(seconds / bright, 0, 1))
    share = np.clip(cv2.resize(share, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(cv2.cvtColor(background, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) * 0.6
    weight = np.clip(share * 1.8, 0, 0.9)[:, :, None]
    return (grey * (1 - weight) + colours * weight).astype(np.uint8)
