"""How much a door takes. Checks nothing itself: whoever reads bytes, tensors or pictures does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be at most; more is a `TooLargeError`.

    Args:
        body_bytes: Of a body, as it comes and again when it is decompressed.
        body_s: Seconds that a body may take, and one more for each 64 KiB of it that came.
        elements: Of all tensors of a request together.
        tensors: Of a request.
        pixels: Of a picture, told by its header before anything is decoded.
        texts: Of a request.
        characters: Of one text, prompt or conversation.
        infinite: Whether float tensors may hold NaN and infinities in binary form, as tables with missing
            values do. JSON cannot say them.
    """

    body_bytes: int = 64 << 20
    body_s: float = 30.0
    elements: int = 1 << 24
    tensors: int = 64
    pixels: int = 50_000_000
    texts: int = 256
    characters: int = 1_000_000
    infinite: bool = False


DEFAULT_LIMITS = Limits()
"""Where nobody says otherwise."""
