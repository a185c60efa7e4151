"""CountsRecorder: takes events and scenes, and keeps what the store's counts are made of.

An event sink and a scene sink. Once a minute it writes the heatmaps, sums up days that are over and drops
days that are too old. Works nothing out that is shown: `edge_runtime.counts.reader` does.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from edge_runtime.analytics.occupancy import Occupancy
from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import Crossing, Layout, passings, summarize
from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import Event, LineCrossed, ZoneEntered, ZoneLeft
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import SinkStatus, StoreStatus
from edge_runtime.counts.heat import DayHeat, Grids, Seen
from edge_runtime.counts.packing import pack_heat, pack_slots, pack_summary, unpack_heat, unpack_slots
from edge_runtime.counts.store import CountsStore, Inside, Looked, Moment

log = logging.getLogger(__name__)

OPEN_DAYS = 2
"""Days before today whose moments are kept one by one: an event that comes again by then changes nothing, and
one of an older day is not counted."""

TEND_EVERY_S = 60.0

LEAP_S, DOUBT_S = 3600.0, 86400.0
"""A clock that leaps forward by more than the first may be wrong: for as long as the second no day is summed
up and none is dropped, so that somebody can put it right."""

_RECOUNT_EVERY_S = 2.0
"""At most, where crossings come out of order: several cameras look at entrances."""


class CountsRecorder:
    """Keeps a store's counts. `write` comes from one thread, `show` from several.

    Args:
        folder: `state_dir`.
        clock: The store's.
        layout: What its lines and zones are.
        keep_days: Days that are kept, today included.
        now: Unix time.
        steady: Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        folder: Path,
        clock: StoreClock,
        layout: Layout,
        *,
        keep_days: int,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "counts"
        self._store = CountsStore(folder)
        self._clock = clock
        self._layout = layout
        self._keep_days = keep_days
        self._now = now
        self._steady = steady
        self._offset_s = now() - steady()
        self._doubted_until_s = 0.0
        """By the steady clock."""
        self._lock = threading.Lock()
        """Guards the heatmaps, and what the status says."""
        self._tending = threading.Lock()
        self._heat = DayHeat(clock, self._kept_heat)
        self._day: date | None = None
        """The day of `_today`; None: it was not counted yet."""
        self._today = Occupancy()
        self._newest_s = 0.0
        self._stale, self._counted_s = False, 0.0
        self._written = self._late = 0
        self._trouble = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin with nobody in any zone, and look after the file once a minute from now on.

        Raises:
            StorageError: The file cannot be made or opened.
        """
        self._store.begin()
        self._thread = threading.Thread(target=self._tend_on, name="counts", daemon=True)
        self._thread.start()

    def watch(self, layout: Layout, away: Collection[str] = ()) -> None:
        """Take in what lines and zones are from now on.

        Args:
            layout: All of them.
            away: Cameras that were stopped, even to start anew: nobody is in their zones.
        """
        with self._lock:
            self._layout = layout
            self._day = None
            for camera in away:
                self._heat.forget(camera)
        try:
            self._store.forget(away)
        except StorageError as error:
            # Who was in its zones seems to wait on, until they come again or the agent starts anew.
            log.warning("counts: %s", error)

    def write(self, events: Sequence[Event]) -> None:
        """Keep what of events counts; those that are known already change nothing.

        Raises:
            StorageError: They could not be kept.
        """
        from_s = self._clock.begin_s(self._first_open(self._now()))
        moments, inside, late = list[Moment](), list[Inside](), 0
        for event in events:
            moment = _moment(event)
            if moment is not None and moment.at_ms < from_s * 1000:
                late += 1
            elif moment is not None:
                moments.append(moment)
            if isinstance(event, ZoneEntered | ZoneLeft):
                since_ms = _at_ms(event) if isinstance(event, ZoneEntered) else None
                inside.append(Inside((event.camera, event.zone), event.subject.track, since_ms))
        new = self._store.add(moments, inside) if moments or inside else 0
        with self._lock:
            self._written += len(events)
            self._late += late
            self._follow(moments, all_new=new == len(moments))
        if late:
            log.warning("%d events are of days that are summed up already, and do not count", late)

    def show(self, scene: Scene) -> None:
        """Count where the objects of a scene stand."""
        with self._lock:
            try:
                self._heat.see(scene)
            except StorageError as error:
                # What the camera's day has so far cannot be read: said, and tried again with the next scene.
                self._trouble = str(error)

    def tend(self) -> None:
        """Write heatmaps, sum up days that are over, drop what is too old.

        Raises:
            StorageError: The file cannot be read or written; all that was not done is done the next time.
        """
        with self._tending:
            with self._lock:
                grids = self._heat.unwritten()
            self._write_heat(grids)
            now_s = self._now()
            if self._doubts(now_s):
                return
            first = self._first_open(now_s)
            while (oldest_s := self._store.first_moment_s()) is not None:
                day = self._clock.day_of(oldest_s)
                if day >= first:
                    break
                self._close_day(day)
            self._store.drop_before(self._clock.day_of(now_s) - timedelta(days=self._keep_days - 1))

    def store_status(self) -> StoreStatus | None:
        """Say how many are inside now, and how many came and went today; None: it cannot be read."""
        with self._lock:
            now_s = self._now()
            day = self._clock.day_of(now_s)
            if self._stop.is_set():
                day = self._day or day
            elif day != self._day or (self._stale and abs(now_s - self._counted_s) >= _RECOUNT_EVERY_S):
                try:
                    self._recount(day, now_s)
                except StorageError as error:
                    self._day, self._trouble = None, str(error)
                    return None
            today = self._today
            return StoreStatus(day.isoformat(), today.inside, today.entered, today.left, today.missed)

    def status(self) -> SinkStatus:
        """Say what was taken, and what is wrong."""
        with self._lock:
            trouble = self._trouble or self._store.damage
            return SinkStatus(self.name, written=self._written, trouble=trouble)

    def sync(self) -> None:
        """Have all that was written survive a power cut.

        Raises:
            StorageError: The disk reports a failure.
        """
        self._store.sync()

    def close(self) -> None:
        """Write the heatmaps and close the file. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._try_to_tend()
        self._store.close()

    def _tend_on(self) -> None:
        while not self._stop.wait(TEND_EVERY_S):
            self._try_to_tend()

    def _try_to_tend(self) -> None:
        try:
            self.tend()
        except StorageError as error:
            log.warning("counts: %s", error)
            trouble = str(error)
        else:
            trouble = ""
        with self._lock:
            self._trouble = trouble

    def _write_heat(self, grids: Grids) -> None:
        waiting = dict(sorted(grids.items()))
        try:
            for day in tuple(waiting):
                packed = {
                    camera: Looked(pack_heat(seen.grid), pack_slots(seen.looked))
                    for camera, seen in grids[day].items()
                }
                self._store.add_heat(day, packed)
                del waiting[day]
        finally:
            with self._lock:
                for day, by_camera in grids.items():
                    self._heat.written(day, by_camera, kept=day not in waiting)

    def _doubts(self, now_s: float) -> bool:
        """Tell whether the clock has leapt forward lately."""
        steady_s = self._steady()
        offset_s = now_s - steady_s
        if offset_s - self._offset_s > LEAP_S:
            self._doubted_until_s = steady_s + DOUBT_S
            log.warning(
                "the clock has leapt forward by %.1f h: for a day no counts are summed up or dropped",
                (offset_s - self._offset_s) / 3600,
            )
        elif self._offset_s - offset_s > LEAP_S:
            self._doubted_until_s = 0.0  # it was put back
        self._offset_s = offset_s
        return steady_s < self._doubted_until_s

    def _close_day(self, day: date) -> None:
        from_s, to_s = self._clock.begin_s(day), self._clock.end_s(day)
        crossings, stays = self._store.moments(from_s, to_s)
        summary = summarize(
            self._clock, day, self._layout, crossings=crossings, stays=stays, waiting={}, until_s=to_s
        )
        self._store.close_day(day, pack_summary(summary), from_s, to_s)

    def _first_open(self, now_s: float) -> date:
        return self._clock.day_of(now_s) - timedelta(days=min(OPEN_DAYS, self._keep_days - 1))

    def _kept_heat(self, day: date, camera: str) -> Seen | None:
        packed = self._store.heat(day).get(camera)
        return None if packed is None else Seen(unpack_heat(packed.grid), unpack_slots(packed.slots))

    def _follow(self, moments: Sequence[Moment], *, all_new: bool) -> None:
        """Take new crossings into today's occupancy; where they do not simply go on, it is counted anew."""
        if self._day is None or self._stale:
            return
        end_s = self._clock.end_s(self._day)
        fresh = (Crossing(each.at_ms / 1000, each.place, each.word) for each in moments)
        for at_s, inwards in passings(fresh, self._layout):
            if not all_new or not self._newest_s < at_s < end_s:
                self._stale = True
                return
            self._newest_s, self._today = at_s, self._today.after(inwards)

    def _recount(self, day: date, now_s: float) -> None:
        from_s = self._clock.begin_s(day)
        self._today, self._newest_s = Occupancy(), from_s - 1
        crossings = self._store.crossings(from_s, self._clock.end_s(day))
        for at_s, inwards in passings(crossings, self._layout):
            self._newest_s, self._today = at_s, self._today.after(inwards)
        self._day, self._stale, self._counted_s = day, False, now_s


def _moment(event: Event) -> Moment | None:
    match event:
        case LineCrossed():
            return Moment(_short(event.id), _at_ms(event), (event.camera, event.line), event.name)
        case ZoneLeft():
            place = event.camera, event.zone
            return Moment(_short(event.id), _at_ms(event), place, lasted_ms=round(event.dwell_s * 1000))
        case _:
            return None


def _short(event_id: str) -> int:
    """Make a number for SQLite, 64 bits with a sign, of an event's id: of a million, no two meet."""
    return int(event_id[:16], 16) - (1 << 63)


def _at_ms(event: Event) -> int:
    return round(datetime.fromisoformat(event.time).timestamp() * 1000)
