"""Clips of a real file: what moment they show, of which packets they are, what nobody may see in them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from edge_runtime.analytics.hidden import HiddenHistory
from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.frame import Plane
from edge_runtime.sinks.clip_take import ClipSource, Hider, Take
from edge_runtime.sinks.clips import ClipOptions, ClipSink
from edge_runtime.sinks.retention import Limits
from edge_runtime.sinks.shelf import Shelf
from edge_runtime.video.blackout import Blackout
from edge_runtime.video.motion import MotionOptions
from edge_runtime.video.tape import Budget, StreamTape
from tests.simulators.clips import moving_square, write_clip
from tests.simulators.player import Player, crossed, hidden, wait_for
from tests.simulators.watcher import Watcher, plan

FPS, GROUP_S = 25, 1.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute, a key frame a second, B-frames between."""
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", moving_square(750), options={"bf": "2"})


class Store:
    """A sink of clips with one camera."""

    def __init__(
        self,
        folder: Path,
        film: Path,
        *,
        budget: int = 10**8,
        looks: Callable[[int], bool] = lambda _: True,
        **wanted: object,
    ) -> None:
        options = {"pre_s": 2.0, "post_s": 2.0, **wanted}
        paint = options.pop("paint", None)
        shelf = Shelf(folder, ".mp4", Limits(10**9), reserve_bytes=0)
        self.folder = folder
        self.sink = ClipSink(shelf, ClipOptions(frozenset({"line_crossed"}), **options))  # type: ignore[arg-type]
        self.tape = StreamTape(10.0, Budget(budget))
        self.sink.watch({"door": ClipSource(self.tape, paint)})  # type: ignore[arg-type]
        self.player = Player(self.tape, film, self.sink, looks)

    def order(self, number: int, at_s: float) -> None:
        self.sink.write([crossed(number, at_s)])

    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.mp4"))

    def done(self, events: int = 1) -> None:
        status = wait_for(self.sink.status, lambda now: now.written + now.dropped >= events)
        assert (status.written, status.waiting, status.trouble) == (events, 0, "")

    def refused(self, why: str) -> None:
        status = wait_for(self.sink.status, lambda now: now.dropped > 0)
        assert why in status.trouble
        assert status.written == 0
        assert [path for path in self.folder.rglob("*") if path.is_file()] == [], "nothing is left of it"

    def close(self) -> None:
        self.player.close()
        self.sink.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clips"


@pytest.fixture
def store(folder: Path, film: Path) -> Iterator[Store]:
    store = Store(folder, film)
    yield store
    store.close()


def payloads(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]  # type: ignore[arg-type]


def pictures(path: Path) -> list[tuple[float, Plane]]:
    with av.open(str(path)) as container:
        return [
            (float(frame.time or 0), frame.to_ndarray(format="gray")) for frame in container.decode(video=0)
        ]  # type: ignore[misc]


def test_a_clip_shows_the_moment_and_is_of_the_packets_that_came(store: Store, film: Path) -> None:
    store.player.play(6.0)
    store.order(1, 5.5)
    store.player.play(9.0)
    store.done()
    (path,) = store.files()
    whole, part = payloads(film), payloads(path)
    begin = whole.index(part[0])
    assert begin == 3 * FPS, "the last key frame at or before 5.5 - 2 s"
    assert part == whole[begin : begin + len(part)], "not one of them was encoded anew"
    assert (begin + len(part)) / FPS == pytest.approx(5.5 + 2.0, abs=0.2)
    shown, original = pictures(path), pictures(film)[begin:]
    assert len(shown) == len(part)
    for (at_s, picture), (was_s, other) in zip(shown, original, strict=False):
        assert at_s - shown[0][0] == pytest.approx(was_s - original[0][0], abs=1e-3)
        assert np.array_equal(picture, other)
    with av.open(str(path)) as clip, av.open(str(film)) as source:
        ours, theirs = clip.streams.video[0].codec_context, source.streams.video[0].codec_context
        assert (ours.extradata, ours.width, ours.profile) == (theirs.extradata, theirs.width, theirs.profile)


def test_events_that_come_while_a_clip_goes_on_make_it_longer_and_find_it(store: Store) -> None:
    for number, at_s in enumerate((5.0, 6.5, 8.0)):
        store.player.play(at_s)
        store.order(number, at_s)
    store.player.play(20.0)
    store.done(3)
    (path,) = store.files()
    assert len(payloads(path)) / FPS == pytest.approx(3 + 2 + 2, abs=0.2)
    for number, at_s in enumerate((5.0, 6.5, 8.0)):
        event = crossed(number, at_s)
        assert store.sink.find(event.id, "door", event.time) == path
    missing = crossed(9, 6.5)
    assert store.sink.find(missing.id, "door", missing.time) is None


