"""StreamTape: the ring of one camera's packets, shared by who reads, who times them, and who makes clips.

Keeps nothing before `reset`, and writes nothing anywhere.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from edge_runtime.contract.packet import Packet, Piece, StreamHeader
from edge_runtime.video.clock import Stamp
from edge_runtime.video.packets import Ring

MAX_RING_BYTES = 64 * 2**20
"""Packets kept of one camera at most: 25 s of a 20 Mbit/s stream."""

MAX_CALM = 256
"""Spans without motion that are remembered: far more than the seconds of a clip can hold."""

CALM_STEP_NS = 2_000_000_000
"""Two looks of the motion gate that are this far apart say nothing about the time between them."""

OTHER_CLOCK_S = 0.5
"""How well arrival aligns two streams of one camera: a main stream is read at once, a frame only counts once
it is decoded, and both come through the same network with their own buffers."""


class Budget:
    """Bytes that the clips in the making may hold, all cameras together.

    Args:
        max_bytes: Of packets that no clip has taken yet.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take some of it; False: there is not that much left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._left += size


class TapeFeed:
    """The packets of one clip; made by `StreamTape.follow`. Implements `Feed`."""

    def __init__(self, budget: Budget, close: Callable[["TapeFeed"], None]) -> None:
        self._budget = budget
        self._close = close
        self._waiting: deque[Piece] = deque()
        self._lock = threading.Lock()
        self._ended = ""
        self._newest_ns: int | None = None

    @property
    def newest_ns(self) -> int | None:
        """Source time of the newest picture that came, pulled or not; None: none did."""
        return self._newest_ns

    @property
    def ended(self) -> str:
        """Why nothing more comes after what can be pulled now; empty: more may come."""
        return self._ended

    def put(self, piece: Piece) -> None:
        """Add a packet; the feed ends where there is no room for it."""
        if self._ended:
            return
        if not self._budget.take(len(piece.packet.data)):
            self._ended = "there is no memory left for more of it"
            return
        with self._lock:
            self._waiting.append(piece)
            self._newest_ns = piece.at_ns if self._newest_ns is None else max(self._newest_ns, piece.at_ns)

    def end(self, why: str) -> None:
        """Say that nothing more comes, and why."""
        self._ended = self._ended or why

    def pull(self) -> Sequence[Piece]:
        """Take what has come since the last call, in the order of decoding."""
        with self._lock:
            pieces = tuple(self._waiting)
            self._waiting.clear()
        self._budget.give_back(sum(len(piece.packet.data) for piece in pieces))
        return pieces

    def close(self) -> None:
        """Want no more. Idempotent."""
        self._close(self)
        self.end("it is closed")
        self.pull()


