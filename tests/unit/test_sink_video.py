"""Annotated videos: the right pictures at the right times, playable even when the writer was killed."""

import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.frame import Frame, Picture, PixelFormat, Plane
from edge_runtime.contract.result import Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.sinks.annotated_video import AnnotatedVideo
from edge_runtime.sinks.drawing import Overlay, still, track_colour

NO_TRACKS = Tracks.empty(("person",))


def scene(pts_ms: float, camera: str = "door", *, tracks: Tracks = NO_TRACKS, height: int = 96) -> Scene:
    image = np.full((height, 160, 3), 60, np.uint8)
    frame = Frame(camera, 0, round(pts_ms * 1e6), 1_767_225_600_000_000_000, 0, Picture.from_bgr(image))
    return Scene(frame, tracks, {"aisle": len(tracks)}, {"door": {"in": 1, "out": 0}})


def times_ms(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0) * 1000 for frame in container.decode(video=0)]


def test_each_camera_has_a_video_with_the_times_of_its_source(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path / "new", {"door": Overlay()}, height=96)
    uneven = [0, 40, 120, 1120, 1160, 9000]
    for at in uneven:
        video.show(scene(at))
        video.show(scene(at, "till"))
    video.close()
    assert video.status().written == 12
    for camera in ("door", "till"):
        assert times_ms(tmp_path / "new" / f"{camera}.mp4") == pytest.approx(uneven, abs=0.1)
    with av.open(str(tmp_path / "new" / "door.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (160, 96)
        assert stream.codec_context.name in {"h264", "mpeg4"}


@pytest.mark.parametrize(
    ("source_fps", "fps", "expected"), [(30, 10, 20), (25, 10, 20), (30, 30, 60), (29.97, 30, 60)]
)
def test_the_rate_is_thinned_evenly(source_fps: float, fps: float, expected: int, tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path, {}, fps=fps, height=32)
    for index in range(round(2 * source_fps)):
        video.show(scene(index * 1000 / source_fps, height=32))
    video.close()
    times = times_ms(tmp_path / "door.mp4")
    assert abs(len(times) - expected) <= 1
    steps = np.diff(times)
    assert steps.max() <= 1000 / fps + 1000 / source_fps + 1


def test_only_the_wanted_cameras_are_written(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path, {}, cameras=["door"], height=96)
    video.show(scene(0))
    video.show(scene(0, "till"))
    video.close()
    assert [path.name for path in tmp_path.iterdir()] == ["door.mp4"]


def test_a_picture_of_another_shape_goes_on_in_the_same_video(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path, {}, height=96)
    for index, height in enumerate((96, 200, 64)):
        video.show(scene(index * 40, height=height))
    video.close()
    assert len(times_ms(tmp_path / "door.mp4")) == 3


def test_live_pictures_are_dropped_and_counted_not_waited_for(tmp_path: Path) -> None:
    video = AnnotatedVideo(tmp_path, {}, height=480, live=["door"])
    for index in range(200):
        video.show(scene(index * 40, height=480))
    video.close()
    status = video.status()
    assert status.dropped > 0
    assert status.written + status.dropped == 200


def test_a_disk_that_refuses_is_said_and_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    video = AnnotatedVideo(tmp_path / "taken", {}, height=96)
    with pytest.raises(StorageError, match=r"door\.mp4: cannot write the video"):
        for index in range(10_000):
            video.show(scene(index * 40))
    assert "cannot write the video" in video.status().trouble
    video.close()


def test_a_killed_writer_leaves_a_video_that_plays(tmp_path: Path) -> None:
    code = f"""
    import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
    from pathlib import Path
    from edge_runtime.sinks.annotated_video import AnnotatedVideo
    from tests.unit.test_sink_video import scene

    video = AnnotatedVideo(Path({str(tmp_path)!r}), {{}}, height=96)
    for index in range(10**9):
        video.show(scene(index * 40))
        if index == 2000:
            print("enough", flush=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "enough\n"
    child.kill()
    child.wait()
    child.stdout.close()
    assert len(times_ms(tmp_path / "door.mp4")) > 1000


def boxed(track: int) -> Tracks:
    return Tracks(
        np.array([track]),
        np.array([[40, 40, 80, 90]], np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
        ("person",),
    )


def test_a_still_shows_the_boxes_zones_and_lines() -> None:
    overlay = Overlay({"aisle": [(0.6, 0.2), (0.9, 0.2), (0.9, 0.8)]}, {"door": ((0.1, 0.95), (0.4, 0.95))})
    empty = still(scene(0), overlay, height=96)
    assert empty.shape == (96, 160, 3)
    seen = still(scene(0, tracks=boxed(7)), overlay, height=96)
    assert np.abs(seen[70, 40].astype(int) - track_colour(7)).max() < 30
    # An occupied zone is tinted more than an empty one.
    assert seen[40, 136].astype(int).sum() > empty[40, 136].astype(int).sum() + 20
    assert (empty[88:94, 20:60] != 60).any()


@pytest.mark.parametrize("layout", list(PixelFormat))
def test_every_pixel_format_keeps_its_colours(layout: PixelFormat) -> None:
    # Colours that BT.601 gives for this Y, Cb, Cr, in limited and full range.
    y, cb, cr = 150, 100, 170
    expected = {PixelFormat.I420_FULL: (100, 129, 209), PixelFormat.BGR: (10, 20, 30)}.get(
        layout, (100, 134, 223)
    )
    planes: dict[PixelFormat, tuple[Plane, ...]] = {
        PixelFormat.BGR: (np.full((60, 80, 3), (10, 20, 30), np.uint8),),
        PixelFormat.NV12: (np.full((60, 80), y, np.uint8), np.full((30, 40, 2), (cb, cr), np.uint8)),
    }
    separate = (
        np.full((60, 80), y, np.uint8),
        np.full((30, 40), cb, np.uint8),
        np.full((30, 40), cr, np.uint8),
    )
    picture = Picture(layout, planes.get(layout, separate), 60, 80)
    drawn = still(Scene(Frame("c", 0, 0, 0, 0, picture), NO_TRACKS, {}, {}), Overlay(), height=40)
    assert np.abs(drawn[35, 26].astype(int) - expected).max() <= 3