def test_a_clip_has_a_longest_and_then_there_is_another(folder: Path, film: Path) -> None:
    store = Store(folder, film, longest_s=6.0)
    for number, at_s in enumerate(range(5, 15)):
        store.player.play(at_s)
        store.order(number, float(at_s))
    store.player.play(25.0)
    store.done(10)
    lengths_s = [len(payloads(path)) / FPS for path in store.files()]
    assert len(lengths_s) > 1
    assert max(lengths_s) <= 6.0 + GROUP_S + 0.2
    assert all(store.sink.find(crossed(n, n + 5).id, "door", crossed(n, n + 5).time) for n in range(10))
    store.close()


def test_events_of_other_kinds_and_cameras_get_none(store: Store) -> None:
    store.player.play(5.0)
    store.sink.write([crossed(1, 4.0, camera="yard")])
    assert store.sink.status().waiting == 0


def test_closing_ends_a_clip_where_it_is(store: Store) -> None:
    store.player.play(5.0)
    store.order(1, 5.0)
    store.sink.close()
    assert store.sink.status().written == 1
    assert len(pictures(store.files()[0])) >= 2 * FPS


def test_a_moment_that_is_not_kept_is_said(folder: Path, film: Path) -> None:
    store = Store(folder, film)
    store.order(1, 5.0)
    store.refused("no packets of 2026-01-31T12:00:05.000Z are kept")
    store.close()


def test_clips_in_the_making_hold_only_so_much_and_are_cut_there(folder: Path, film: Path) -> None:
    clip = payloads(film)[3 * FPS : 7 * FPS]
    store = Store(folder, film, blur=Blur.PERSONS, budget=sum(map(len, clip)) // 2)
    store.player.play(6.0)
    store.order(1, 5.0)
    store.player.play(25.0)
    store.done()
    assert FPS < len(payloads(store.files()[0])) < len(clip) * 3 // 4
    store.close()


def edges_seen(path: Path, film: Path, first: int) -> list[float]:
    """Give how much of the square's edges is to be seen in each picture of a clip, 1: all of it."""
    seen: list[float] = []
    for (_, picture), (_, was) in zip(pictures(path), pictures(film)[first:], strict=False):
        ours, theirs = (np.abs(np.diff(image.astype(int), axis=1)) for image in (picture, was))
        there = theirs > 60
        seen.append(float(ours[there].mean() / theirs[there].mean()))
    return seen


@pytest.mark.parametrize("look_every", [1, 5])
def test_what_is_hidden_cannot_be_recognized_in_a_clip(folder: Path, film: Path, look_every: int) -> None:
    store = Store(folder, film, blur=Blur.PERSONS, looks=lambda number: number % look_every == 0)
    store.player.play(6.0)
    store.order(1, 5.5)
    store.player.play(12.0)
    store.done()
    (path,) = store.files()
    seen = edges_seen(path, film, 3 * FPS)
    assert max(seen) < 0.6
    assert sum(seen) / len(seen) < 0.35, "a mosaic's own edges may fall on the square's"
    assert len(seen) / FPS == pytest.approx(4.5, abs=0.2)
    for (_, picture), (_, was) in zip(pictures(path), pictures(film)[3 * FPS :], strict=False):
        assert np.abs(picture[:60].astype(int) - was[:60]).max() < 8, "the rest is as it was"
    store.close()


def test_parts_that_nobody_may_look_at_are_painted_over(folder: Path, film: Path) -> None:
    corner = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    store = Store(folder, film, paint=Blackout([corner]).paint)
    store.player.play(6.0)
    store.order(1, 5.5)
    store.player.play(12.0)
    store.done()
    for _, picture in pictures(store.files()[0]):
        half = picture.shape[1] // 2
        assert picture[:, : half - 8].max() < 40
        assert picture[:, half + 8 :].min() > 60
    store.close()


def test_no_clip_is_written_where_nobody_looked(folder: Path, film: Path) -> None:
    store = Store(folder, film, blur=Blur.PERSONS, looks=lambda number: number % 150 == 0)
    store.player.play(6.0)
    store.order(1, 5.0)
    store.player.play(20.0)
    store.refused("expected a look at its pictures every two seconds")
    store.close()


def test_where_nobody_looked_for_a_moment_all_of_the_picture_is_hidden(folder: Path, film: Path) -> None:
    blind = range(4 * FPS, int(6.5 * FPS))
    store = Store(folder, film, blur=Blur.PERSONS, looks=lambda number: number not in blind, pre_s=4.0)
    store.player.play(6.0)
    store.order(1, 5.5)
    store.player.play(12.0)
    store.done()
    (path,) = store.files()
    first = len(payloads(film)[:FPS])
    shown = pictures(path)
    for number, (_, picture) in enumerate(shown, start=first):
        flat = float(np.mean(np.abs(np.diff(picture.astype(int), axis=1)) < 6))
        assert number not in blind or flat > 0.9
    assert max(edges_seen(path, film, first)[blind.start - first : blind.stop - first]) < 0.6
    store.close()


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
        ("h264.ts", "libx264", "yuv420p", {"bf": "2"}),
        ("hevc.ts", "libx265", "yuv420p", {"x265-params": "log-level=none:keyint=25"}),
        ("hevc.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:keyint=25"}),
        ("mjpeg.avi", "mjpeg", "yuvj420p", {}),
    ],
)
@pytest.mark.parametrize("blur", [Blur.NOTHING, Blur.PERSONS])
def test_the_codecs_of_cameras(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, str], blur: Blur
) -> None:
    film = write_clip(
        tmp_path / name, moving_square(300), codec=codec, pixel_format=pixel_format, options=options
    )
    store = Store(tmp_path / "clips", film, blur=blur)
    store.player.play(6.0)
    store.order(1, 5.5)
    store.player.play(12.0)
    store.done()
    shown, source = pictures(store.files()[0]), pictures(film)
    assert len(shown) / FPS == pytest.approx(4.3, abs=0.4)
    if blur is Blur.NOTHING:
        rest = iter(source)
        assert all(any(np.array_equal(picture, was) for _, was in rest) for _, picture in shown), (
            "bit for bit"
        )
    else:
        top = shown[0][1][:60].astype(int)
        assert np.abs(top - source[0][1][:60]).max() < 12, "as bright as it was"
    store.close()


