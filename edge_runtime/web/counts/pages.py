"""CountsPages: the routes of the page of counts. Counts nothing; a reader of counts does.

Every handler reads the file in a thread: SQLite must not hold up the pages of others.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from importlib.resources import files
from typing import Any

from edge_runtime.contract.errors import InputError
from edge_runtime.counts.export import as_csv
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.tables import Every, What, table
from edge_runtime.protocol import json_document
from edge_runtime.web.counts.figures import figures, heat_figures
from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.page.extension import Sheet, asset_way
from edge_runtime.web.routing_table import Way

_PACKAGE = "edge_runtime.web.counts"
_FRESH = {"cache-control": "no-store"}


class CountsPages:
    """The page of counts, an extension of the local page.

    Args:
        reader: Of the store's counts.
        styles: Style sheets of the charts' library, as paths.
    """

    title = "Counts"
    path = "/counts"

    def __init__(self, reader: CountsReader, *, styles: Sequence[str] = ("/assets/uplot.min.css",)) -> None:
        self._reader = reader
        self._styles = tuple(styles)

    def ways(self) -> Sequence[Way]:
        """Give the routes."""
        return (
            Way("GET", "/counts", self._page, "Show a day's counts", "Page"),
            Way("GET", "/counts/days/{day}", self._day, "Give a day's counts", "Page"),
            Way("GET", "/counts/heat/{day}/{camera}", self._heat, "Give a heatmap", "Page"),
            Way("GET", "/counts/files/{day}/{what}", self._file, "Give a day's counts as CSV", "Page"),
            asset_way("/counts/assets/counts.js", _PACKAGE, "counts.js"),
            asset_way("/counts/assets/charts.js", _PACKAGE, "charts.js"),
            asset_way("/counts/assets/counts.css", _PACKAGE, "counts.css"),
        )

    async def _page(self, _: Exchange) -> Reply:
        return Sheet(
            files(_PACKAGE).joinpath("counts.html").read_bytes(),
            title=self.title,
            scripts=("/counts/assets/counts.js",),
            styles=(*self._styles, "/counts/assets/counts.css"),
        )

    async def _day(self, _: Exchange, day: str) -> Reply:
        return await _json(lambda: self._figures(day))

    async def _heat(self, _: Exchange, day: str, camera: str) -> Reply:
        return await _json(lambda: self._heat_of(day, camera))

    async def _file(self, _: Exchange, day: str, what: str) -> Reply:
        wanted = _what(what)
        found = await asyncio.to_thread(lambda: self._csv(day, wanted))
        name = f"{wanted}-{self._date(day)}.csv"
        told = {**_FRESH, "content-disposition": f'attachment; filename="{name}"'}
        return Reply(found, kind=b"text/csv; charset=utf-8", headers=told)

    def _figures(self, text: str) -> dict[str, Any]:
        reader = self._reader
        days, day = reader.days(), self._date(text)
        shown: dict[str, Any] = {
            "today": reader.today.isoformat(),
            "first": min([*days, reader.today]).isoformat(),
            "empty": not days,
        }
        if days:
            waiting = reader.waiting() if day == reader.today else {}
            shown |= figures(
                reader.clock, reader.day(day), waiting, sorted(reader.heat(day)), now_s=reader.now_s()
            )
        return shown

    def _heat_of(self, text: str, camera: str) -> dict[str, Any]:
        found = self._reader.heat(self._date(text)).get(camera)
        if found is None:
            raise InputError(f"heatmap of camera '{camera[:64]}'", expected="one of that day", got="none")
        return heat_figures(found)

    def _csv(self, text: str, what: What) -> bytes:
        reader = self._reader
        day = reader.day(self._date(text))
        return as_csv(table(reader.clock, [day], what, Every.HOUR, now_s=reader.now_s()))

    def _date(self, text: str) -> date:
        try:
            return self._reader.today if text == "today" else date.fromisoformat(text)
        except ValueError as error:
            raise InputError("day", expected="a date as 2026-11-25, or today", got=text[:40]) from error


def _what(text: str) -> What:
    name = text.removesuffix(".csv")
    if name not in set(What):
        raise InputError("table", expected=f"one of {', '.join(What)}", got=text[:40])
    return What(name)


async def _json(make: Callable[[], dict[str, Any]]) -> Reply:
    return Reply(json_document.write(await asyncio.to_thread(make)), headers=_FRESH)
