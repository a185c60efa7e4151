"""VideoSource: one camera, recording or folder of images, opened and read through FFmpeg (PyAV).

Reads once, from open to end or failure; opening again after a failure, pacing and dropping belong to the
camera thread. Everything FFmpeg can say becomes a CameraError or an InputError here, inside iteration too.
"""

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast

import av
import av.error
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from edge_runtime.contract.address import redact
from edge_runtime.contract.device import Decoding
from edge_runtime.contract.errors import CameraError, EdgeRuntimeError, InputError
from edge_runtime.contract.packet import Packet
from edge_runtime.video.decode import to_picture
from edge_runtime.video.decoder import Decoded, Decoder
from edge_runtime.video.hardware import hwaccel, why_not
from edge_runtime.video.recording import cut_off_bytes, faults, promised_frames
from edge_runtime.video.tape import StreamTape
from edge_runtime.video.tapping import Tapping

MAX_CORRUPT = 50
"""Packets in a row that do not decode before the stream is given up: two seconds of 25 fps video."""

ON_TIME_S = 0.002
"""A read that waited longer than this waited for the camera, not for the disk or a full socket buffer."""

LIVE_OPTIONS = {"analyzeduration": "1000000", "probesize": "1000000"}
"""FFmpeg looks at up to a second (or a megabyte) of a live stream before it starts, instead of five. Not
`nobuffer`: it throws away what was looked at, and the first picture then waits for the next key frame."""

UNFILTERED_FROM = 4
"""A picture that is shrunk at least this much for the model does not need the codec's loop filter."""

UNTIMED = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "m4v"})
"""FFmpeg's names of formats without times. It makes some up, 25 pictures a second, whatever the camera's
rate: of a live one, only the arrival of its pictures tells."""

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
IMAGE_PERIOD_NS = 1_000_000_000
"""A folder of images is read as one picture a second of source time."""


