"""Counting: from settings to what keeps and what reads a store's counts."""

from collections.abc import Callable, Collection, Mapping
from zoneinfo import ZoneInfo

from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import Entrance, Layout
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.status import StoreStatus
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.recorder import CountsRecorder
from edge_runtime.counts.timezone import local_timezone
from edge_runtime.settings import AgentSettings, CameraSettings
from edge_runtime.settings.counts import CountsSettings, entrances


def clock_of(counts: CountsSettings) -> StoreClock:
    """Give a store's clock."""
    return StoreClock(ZoneInfo(counts.timezone or local_timezone()), counts.starts_at)


def layout_of(counts: CountsSettings, cameras: Mapping[str, CameraSettings]) -> Layout:
    """Give a store's entrances and waiting lines."""
    return Layout(
        entrances={
            name: Entrance((entrance.camera, entrance.line), entrance.inwards)
            for name, entrance in entrances(counts, cameras).items()
        },
        queues=frozenset(
            (camera, zone)
            for camera, settings in cameras.items()
            for zone, area in settings.zones.items()
            if area.queue
        ),
    )


class Counting:
    """What keeps the counts of a store, from the moment it is made.

    Args:
        settings: With a block `counts`.

    Raises:
        ConfigError: Without one.
        StorageError: The file cannot be made or opened.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = _wanted(settings)
        layout = layout_of(self._settings, settings.cameras)
        self.recorder = CountsRecorder(
            settings.state_dir, clock_of(self._settings), layout, keep_days=self._settings.keep_days
        )
        self._has_entrances = bool(layout.entrances)
        self.recorder.start()

    def watch(self, cameras: Mapping[str, CameraSettings], *, away: Collection[str] = ()) -> None:
        """Take in which cameras there are from now on.

        Args:
            cameras: All of them.
            away: Those that were stopped, even to start anew.
        """
        layout = layout_of(self._settings, cameras)
        self._has_entrances = bool(layout.entrances)
        self.recorder.watch(layout, away)

    def status(self) -> StoreStatus | None:
        """Say how many are in the store; None: no line is an entrance, or the disk cannot be read."""
        return self.recorder.store_status() if self._has_entrances else None


def reader_of(settings: Callable[[], AgentSettings]) -> CountsReader:
    """Make what reads a store's counts.

    Args:
        settings: Gives what runs now: cameras come and go.

    Raises:
        ConfigError: The settings want no counts.
    """
    counts = _wanted(settings())
    return CountsReader(settings().state_dir, clock_of(counts), lambda: layout_of(counts, settings().cameras))


def _wanted(settings: AgentSettings) -> CountsSettings:
    if settings.counts is None:
        raise ConfigError(
            "the settings keep no counts",
            expected="a block `counts`",
            do="Add `counts: {}` and run the store",
        )
    return settings.counts
