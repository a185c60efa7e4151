"""Stop sequences in a text that comes in pieces. Pure; knows no tokens.

A piece may end in the middle of a stop sequence, so characters that could begin one are held back until it is
clear that they do not.
"""

from collections.abc import Sequence


class StopScanner:
    """Ends a text before the stop sequence that is complete first; of several at once, the longest."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Begin a text.

        Args:
            stops: Not empty strings; none: the text goes through as it is.
        """
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take a piece.

        Args:
            text: What comes next; after a stop nothing may come.

        Returns:
            What is free to go out, and whether a stop sequence came.
        """
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        keep = max((_begun(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """Give what was held back: the text is over, and no stop sequence came."""
        rest, self._held = self._held, ""
        return rest


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of a stop sequence."""
    return next(
        (size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0
    )