def test_a_stream_that_was_opened_anew_goes_on_in_the_clip(store: Store, film: Path) -> None:
    store.player.play(5.0)
    store.order(1, 5.0)
    store.player.play(5.5)
    store.player.reopen(1.0)
    store.player.play(12.0)
    store.done()
    whole, part = payloads(film), payloads(store.files()[0])
    assert part[-10:] == whole[whole.index(part[-10]) :][:10]
    again = part.index(whole[0], 1)
    assert part[again:] == whole[: len(part) - again], "from its first key frame on"
    times = [at_s for at_s, _ in pictures(store.files()[0])]
    assert times == sorted(set(times))
    assert times[again] - times[again - 1] == pytest.approx(1.0, abs=0.3), "as long as it was away"


def test_a_hidden_clip_goes_on_after_packets_that_got_lost(folder: Path, film: Path) -> None:
    data = bytearray(film.read_bytes())
    frames = payloads(film)
    for number in range(4 * FPS + 5, 4 * FPS + 9):
        at = data.index(frames[number])
        data[at : at + len(frames[number])] = bytes(len(frames[number]))
    broken = folder.with_name("broken.mp4")
    broken.write_bytes(data)
    store = Store(folder, broken, blur=Blur.PERSONS)
    store.player.play(6.0)
    store.order(1, 5.5)
    store.player.play(12.0)
    store.done()
    assert 3 * FPS < len(pictures(store.files()[0])) < 4.5 * FPS
    store.close()


def test_a_clip_for_which_there_is_no_more_time_ends_early_and_whole(store: Store, tmp_path: Path) -> None:
    store.player.play(6.0)
    feed = store.tape.follow(0)
    assert feed is not None
    looks = HiddenHistory(Blur.PERSONS, 100)
    for number in range(200):
        looks.look(number * 40_000_000, np.empty((0, 4), np.float32), height=240, width=320)
    event, source = crossed(1, 2), ClipSource(store.tape)
    take = Take("door", event.time, [event.id], 6 * 10**9, 9 * 10**9, source, feed, looks, 0.0)
    shelf = Shelf(tmp_path / "early", ".mp4", Limits(10**9), reserve_bytes=0)
    left = iter([False] * 30)
    take.hide(shelf, Hider(take, looks, blurred=True), lambda: next(left, True))
    assert len(pictures(take.finish(shelf))) == 30
    feed.close()


def test_a_camera_says_while_nothing_moved_so_that_what_was_hidden_before_holds(tmp_path: Path) -> None:
    still = [next(iter(moving_square(1)))] * 250
    film = write_clip(tmp_path / "still.mp4", [*still, *moving_square(25)])
    tape, watcher = StreamTape(60.0, Budget(10**8)), Watcher()
    gate = MotionOptions(gate=True, hold_s=0.5, look_every_s=100.0, doze_after_s=None)
    watcher.runtime.add(plan("door", film, tape=tape, motion=gate))
    watcher.finish()
    (began, ended), *later = tape.calm()
    assert began < 2e9
    assert ended > 9.5e9, "until the square moves"
    assert all(last < 11e9 for _, last in later)
    looks = HiddenHistory(Blur.PERSONS, 100)
    for shown in watcher.scenes:
        frame = shown.frame
        looks.look(frame.pts_ns, hidden(frame), height=frame.picture.height, width=frame.picture.width)
    assert looks.at(5 * 10**9) is None
    boxes = looks.at(5 * 10**9, calm=tape.calm())
    assert boxes is not None
    assert len(boxes) > 0
