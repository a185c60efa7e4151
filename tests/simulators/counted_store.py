"""A store whose counts are kept and read, and whose clock a test turns."""

from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import DaySummary, Entrance, Layout
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.recorder import CountsRecorder

CLOCK = StoreClock(ZoneInfo("Europe/Berlin"))
DAY = date(2026, 11, 25)
OPENS_S = CLOCK.begin_s(DAY) + 5 * 3600
LAYOUT = Layout({"front": Entrance(("door", "front"), "in")}, frozenset({("till", "line")}))


class Store:
    """A recorder and a reader over one folder, and a clock to turn."""

    def __init__(self, folder: Path, *, keep_days: int = 400, now_s: float = OPENS_S) -> None:
        self.folder, self.now_s, self.keep_days = folder, now_s, keep_days
        self.leapt_s = 0.0
        """How far somebody has put the clock forward."""
        self.recorder = self.opened()
        self.reader = CountsReader(folder, CLOCK, lambda: LAYOUT, now=lambda: self.now_s)

    def opened(self) -> CountsRecorder:
        recorder = CountsRecorder(
            self.folder,
            CLOCK,
            LAYOUT,
            keep_days=self.keep_days,
            now=lambda: self.now_s,
            steady=lambda: self.now_s - self.leapt_s,
        )
        recorder.start()
        return recorder

    def again(self) -> None:
        self.recorder.close()
        self.recorder = self.opened()

    def day(self, day: date = DAY) -> DaySummary:
        return self.reader.day(day)


def passed(summary: DaySummary) -> tuple[int, int]:
    front = summary.entrances["front"]
    return sum(front.entered), sum(front.left)
