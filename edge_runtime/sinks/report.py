"""ReportSink: remembers what happened and, at the end, writes one self-contained HTML page about it.

Beside the page, each camera's heatmap as a PNG. Keeps bounded memory however long the agent runs; what a
killed agent had not written yet is lost: the events themselves are another sink's.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import AgentStatus, SinkStatus
from edge_runtime.sinks.drawing import Overlay
from edge_runtime.sinks.report_ledger import Ledger
from edge_runtime.sinks.report_page import page, paint


class ReportSink:
    """Takes events as an event sink and pictures as a scene sink; both feed the same report.

    Events come through `write` alone, so that those of a stream's end, which belong to no scene, count too.

    Args:
        path: The HTML file; made with its folder when absent.
        overlays: What each camera watches, by camera name.
        title: Heading of the page.
        name: What statuses and messages call this sink.
    """

    def __init__(
        self, path: Path, overlays: Mapping[str, Overlay], *, title: str = "Report", name: str = "report"
    ) -> None:
        self.name = name
        self._path = path
        self._overlays = overlays
        self._title = title
        self._lock = threading.Lock()
        self._ledgers: dict[str, Ledger] = {camera: Ledger() for camera in overlays}

    def show(self, scene: Scene) -> None:
        """Count the objects of a scene, and keep it when it is the busiest so far."""
        with self._lock:
            self._ledger(scene.frame.camera).see(scene)

    def write(self, events: Sequence[Event]) -> None:
        """Count events."""
        with self._lock:
            for event in events:
                self._ledger(event.camera).note(event)

    def sync(self) -> None:
        """Nothing: a report is written once, by `finish`."""

    def status(self) -> SinkStatus:
        """Say how many events the report has counted."""
        with self._lock:
            return SinkStatus(self.name, written=sum(ledger.events for ledger in self._ledgers.values()))

    def close(self) -> None:
        """Nothing: `finish` writes the report when the last status is known."""

    def finish(self, status: AgentStatus, facts: Mapping[str, str]) -> tuple[Path, ...]:
        """Write the page and the heatmaps, replacing older ones.

        Args:
            status: The agent at the end.
            facts: What a reader should know about machine, model and version, by name.

        Returns:
            The files: the page first.

        Raises:
            StorageError: They cannot be written.
        """
        with self._lock:
            pictures = {
                camera: paint(ledger, ledger.busiest, self._overlays.get(camera, Overlay()))
                for camera, ledger in self._ledgers.items()
                if ledger.busiest is not None
            }
            html = page(self._title, self._ledgers, pictures, status, facts)
        written = [_replace(self._path, html.encode())]
        for camera, picture in pictures.items():
            _, png = cv2.imencode(".png", picture.heatmap)
            written.append(_replace(self._path.with_name(f"heatmap-{camera}.png"), png.tobytes()))
        return tuple(written)

    def _ledger(self, camera: str) -> Ledger:
        return self._ledgers.setdefault(camera, Ledger())


def _replace(path: Path, content: bytes) -> Path:
    """Write a file so that nobody ever reads half of it."""
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot write the report",
            got=error.strerror or str(error),
            do="Free the disk or allow this user to write there, then start again",
        ) from error
    return path