class SourceKind(StrEnum):
    """How a source is opened."""

    RTSP = "rtsp"
    HTTP = "http"
    DEVICE = "device"
    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where a camera's pictures come from.

    Args:
        camera: The camera's name, for messages.
        url: rtsp://, http(s):// (MJPEG or any container), a V4L2 device, a file, or a folder of images.
        transport: How RTSP carries its packets, `tcp` or `udp`.
        timeout_s: How long opening, and each read, may take.
        decoding: Decoder options of the device profile.
        model_px: Longer side of what the model sees; None: not known.
    """

    camera: str
    url: str
    transport: str = "tcp"
    timeout_s: float = 10.0
    decoding: Decoding = field(default_factory=Decoding)
    model_px: int | None = None

    @property
    def kind(self) -> SourceKind:
        """Tell how the url is meant; a path that does not exist is a file."""
        scheme = self.url.partition("://")[0].lower() if "://" in self.url else ""
        if scheme in {"rtsp", "rtsps"}:
            return SourceKind.RTSP
        if scheme in {"http", "https"}:
            return SourceKind.HTTP
        path = Path(self.url)
        if path.is_dir():
            return SourceKind.FOLDER
        if path.exists() and stat.S_ISCHR(path.stat().st_mode):
            return SourceKind.DEVICE
        return SourceKind.DEVICE if self.url.startswith("/dev/video") else SourceKind.FILE

    @property
    def live(self) -> bool:
        """Whether pictures come at their own time and cannot be asked for again."""
        return self.kind in {SourceKind.RTSP, SourceKind.HTTP, SourceKind.DEVICE}

    @property
    def shown(self) -> str:
        """The url without its credentials."""
        return redact(self.url)


class VideoSource:
    """An open source.

    Args:
        spec: What to open.
        tape: Gets every packet as it comes, before it is decoded; None: nobody wants them.

    Raises:
        CameraError: A live source refused, timed out or sent something that is not video.
        InputError: A recording is missing, empty, truncated before its first picture, or not video.
    """

    def __init__(self, spec: SourceSpec, tape: StreamTape | None = None) -> None:
        self.spec = spec
        self.progress: float | None = None if spec.live else 0.0
        self.period_ns = 40_000_000
        self.decoder = ""
        """What decodes: `cuda`, or `processor`, and why not what the profile names; empty for images."""
        self.trouble = ""
        """Once a recording is read: what was wrong with it; empty when it was whole."""
        self.elsewhere_ns = 0
        """CPU time that the last step took in another process: none."""
        self._behind = False
        self._failure = ""
        self._packets = 0
        self._container: InputContainer | None = None
        self._stream: VideoStream | None = None
        self._decoder: Decoder | None = None
        self._tapping: Tapping | None = None
        if spec.kind is SourceKind.FOLDER:
            self._images = _images(spec)
            self.period_ns = IMAGE_PERIOD_NS
        else:
            self._container = self._open()
            self._stream = self._configure(self._container)
            timed = not (spec.live and self._container.format.name in UNTIMED)
            self._decoder = Decoder(self._stream, timed=timed, key_only=spec.decoding.frames == "key")
            if tape is not None:
                self._tapping = Tapping(tape, self._stream, timed=timed, period_ns=self.period_ns)

    def close(self) -> None:
        """Close the stream. Idempotent."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def catch_up(self, behind: bool) -> None:
        """Decode key frames only while the reader is behind a live stream, so that lag never builds up."""
        if behind != self._behind and self._stream is not None:
            self._behind = behind
            self._stream.codec_context.skip_frame = "NONKEY" if behind else "DEFAULT"

    def doze(self, wanted: bool) -> None:
        """Decode key frames only while nothing moves; see `Decoder`. Images are always decoded."""
        if self._decoder is not None:
            self._decoder.doze(wanted)

    def frames(self) -> Iterator[Decoded]:
        """Decode to the end of a recording, or until a live source fails.

        Raises:
            CameraError: A live source ended, timed out or sends only garbage; retryable.
            InputError: A recording holds no picture that decodes.
        """
        if self._container is None or self._stream is None or self._decoder is None:
            yield from self._read_images()
            return
        corrupt = bad = good = 0
        for decoded in self._decode(self._container, self._stream, self._decoder):
            yield decoded
            if decoded.passed is None:
                corrupt = corrupt + 1 if decoded.picture is None else 0
                bad += decoded.picture is None
                good += decoded.picture is not None
            if corrupt >= MAX_CORRUPT and self.spec.live:
                raise CameraError(
                    f"camera '{self.spec.camera}'",
                    retryable=True,
                    expected="decodable video",
                    got=f"{corrupt} corrupt packets in a row from {self.spec.shown}",
                    do="It is opened again; if this stays, check the camera's codec and the network",
                )
        if self.spec.live:
            raise CameraError(
                f"camera '{self.spec.camera}': {self.spec.shown} ended the stream", retryable=True
            )
        if not good:
            raise self._error("at least one picture", "no packet that decodes")
        self.progress = 1.0
        self.trouble = faults(
            promised=promised_frames(self._container, self._stream),
            came=self._packets,
            corrupt=bad - bool(self._failure),
            failure=self._failure,
        )

    def packets(self) -> Iterator[Packet]:
        """Read for the tape alone, without decoding, until the source fails or ends.

        Raises:
            EdgeRuntimeError: It did.
        """
        try:
            if self._container is not None and self._stream is not None and self._tapping is not None:
                yield from self._tapping.through(self._container.demux(self._stream))
        except (av.error.FFmpegError, OSError) as error:
            raise self._error("the next packet", _said(error)) from error
        raise self._error("the next packet", "the end of the stream")

    def cut_off(self) -> str:
        """Say, without reading it, whether a recording ends before its own index does; empty when not."""
        if self._container is None or self._stream is None or self.spec.live:
            return ""
        missing = cut_off_bytes(self._container, self._stream)
        return f"it is cut short: {missing} bytes are missing at its end" if missing else ""

    def _decode(self, container: InputContainer, stream: VideoStream, decoder: Decoder) -> Iterator[Decoded]:
        packets = container.demux(stream)
        while True:
            asked = time.monotonic()
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                yield from decoder.end()
                return
            except (av.error.FFmpegError, OSError) as error:
                if self.spec.live:
                    raise self._error("the next packet", _said(error)) from error
                self._failure = _said(error)
                yield Decoded(None, None, on_time=False)
                return
            on_time = time.monotonic() - asked > ON_TIME_S
            self._note_progress(packet.pos, container.size)
            self._packets += packet.size > 0
            if self._tapping is not None:
                self._tapping.take(packet)
            yield from decoder.decode(packet, on_time=on_time)

    def _note_progress(self, position: int | None, size: int) -> None:
        if self.progress is not None and position is not None and size > 0:
            self.progress = min(max(self.progress, position / size), 1.0)

    def _read_images(self) -> Iterator[Decoded]:
        for number, path in enumerate(self._images):
            source_ns = number * IMAGE_PERIOD_NS
            try:
                with av.open(str(path)) as container:
                    frame = next(container.decode(video=0))
                yield Decoded(to_picture(frame), source_ns, on_time=False)
            except (av.error.FFmpegError, StopIteration, IndexError):
                yield Decoded(None, source_ns, on_time=False)
            self.progress = (number + 1) / len(self._images)

    def _open(self) -> InputContainer:
        spec = self.spec
        if spec.kind is SourceKind.FILE:
            _check_file(spec)
        options = LIVE_OPTIONS if spec.live else {}
        if spec.kind is SourceKind.RTSP:
            options = {**options, "rtsp_transport": spec.transport}
        hardware = spec.decoding.hardware
        usable = hardware is not None and not why_not(hardware)
        asked = time.monotonic()
        try:
            return av.open(
                spec.url,
                format="v4l2" if spec.kind is SourceKind.DEVICE else None,
                options=options,
                timeout=spec.timeout_s,
                hwaccel=hwaccel(hardware) if hardware is not None and usable else None,
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            silent = time.monotonic() - asked >= spec.timeout_s
            got = f"no answer within {spec.timeout_s:g} s" if silent else _said(error)
            raise self._error("a video stream", got) from error

    def _configure(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            container.close()
            raise self._error("a video stream", f"a file with {kinds}")
        stream = container.streams.video[0]
        # PyAV's type does not say it: a stream whose codec FFmpeg cannot decode has no context.
        if cast("VideoCodecContext | None", stream.codec_context) is None:
            container.close()
            raise self._error("a codec that FFmpeg decodes", "one it does not know")
        decoding = self.spec.decoding
        self.decoder = self._which_decoder(stream)
        stream.thread_type = decoding.thread_type.upper()
        stream.codec_context.thread_count = decoding.threads
        skip = skipped_filter(decoding, max(stream.width, stream.height), self.spec.model_px)
        stream.codec_context.options = {"skip_loop_filter": skip}
        rate = stream.average_rate or stream.guessed_rate
        if rate:
            self.period_ns = round(1e9 / float(rate))
        return stream

    def _which_decoder(self, stream: VideoStream) -> str:
        hardware = self.spec.decoding.hardware
        if hardware is None:
            return "processor"
        if stream.codec_context.is_hwaccel:
            return hardware
        codec = stream.codec_context.name
        return f"processor: {why_not(hardware) or f'{hardware} decodes no {codec} in this FFmpeg'}"

    def _error(self, expected: str, got: str) -> EdgeRuntimeError:
        camera = f"camera '{self.spec.camera}': {self.spec.shown}"
        if self.spec.live:
            return CameraError(camera, retryable=True, expected=expected, got=got, do=_remedy(got))
        do = "Record it as H.264, H.265 or MJPEG" if "codec" in expected else _RECORD_AGAIN
        return InputError(camera, expected=expected, got=got, do=do)


def skipped_filter(decoding: Decoding, picture_px: int, model_px: int | None) -> str:
    """Say whose loop filter to skip, in FFmpeg's words (AVDiscard).

    The filter smooths three pixels either side of a block's edge (H.264, 8.7). Without it a decoder takes a
    fifth less; shrunk to a quarter or less, a model finds the same (AP50 0.002 lower at a sixth, 0.017 at a
    third, measured by benchmarks/video.py).

    Args:
        decoding: Of the profile.
        picture_px: Longer side of the stream's pictures.
        model_px: Longer side of what the model sees; None: not known.
    """
    wanted = decoding.skip_loop_filter
    if wanted == "auto":
        wanted = "all" if model_px is not None and picture_px >= UNFILTERED_FROM * model_px else "none"
    return {"none": "default", "non_reference": "noref", "all": "all"}[wanted]


def _check_file(spec: SourceSpec) -> None:
    path = Path(spec.url)
    problem = f"camera '{spec.camera}': {spec.shown}"
    if not path.exists():
        raise InputError(
            problem,
            expected="a file",
            got="no such file",
            do=f"It was looked for at {redact(str(path.absolute()))}",
        )
    if not os.access(path, os.R_OK):
        raise InputError(
            problem, expected="a readable file", got="no permission", do=f"Try: chmod a+r {path}"
        )
    if path.stat().st_size == 0:
        raise InputError(
            problem, expected="a video", got="an empty file (0 bytes)", do="Record or copy it again"
        )


def _images(spec: SourceSpec) -> list[Path]:
    images = sorted(path for path in Path(spec.url).iterdir() if path.suffix.lower() in IMAGES)
    if not images:
        raise InputError(
            f"camera '{spec.camera}': {spec.url}",
            expected=f"a folder with images ({', '.join(sorted(IMAGES))})",
            got="none",
        )
    return images


def _said(error: av.error.FFmpegError | OSError | ValueError) -> str:
    """FFmpeg's own words, without the url that it quotes: that may hold a password."""
    return getattr(error, "strerror", None) or redact(str(error))


def _remedy(got: str) -> str:
    for sign, remedy in _REMEDIES:
        if sign in got.lower():
            return remedy
    return "It is tried again with growing pauses"


_RECORD_AGAIN = "Check the path, or record the file again"

_REMEDIES = (
    ("does not know", "Set the camera to H.264, H.265 or MJPEG; it is tried again"),
    ("401", "Check the user name and the password in the url"),
    ("unauthorized", "Check the user name and the password in the url"),
    ("404", "Check the path in the url; the camera's manual names its streams"),
    ("not found", "Check the path in the url; the camera's manual names its streams"),
    ("invalid argument", "Percent-encode / # @ : in the user name and the password of the url"),
    ("no such file", "Check that it is plugged in: ls /dev/video*; it is tried again"),
    ("refused", "Check the address and the port, and that the camera is switched on; it is tried again"),
    ("timed out", "Check the cable and the address; it is tried again"),
    ("no answer", "Check the cable and the address; it is tried again"),
)
