"""The terminal as the fleet's commands write to it: what a device said cannot steer it.

An event's text may come from a stolen certificate. Styles are this program's own; escape sequences, and signs
that turn the direction of writing, in what is shown are made visible instead. JSON escapes them by itself.
"""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_CONTROLS = (*range(10), *range(11, 32), *range(127, 160))
_DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = dict.fromkeys((*_CONTROLS, *_DIRECTIONS), "\N{REPLACEMENT CHARACTER}")


class _Screen(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text.translate(_SHOWN)
            yield segment if segment.control or text == segment.text else Segment(text, segment.style)


def console(*, as_json: bool = False) -> Console:
    """Give the console for human text.

    Args:
        as_json: Standard output belongs to a document; this goes to standard error.
    """
    return _Screen(stderr=as_json, highlight=False)