class StreamTape:
    """The last seconds of one camera's stream. Implements `Tape`; every method from any thread.

    Args:
        seconds: Kept at least.
        budget: Of the clips in the making.
        own_reader: Whether the packets come from another stream than the frames, with a reader of its own.
    """

    def __init__(self, seconds: float, budget: Budget, *, own_reader: bool = False) -> None:
        self.own_reader = own_reader
        self._budget = budget
        self._ring = Ring(seconds, MAX_RING_BYTES)
        self._feeds: list[TapeFeed] = []
        self._calm: deque[tuple[int, int]] = deque(maxlen=MAX_CALM)
        self._calm_goes_on = False
        self._start_ns: int | None = None
        self._run = self._ring.run
        self._timed = False
        """Whether the source time of the newest run is known: one of its frames was decoded."""
        self._trouble = ""
        self._lock = threading.Lock()

    @property
    def exact_s(self) -> float:
        """How far the time of its packets may be off from that of the camera's frames."""
        return OTHER_CLOCK_S if self.own_reader else 0.0

    @property
    def trouble(self) -> str:
        """Why it keeps nothing at the moment; empty: it does."""
        return self._trouble

    @property
    def bytes(self) -> int:
        """Of the packets that are kept."""
        return self._ring.bytes

    def reset(self) -> None:
        """Begin anew with a camera that starts: source time begins at 0 again."""
        with self._lock:
            self._ring.clear()
            self._timed = False
            self._end_feeds("the camera was started anew")
            self._calm.clear()
            self._calm_goes_on = False
            self._start_ns = None

    def begin(self, header: StreamHeader) -> None:
        """Go on with the packets of a stream that was opened."""
        with self._lock:
            self._ring.begin(header)

    def refuse(self, trouble: str) -> None:
        """Keep nothing of what comes, and say why."""
        with self._lock:
            self._ring.clear()
            self._end_feeds(trouble)
            self._trouble = trouble

    def lost(self, trouble: str) -> None:
        """Keep what there is; nothing comes at the moment."""
        self._trouble = trouble

    def put(self, packet: Packet) -> None:
        """Keep a packet, and hand it to the clips in the making."""
        with self._lock:
            waited = self._ring.skipping
            kept = self._ring.put(packet)
            if kept:
                self._trouble = ""
            elif not waited and self._ring.skipping and not self._ring.bytes:
                self._trouble = f"its key frames are more than {MAX_RING_BYTES >> 20} MB apart"
            if self._ring.run != self._run:
                self._run, self._timed = self._ring.run, False
            if kept and self._timed:
                self._hand_on(self._ring.piece(packet))
            elif kept:
                self._catch_up()

    def stamped(self, source_ns: int, stamp: Stamp) -> None:
        """Note when a frame of the camera was, in its stream's own time, in source time and in Unix time.

        Args:
            source_ns: Of the stream that frames are decoded from.
            stamp: The frame's times.
        """
        with self._lock:
            self._start_ns = stamp.time_ns - stamp.pts_ns
            if not self.own_reader:
                self._ring.anchor(source_ns, stamp.pts_ns)
                self._catch_up()

    def arrived(self, source_ns: int, time_ns: int) -> None:
        """Note when a packet of a stream with its own reader was, in Unix time as arrival tells it."""
        with self._lock:
            if self._start_ns is not None:
                self._ring.anchor(source_ns, time_ns - self._start_ns)
                self._catch_up()

    def still(self, pts_ns: int) -> None:
        """Note that the motion gate saw nothing move."""
        with self._lock:
            began, last = self._calm[-1] if self._calm else (pts_ns, pts_ns)
            if self._calm_goes_on and 0 <= pts_ns - last <= CALM_STEP_NS:
                self._calm[-1] = began, pts_ns
            else:
                self._calm.append((pts_ns, pts_ns))
            self._calm_goes_on = True

    def moved(self) -> None:
        """Note that a frame goes to the model: what was seen before says nothing about it."""
        self._calm_goes_on = False

    def calm(self) -> Sequence[tuple[int, int]]:
        """Give spans of source time, first to last check, in which the motion gate saw nothing move."""
        with self._lock:
            return tuple(self._calm)

    def follow(self, pts_ns: int) -> TapeFeed | None:
        """Give the packets from the last key frame at or before a moment on; None: there are none."""
        with self._lock:
            self._catch_up()
            feed = TapeFeed(self._budget, self._forget)
            pieces = 0
            for piece in self._ring.since(pts_ns):
                feed.put(piece)
                pieces += 1
            if pieces:
                self._feeds.append(feed)
            return feed if pieces else None

    def _hand_on(self, piece: Piece | None) -> None:
        if piece is not None:
            for feed in self._feeds:
                feed.put(piece)

    def _catch_up(self) -> None:
        """Hand on what came of a run before it was known when that was; with the lock held."""
        if not self._timed:
            for piece in self._ring.newest():
                self._timed = True
                self._hand_on(piece)

    def _forget(self, feed: TapeFeed) -> None:
        with self._lock:
            self._feeds = [other for other in self._feeds if other is not feed]

    def _end_feeds(self, why: str) -> None:
        for feed in self._feeds:
            feed.end(why)
        self._feeds = []
