"""Pictures of files and of recordings, decoded one after the other. Asks no model and keeps none of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2

from edge_runtime.contract.device import Decoding
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.frame import Picture
from edge_runtime.scoring.inputs import Source
from edge_runtime.scoring.plan import Gap, marked
from edge_runtime.tasks.picture_file import read_picture
from edge_runtime.video.sampler import Sampler
from edge_runtime.video.source import SourceSpec, VideoSource


@dataclass(frozen=True, slots=True)
class Item:
    """One row's input, ready for the model.

    Args:
        source: Where it is from.
        row: Its number there.
        value: A picture or a text; None where it is broken.
        error: What is wrong with it; empty when nothing is.
        last: Whether it is the last one of its source.
        pts_ns: Source time since the recording's first frame; None: it is of no recording.
        progress: The share of its source that is read, in [0, 1].
    """

    source: Source
    row: int
    value: Picture | str | None
    error: str = ""
    last: bool = True
    pts_ns: int | None = None
    progress: float = 1.0


def read_file(source: Source) -> Item:
    """Decode a picture's file."""
    try:
        return Item(source, 0, Picture.from_bgr(read_picture(source.path)))
    except (EdgeRuntimeError, OSError, cv2.error, MemoryError) as error:
        return Item(source, 0, None, error=str(error) or type(error).__name__)


def read_recording(
    source: Source, left: Sequence[Gap], fps: float | None, decoding: Decoding
) -> Iterator[Item]:
    """Decode a recording, and give the frames that are not done.

    Always decodes from the beginning: what is done already costs its decoding once more, and the frames that
    follow are then the same as if nothing had come between.

    Args:
        source: The recording.
        left: Its rows that are not done.
        fps: So many frames a second of source time; None: every one.
        decoding: How to decode.

    Returns:
        Frames; broken ones and, where the file is not whole, one more row with what is wrong with it.
    """
    for item, last in marked(_frames(source, fps, decoding)):
        if any(item.row in gap for gap in left):
            yield Item(item.source, item.row, item.value, item.error, last, item.pts_ns, item.progress)


def _frames(source: Source, fps: float | None, decoding: Decoding) -> Iterator[Item]:
    index = 0
    try:
        video = VideoSource(SourceSpec(source.name, str(source.path), decoding=decoding))
        try:
            sampler, first_ns, pts_ns = Sampler(fps), None, 0
            for decoded in video.frames():
                at_ns = decoded.source_ns
                if at_ns is None:
                    pts_ns += video.period_ns if index else 0
                else:
                    first_ns = at_ns if first_ns is None else first_ns
                    pts_ns = max(pts_ns, at_ns - first_ns)
                due = sampler.due(pts_ns)
                if due:
                    error = "" if decoded.picture is not None else f"frame {index} does not decode"
                    yield Item(source, index, decoded.picture, error, False, pts_ns, video.progress or 0.0)
                index += 1
            if video.trouble:
                yield Item(source, index, None, video.trouble, False, pts_ns)
        finally:
            video.close()
    except EdgeRuntimeError as error:
        yield Item(source, index, None, str(error))
