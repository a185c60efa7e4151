"""An AgentStatus laid out for a person: a live table, or one line a camera. Asks the agent for nothing."""

from collections.abc import Iterator

from rich.console import Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_runtime.contract.status import (
    AgentStatus,
    CameraState,
    CameraStatus,
    RequestStatus,
    SinkStatus,
    VersionStatus,
)

_STYLES = {
    CameraState.STARTING: "dim",
    CameraState.ONLINE: "green",
    CameraState.OFFLINE: "yellow",
    CameraState.ENDED: "blue",
    CameraState.FAILED: "bold red",
}


def status_table(status: AgentStatus) -> Group:
    """Lay out cameras, sinks, requests and the process."""
    cameras = Table(box=None, pad_edge=False)
    for title in ("camera", "state", "read"):
        cameras.add_column(title)
    for title in ("fps", "frames", "inferred", "dropped", "inference", "latency p99"):
        cameras.add_column(title, justify="right")
    cameras.add_column("counts", overflow="fold")
    for camera in status.cameras:
        cameras.add_row(*_camera_row(camera))
    requests = status.requests
    return Group(
        *((cameras,) if status.cameras or requests is None else ()),
        *(Text(camera.reason, style=_STYLES[camera.state]) for camera in status.cameras if camera.reason),
        *(
            Text(f"camera {camera.name} is decoded by the {camera.decoder}", style="yellow")
            for camera in status.cameras
            if ": " in camera.decoder  # and why not by what the profile names
        ),
        *(Text(line, style="yellow") for line in worries(status)),
        *(Text(sink_line(sink), style="yellow" if sink.trouble else "dim") for sink in status.sinks),
        *(() if requests is None else (Text(requests_line(requests), style=_request_style(requests)),)),
        *(Text(line, style="dim" if fine else "yellow") for line, fine in fleet_lines(status)),
        Text(process_line(status), style="dim"),
    )


def status_lines(status: AgentStatus) -> Iterator[str]:
    """Write the same as plain lines, for a log."""
    for camera in status.cameras:
        yield (
            f"camera={camera.name} state={camera.state} fps={camera.inferred_fps:.1f}"
            f" decoded={camera.decoded} inferred={camera.inferred}"
            f" dropped={sum(camera.dropped.values())} {counts(camera)}".rstrip()
        )
    yield from worries(status)
    for sink in status.sinks:
        yield sink_line(sink)
    if status.requests is not None:
        yield requests_line(status.requests)
    for line, _ in fleet_lines(status):
        yield line


def worries(status: AgentStatus) -> Iterator[str]:
    """Write what is wrong with pictures that come, and what the machine has given up."""
    for camera in status.cameras:
        if camera.health:
            yield f"camera {camera.name}: its picture is {' and '.join(camera.health)}"
    if status.level:
        yield f"level {status.level}: fewer frames are looked at: {status.level_reason}"


def counts(camera: CameraStatus) -> str:
    """Write occupancy and crossings: `aisle 2 · door in 3 out 1`."""
    zones = [f"{zone} {number}" for zone, number in camera.occupancy.items()]
    lines = [
        f"{line} {' '.join(f'{word} {number}' for word, number in ways.items())}"
        for line, ways in camera.crossings.items()
    ]
    return " · ".join([*zones, *lines])


def sink_line(sink: SinkStatus) -> str:
    """Write how a sink is doing."""
    waiting = f", {sink.waiting} waiting" if sink.waiting else ""
    dropped = f", {sink.dropped} dropped" if sink.dropped else ""
    trouble = f": {sink.trouble}" if sink.trouble else ""
    return f"sink {sink.name}: {sink.written} {sink.what} written{waiting}{dropped}{trouble}"


def requests_line(requests: RequestStatus) -> str:
    """Write how the door and the cloud behind it are doing."""
    answered = (
        ", ".join(f"{count} {route}" for route, count in sorted(requests.answered.items())) or "none yet"
    )
    cloud = f"; cloud {requests.cloud}" if requests.cloud else ""
    owed = f", {requests.owed} owed to it" if requests.owed else ""
    dropped = f", {requests.dropped} dropped" if requests.dropped else ""
    trouble = f": {requests.trouble}" if requests.trouble else ""
    return f"door {requests.door}: answered {answered}{cloud}{owed}{dropped}{trouble}"


def fleet_lines(status: AgentStatus) -> Iterator[tuple[str, bool]]:
    """Write how it stands with the fleet, and whether each line is good news."""
    fleet = status.fleet
    if fleet is not None:
        state = "connected" if fleet.connected else "not connected"
        yield f"fleet {fleet.tenant}/{fleet.device}: {state}", fleet.connected
        for each in fleet.versions:
            yield version_line(each), not each.reason
        for trouble in fleet.trouble:
            yield f"fleet: {trouble}", False
    if status.trouble:
        yield status.trouble, False
    if status.later:
        yield f"settings that wait for a restart: {', '.join(status.later)}", False


def version_line(version: VersionStatus) -> str:
    """Write one thing that a fleet updates: `model detector: 1.2.0, downloading 1.3.0 42 %`."""
    to = f" {version.target}" if version.target else ""
    done = f" {version.progress:.0%}" if version.state == "downloading" else ""
    reason = f": {version.reason}" if version.reason else ""
    return (
        f"{version.kind} {version.name}: {version.version or 'as installed'},"
        f" {version.state}{to}{done}{reason}"
    )


def _request_style(requests: RequestStatus) -> str:
    return "yellow" if requests.trouble or requests.cloud not in {"", "online"} else "dim"


def process_line(status: AgentStatus) -> str:
    """Write what the process costs."""
    return f"{status.cpu_cores:.2f} cores busy, {status.rss_bytes / 2**20:.0f} MiB, {status.uptime_s:.0f} s"


def _camera_row(camera: CameraStatus) -> tuple[str | ProgressBar, ...]:
    style = _STYLES[camera.state]
    read: str | ProgressBar = "live"
    if camera.progress is not None:
        read = ProgressBar(total=1.0, completed=camera.progress, width=20)
    elif camera.state in {CameraState.FAILED, CameraState.STARTING}:  # nobody knows yet, or ever
        read = ""
    return (
        camera.name,
        f"[{style}]{camera.state}[/]",
        read,
        f"{camera.inferred_fps:.1f}",
        str(camera.decoded),
        str(camera.inferred),
        str(sum(camera.dropped.values())),
        f"{camera.inference.p50_ms:.1f} ms",
        f"{camera.latency.p99_ms:.1f} ms",
        escape(counts(camera)),
    )
