"""What a recording promises, and what was wrong with it once it is read. Opens and decodes nothing."""

from av.container import InputContainer
from av.video.stream import VideoStream

COUNTED, ESTIMATED = 0.99, 0.9
"""A recording that gives less than this share of the frames it promises is not whole: where the file has
counted them, and where they follow from its duration and rate, which may be estimates."""


def promised_frames(container: InputContainer, stream: VideoStream) -> tuple[int, float]:
    """Tell how many frames a file says it has, and how many make it whole; 0 where it does not say.

    The lower of its count and its duration: an edit list may hide frames that are counted.
    """
    seconds = 0.0
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1_000_000
    by_time = round(seconds * float(stream.average_rate or 0))
    promised = min((count for count in (stream.frames, by_time) if count > 0), default=0)
    return promised, promised * (COUNTED if stream.frames else ESTIMATED)


def cut_off_bytes(container: InputContainer, stream: VideoStream) -> int:
    """Tell how many bytes a file's own index has beyond the file's end; 0 where it has no index."""
    entries = stream.index_entries
    if not len(entries) or container.size <= 0:
        return 0
    last = max((entries[at] for at in (0, len(entries) - 1)), key=lambda entry: entry.pos)
    return max(0, last.pos + last.size - container.size)


def faults(*, promised: tuple[int, float], came: int, corrupt: int, failure: str) -> str:
    """Say what was wrong with a recording that was read to its end.

    Args:
        promised: As `promised_frames` gives it.
        came: Frames that were read, corrupt ones too.
        corrupt: Frames that did not decode.
        failure: What ended the reading before the file's end, in FFmpeg's words; empty: nothing did.

    Returns:
        One sentence for a person; empty when it was whole.
    """
    parts: list[str] = []
    if failure:
        parts.append(f"it cannot be read further after {came} frames: {failure}")
    stated, least = promised
    if came < least:
        parts.append(f"it is cut short: {came} frames came of {stated}")
    if corrupt:
        parts.append(f"{corrupt} of {came} frames did not decode")
    return "; ".join(parts)
