"""Sources on real files: what is read, and the one clear message for each thing that can be wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import pytest

from edge_runtime.contract.device import Decoding
from edge_runtime.contract.errors import CameraError, InputError
from edge_runtime.contract.frame import PixelFormat
from edge_runtime.video.decoder import Decoded
from edge_runtime.video.hardware import why_not
from edge_runtime.video.source import SourceKind, SourceSpec, VideoSource, skipped_filter
from tests.simulators.clips import moving_square, write_clip


def read(path: Path) -> list[Decoded]:
    source = VideoSource(SourceSpec("door", str(path)))
    try:
        return list(source.frames())
    finally:
        source.close()


@pytest.mark.parametrize(
    ("url", "kind", "live"),
    [
        ("rtsp://cam/1", SourceKind.RTSP, True),
        ("RTSPS://cam/1", SourceKind.RTSP, True),
        ("http://cam/mjpeg", SourceKind.HTTP, True),
        ("/dev/video0", SourceKind.DEVICE, True),
        ("/dev/null", SourceKind.DEVICE, True),
        ("clip.mp4", SourceKind.FILE, False),
        ("/", SourceKind.FOLDER, False),
    ],
)
def test_kinds(url: str, kind: SourceKind, live: bool) -> None:
    spec = SourceSpec("door", url)
    assert (spec.kind, spec.live) == (kind, live)


def test_every_frame_of_a_recording_in_order(tmp_path: Path) -> None:
    source = VideoSource(SourceSpec("door", str(write_clip(tmp_path / "c.mp4", moving_square(60)))))
    frames = list(source.frames())
    assert [frame.source_ns for frame in frames] == [number * 40_000_000 for number in range(60)]
    assert source.progress == 1.0
    assert source.period_ns == 40_000_000
    source.close()


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "wanted"),
    [
        ("c.mp4", "libx264", "yuv420p", PixelFormat.I420),
        ("c.mkv", "libx264", "yuv444p", PixelFormat.I420),
        ("c.avi", "mjpeg", "yuvj420p", PixelFormat.I420_FULL),
        ("c.mkv", "mjpeg", "yuvj422p", PixelFormat.I420_FULL),
        ("c.mkv", "ffv1", "bgr0", PixelFormat.BGR),
    ],
)
def test_pixel_formats_keep_the_picture(
    tmp_path: Path, name: str, codec: str, pixel_format: str, wanted: PixelFormat
) -> None:
    images = list(moving_square(5))
    path = write_clip(tmp_path / name, images, codec=codec, pixel_format=pixel_format)
    picture = read(path)[-1].picture
    assert picture is not None
    assert picture.format is wanted
    assert (picture.height, picture.width) == (240, 320)
    luma = cv2.cvtColor(images[-1], cv2.COLOR_BGR2GRAY).astype(float)
    black, white = (0, 255) if wanted is not PixelFormat.I420 else (16, 235)
    expected = black + luma * (white - black) / 255
    assert np.abs(picture.luma - expected).mean() < 3


def test_odd_sizes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "odd.mkv", moving_square(3, 221, 333), codec="ffv1")
    picture = read(path)[0].picture
    assert picture is not None
    assert [plane.shape for plane in picture.planes] == [(221, 333), (111, 167), (111, 167)]


def test_folder_of_images(tmp_path: Path) -> None:
    for number, image in enumerate(moving_square(3)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    (tmp_path / "3.jpg").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("ignored")
    frames = read(tmp_path)
    assert [frame.picture is not None for frame in frames] == [True, True, True, False]
    assert [frame.source_ns for frame in frames] == [0, 1_000_000_000, 2_000_000_000, 3_000_000_000]


def truncated(path: Path) -> None:
    write_clip(path, moving_square(50))
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("gone.mp4", lambda _: None, r"camera 'door': .*gone\.mp4: expected a file, got no such file"),
        ("empty.mp4", lambda path: path.write_bytes(b""), r"got an empty file \(0 bytes\)"),
        (
            "text.mp4",
            lambda path: path.write_text("hello" * 99),
            r"expected a video stream, got Invalid data",
        ),
        ("cut.mp4", truncated, r"expected a video stream, got Invalid data"),
        ("folder", lambda path: path.mkdir(), r"expected a folder with images .* got none"),
    ],
)
def test_bad_recordings(tmp_path: Path, name: str, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_sound_without_pictures(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "s.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="expected a video stream, got a file with audio"):
        read(tmp_path / "s.wav")


def test_garbage_inside_a_recording_is_counted_and_passed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.avi", moving_square(60), codec="mjpeg", pixel_format="yuvj420p")
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + 8000] = b"\xa5" * 8000
    path.write_bytes(data)
    frames = read(path)
    good = sum(frame.picture is not None for frame in frames)
    assert 30 <= good < 60


def test_truncated_stream_gives_what_is_there(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.ts", moving_square(60))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 20 <= sum(frame.picture is not None for frame in read(path)) < 60


def unknown_codec(path: Path) -> Path:
    """An AVI whose pictures are in a code nobody knows."""
    write_clip(path, moving_square(10), codec="mjpeg", pixel_format="yuvj420p")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZQZQ"))
    return path


def test_codec_that_ffmpeg_does_not_know(tmp_path: Path) -> None:
    path = unknown_codec(tmp_path / "c.avi")
    with pytest.raises(InputError, match=r"camera 'door': .* expected a codec that FFmpeg decodes"):
        VideoSource(SourceSpec("door", str(path)))


def trouble(path: Path) -> tuple[int, str, str]:
    """Read a recording; give its pictures, what was wrong in the end, and what could be said before."""
    source = VideoSource(SourceSpec("door", str(path)))
    try:
        before = source.cut_off()
        good = sum(decoded.picture is not None for decoded in source.frames())
        return good, source.trouble, before
    finally:
        source.close()


def faststart(path: Path, frames: int = 100) -> Path:
    """An MP4 with its index in front, as players want it."""
    whole = write_clip(path.with_name("whole.mp4"), moving_square(frames))
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.avi", "c.ts", "faststart.mp4"])
def test_a_whole_recording_has_no_trouble(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "faststart.mp4":
        faststart(path)
    else:
        write_clip(path, moving_square(100), codec="mpeg4" if name == "c.avi" else "libx264")
    assert trouble(path) == (100, "", "")


@pytest.mark.parametrize("name", ["faststart.mp4", "c.avi", "c.mkv"])
def test_a_recording_that_is_cut_short_says_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "faststart.mp4":
        faststart(path)
    else:
        write_clip(path, moving_square(100), codec="mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    good, after, before = trouble(path)
    assert 20 < good < 90
    assert "it is cut short" in after, after
    if name == "faststart.mp4":  # its index is in front, and tells before anything is read
        assert "bytes are missing at its end" in before


def test_corrupt_frames_are_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.avi", moving_square(60), codec="mjpeg", pixel_format="yuvj420p")
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + 8000] = b"\xa5" * 8000
    path.write_bytes(data)
    good, after, _ = trouble(path)
    assert good < 60
    assert "did not decode" in after or "it is cut short" in after


@pytest.mark.parametrize("wanted", ["vaapi", "cuda", "videotoolbox", "nonsense"])
def test_hardware_that_is_not_here_is_said_and_the_processor_decodes(tmp_path: Path, wanted: str) -> None:
    path = write_clip(tmp_path / "c.mp4", moving_square(30))
    source = VideoSource(SourceSpec("door", str(path), decoding=Decoding(hardware=wanted)))
    assert sum(decoded.picture is not None for decoded in source.frames()) == 30
    source.close()
    if why := why_not(wanted):  # a machine that has it decodes with it
        assert source.decoder == f"processor: {why}"
        assert wanted in why
    else:
        assert source.decoder == wanted


def test_hardware_that_knows_another_codec_is_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.avi", moving_square(5), codec="ffv1")
    source = VideoSource(SourceSpec("door", str(path), decoding=Decoding(hardware="cuda")))
    assert source.decoder.startswith("processor: ")
    source.close()


def test_key_frames_only_come_at_once_and_at_their_times(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", moving_square(100))
    source = VideoSource(SourceSpec("door", str(path), decoding=Decoding(frames="key")))
    frames = list(source.frames())
    source.close()
    assert [frame.source_ns for frame in frames] == [second * 1_000_000_000 for second in range(4)]
    assert all(frame.picture is not None for frame in frames)
    assert source.trouble == ""


def test_refused_camera_says_so_without_its_password() -> None:
    with pytest.raises(CameraError, match="Connection refused") as caught:
        VideoSource(SourceSpec("door", "rtsp://admin:secret@127.0.0.1:1/stream", timeout_s=5))
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "picture_px", "model_px", "skipped"),
    [
        ("auto", 1920, 320, "all"),
        ("auto", 1280, 320, "all"),
        ("auto", 1279, 320, "default"),
        ("auto", 1920, 640, "default"),
        ("auto", 1920, None, "default"),
        ("none", 1920, 320, "default"),
        ("non_reference", 1920, 640, "noref"),
        ("all", 640, 640, "all"),
    ],
)
def test_loop_filter_is_skipped_where_the_model_cannot_tell(
    wanted: Literal["auto", "none", "non_reference", "all"],
    picture_px: int,
    model_px: int | None,
    skipped: str,
) -> None:
    assert skipped_filter(Decoding(skip_loop_filter=wanted), picture_px, model_px) == skipped
