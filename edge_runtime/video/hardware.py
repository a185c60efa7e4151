"""Decoders in hardware: whether this machine and this FFmpeg have the one that a profile names.

Opens no stream. A hardware decoder that is missing is no fault of the camera: the processor decodes then, and
whoever opened the stream says so.
"""

from functools import cache

import av
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available


@cache
def why_not(name: str) -> str:
    """Try a kind of hardware decoder, once a process.

    Args:
        name: FFmpeg's: cuda, vaapi, videotoolbox, …

    Returns:
        Why it cannot be used here; empty when it can.
    """
    built = hwdevices_available()
    if name not in built:
        return f"this FFmpeg is built without {name} (it has {', '.join(built) or 'none'})"
    try:
        context = av.CodecContext.create("h264", "r", hwaccel(name))
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
        return f"{name} does not open here: {getattr(error, 'strerror', None) or error}"
    return "" if context.is_hwaccel else f"this FFmpeg decodes no H.264 with {name}"


def hwaccel(name: str) -> HWAccel:
    """Give what FFmpeg takes; a stream that the hardware does not know is decoded by the processor."""
    return HWAccel(name, allow_software_fallback=True)
