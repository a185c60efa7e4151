"""PageExtension: how another part of the program adds pages of its own to the local page.

Holds no page. Whoever asks for an extension's route is logged in already; a request that changes something
has shown the word of its session (header `x-page-word`; scripts get it from `<meta name="page-word">`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Protocol

from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.routing_table import Way

HTML = b"text/html; charset=utf-8"
SCRIPT = b"text/javascript; charset=utf-8"
STYLE = b"text/css; charset=utf-8"
_KINDS = {".js": SCRIPT, ".css": STYLE, ".svg": b"image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Sheet(Reply):
    """An answer that is shown inside the page's frame: with its head, its navigation and its look.

    Args:
        body: HTML of what stands in `<main>`, all from outside escaped; no script and no style in it, which
            browsers are told to refuse.
        title: Of the browser's tab, as plain text.
        scripts: Paths of JavaScript modules that the page loads.
        styles: Paths of style sheets beside the page's own.
    """

    kind: bytes = HTML
    title: str = ""
    scripts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()


class PageExtension(Protocol):
    """Pages of one part of the program.

    Attributes:
        title: Its entry in the navigation.
        path: Where that entry leads, such as `/counts`; all its routes begin with it.
    """

    title: str
    path: str

    def ways(self) -> Sequence[Way]:
        """Give its routes; a handler answers with a `Sheet` for a page, with a `Reply` for all else."""
        ...


def asset_way(path: str, package: str, name: str) -> Way:
    """Make the route of a file that pages load.

    Args:
        path: Where, such as `/counts/counts.js`.
        package: The package whose file it is; the file lies in its folder, or below it.
        name: Of the file, relative to that folder; its ending says what it is (.js, .css, .svg).
    """
    file = files(package).joinpath(name)
    kind = next((kind for end, kind in _KINDS.items() if name.endswith(end)), b"application/octet-stream")

    async def give(_: Exchange) -> Reply:
        # Read anew each time: small, seldom asked for, and not worth its memory.
        return Reply(file.read_bytes(), kind=kind, headers={"cache-control": "no-cache"})

    return Way("GET", path, give, f"Give {name}", "Page")


def text(words: object) -> str:
    """Escape words from outside for HTML, inside attributes, too."""
    return escape(str(words), quote=True)
