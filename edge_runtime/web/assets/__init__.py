"""Files that browsers load and that several pages share: the look, and the library that draws charts.

Knows no page.
"""

from importlib.resources import files

KINDS = {
    "look.css": "text/css; charset=utf-8",
    "uplot.min.css": "text/css; charset=utf-8",
    "uplot.min.js": "text/javascript; charset=utf-8",
}
"""Each file, and what it is."""


def asset(name: str) -> bytes:
    """Read a file; only those of `KINDS` are asked for."""
    return files(__name__).joinpath(name).read_bytes()
