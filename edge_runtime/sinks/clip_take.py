"""Take: one clip in the making, from the first event that asks for it to the file in its place.

Knows packets and times; which events want a clip is the sink's business. Not safe for two threads at once,
but for `extend`, which the sink calls with its lock held.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

import numpy as np
from av.error import FFmpegError

from edge_runtime.analytics.hidden import HiddenHistory
from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.packet import Feed, Piece, StreamHeader, Tape
from edge_runtime.contract.result import Boxes
from edge_runtime.sinks.clip_file import CopiedClip, HiddenClip
from edge_runtime.sinks.drawing import cover
from edge_runtime.sinks.shelf import Shelf

STALL_S = 5.0
"""A stream that gives nothing for this long is away: the clip ends where it was."""

LOOK_WAIT_S = 3.0
"""How long a clip with hidden parts waits for the look after its end."""

CHECK_BYTES = 8 * 2**20
"""The free space of the disk is looked at again after this much."""

SAME_SHAPE = 0.03
"""Pictures whose shapes differ by more than this show other things: boxes of one are elsewhere in another."""

MOST_UNKNOWN = 0.5
"""Share of a clip's pictures that may be hidden altogether because nobody looked around their time."""

EVERYTHING: Boxes = np.array([[0, 0, 1, 1]], np.float32)

Paint: TypeAlias = Callable[[Picture], Picture]
"""Paints over what nobody may look at."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """What clips of one camera are made of.

    Args:
        tape: Its packets.
        paint: Paints over what nobody may look at; None: there is no such part.
        calm: Whether nobody can walk unseen where its motion gate sees nothing move.
    """

    tape: Tape
    paint: Paint | None = None
    calm: bool = True


@dataclass(slots=True)
class Take:
    """One clip of one camera.

    Args:
        camera: Its camera.
        moment: Of the first event, as it says it.
        events: Ids of the events that it shows; the first is the one it is named after.
        end_ns: Source time at which it ends.
        longest_ns: Source time at which it ends whatever happens.
        source: Its camera's.
        feed: Gives its packets.
        looks: What was hidden at the camera; None: nothing has to be, and packets are copied.
        progress_s: Monotonic clock when something came last.
    """

    camera: str
    moment: str
    events: list[str]
    end_ns: int
    longest_ns: int
    source: ClipSource
    feed: Feed
    looks: HiddenHistory | None
    progress_s: float
    complete: bool = field(default=False, init=False)
    _part: Path | None = field(default=None, init=False)
    _clip: CopiedClip | None = field(default=None, init=False)
    _seen_ns: int | None = field(default=None, init=False)
    _header: StreamHeader | None = field(default=None, init=False)
    _checked_bytes: int = field(default=0, init=False)
    _ahead: list[Piece] = field(default_factory=list[Piece], init=False)

    def extend(self, event: str, pts_ns: int, post_ns: int) -> bool:
        """Let it show one more event; False: it ends before that."""
        if self.complete or pts_ns > min(self.end_ns, self.longest_ns):
            return False
        self.events.append(event)
        self.end_ns = min(self.longest_ns, max(self.end_ns, pts_ns + post_ns))
        return True

    def over(self, now_s: float, *, wait_for_look: bool) -> bool:
        """Tell whether all that it is to show has come, or nothing more will.

        Args:
            now_s: Monotonic clock.
            wait_for_look: Whether it also takes a look at a picture from after its end.
        """
        newest = self.feed.newest_ns
        if newest != self._seen_ns:
            self._seen_ns, self.progress_s = newest, now_s
        if self.feed.ended or now_s - self.progress_s > STALL_S:
            return True
        if newest is None or newest < self.end_ns:
            return False
        off_ns = round(self.source.tape.exact_s * 1e9)
        looked = None if self.looks is None else self.looks.newest_ns
        done = not wait_for_look or (looked is not None and looked >= self.end_ns + off_ns)
        return done or newest >= self.end_ns + off_ns + LOOK_WAIT_S * 1e9

    def copy(self, shelf: Shelf) -> None:
        """Write what has come, as it came.

        Raises:
            StorageError: The disk does not take it.
        """
        pieces = self._wanted(self.feed.pull())
        if not pieces:
            return
        with _disk_faults(self.camera):
            if self._clip is None or self._part is None:
                self._part = shelf.part(self.camera, self.events[0], self.moment)
                self._clip = CopiedClip(self._part, pieces[0].header)
            for piece in pieces:
                self._clip.add(piece)
                self._check_room(shelf, self._clip.bytes)

    def hide(self, shelf: Shelf, hider: "Hider", enough: Callable[[], bool]) -> None:
        """Write all that has come, decoded and encoded again.

        Args:
            shelf: Where to.
            hider: Makes parts of every picture unrecognizable.
            enough: Asked now and then whether the clip has to end here, because there is no time for more.

        Raises:
            StorageError: The disk does not take it, or it cannot be told what to hide.
        """
        pieces = self._wanted(self.feed.pull())
        if not pieces:
            return
        hider.check([piece.at_ns for piece in pieces])
        with _disk_faults(self.camera):
            self._part = shelf.part(self.camera, self.events[0], self.moment)
            clip = HiddenClip(self._part, pieces[0].header, hider.hide)
            for piece in takewhile(lambda _: not enough(), pieces):
                clip.add(piece)
                self._check_room(shelf, clip.bytes)
            clip.close()
        if clip.empty:
            raise StorageError(
                f"camera '{self.camera}': there is no clip of {self.moment}", got="no picture that decodes"
            )

    def finish(self, shelf: Shelf) -> Path:
        """Put the file into its place.

        Raises:
            StorageError: The disk does not take it, or there is nothing to be put.
        """
        if self._part is None:
            raise StorageError(
                f"camera '{self.camera}': there is no clip of {self.moment}",
                got=self.feed.ended or "no packets",
            )
        with _disk_faults(self.camera):
            if self._clip is not None:
                self._clip.close()
                self._clip = None
            return shelf.keep(self._part, self.events)

    def drop(self) -> None:
        """Leave nothing of it."""
        self.feed.close()
        self._clip = None
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def _wanted(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Give those that are of the clip: before its end, which may still move, and encoded as its first."""
        came = [*self._ahead, *pieces]
        self._ahead = []
        for index, piece in enumerate(came):
            self._header = self._header or piece.header
            if piece.header != self._header:
                self.feed.end("the camera sends another kind of stream")
                return came[:index]
            if piece.packet.dts_ns + piece.shift_ns > self.end_ns:
                self._ahead = came[index:]
                return came[:index]
        return came

    def _check_room(self, shelf: Shelf, written: int) -> None:
        if written - self._checked_bytes >= CHECK_BYTES:
            self._checked_bytes = written
            shelf.check_room()


