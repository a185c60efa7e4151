"""The last words of a tool's log, which are the likeliest reason why it stopped. Judges nothing."""

import re
from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_TAIL_BYTES = 65536
_LINE_CHARACTERS = 300


def tail(log: Path) -> str:
    """Give the last 64 KiB of a log without colours; empty when there is no such file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            content = file.read()
    except FileNotFoundError:
        return ""
    return _ANSI.sub("", content.decode(errors="replace"))


def last_line(text: str) -> str:
    """Give the last line with anything on it, at most 300 characters; empty where there is none.

    Args:
        text: Progress bars that redraw themselves end their lines with a carriage return.
    """
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line[:_LINE_CHARACTERS] for line in lines if line), "")