@contextmanager
def _disk_faults(camera: str) -> Generator[None]:
    """Make FFmpeg's and the system's faults errors of this project."""
    try:
        yield
    except (OSError, FFmpegError) as error:
        raise StorageError(
            f"camera '{camera}': its clip cannot be written",
            got=getattr(error, "strerror", None) or str(error),
            do="Free the disk or allow this user to write there",
        ) from error


class Hider:
    """Hides parts of a clip's pictures.

    Args:
        take: The clip.
        looks: What was hidden in the pictures that were looked at.
        blurred: Whether people are hidden.
    """

    def __init__(self, take: Take, looks: HiddenHistory, *, blurred: bool) -> None:
        source = take.source
        self._camera = take.camera
        self._looks = looks
        self._blurred = blurred
        self._paint = source.paint
        self._calm = source.tape.calm() if source.calm else ()
        self._off_ns = round(source.tape.exact_s * 1e9)

    def check(self, times_ns: Sequence[int]) -> None:
        """Refuse a clip of which too little was looked at.

        Raises:
            StorageError: Nobody can say what to hide in most of its pictures.
        """
        unknown = [at_ns for at_ns in times_ns if self._blurred and self._boxes(at_ns) is None]
        if len(unknown) > MOST_UNKNOWN * len(times_ns):
            raise StorageError(
                f"camera '{self._camera}': no clip is written",
                expected="a look at its pictures every two seconds, so that everybody in them can be hidden",
                got=f"none around {len(unknown)} of {len(times_ns)} pictures",
                do="Raise `fps`, set `motion.doze_after_s: null`, or say `blur: nothing` for these clips",
            )

    def hide(self, picture: Picture, at_ns: int) -> Picture:
        """Give a picture of which nothing is seen that must not be; all of it is hidden where nobody looked.

        Args:
            picture: I420; its planes may be changed.
            at_ns: Its source time.

        Raises:
            StorageError: Its shape is another than that of the pictures that were looked at.
        """
        shape = picture.width / picture.height
        if self._off_ns and (self._looks.aspect is None or abs(shape / self._looks.aspect - 1) > SAME_SHAPE):
            raise StorageError(
                f"camera '{self._camera}': no clip is written",
                expected="a main stream of the same shape as `source`, so that boxes fit",
                got=f"{picture.width} x {picture.height}",
                do="Set both streams of the camera to one shape, or drop `main`",
            )
        shown = picture if self._paint is None else self._paint(picture)
        if self._blurred:
            boxes = self._boxes(at_ns)
            for plane in shown.planes:
                rows, columns = plane.shape[:2]
                cover(plane, (EVERYTHING if boxes is None else boxes) * (columns, rows, columns, rows))
        return shown

    def _boxes(self, at_ns: int) -> Boxes | None:
        return self._looks.at(at_ns, off_ns=self._off_ns, calm=self._calm)
