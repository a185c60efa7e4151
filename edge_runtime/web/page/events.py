"""Events: what happened, the newest first, each with its picture and its recordings. Changes nothing."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlencode

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.event import Event
from edge_runtime.sinks.timeline import Moment, Timeline, Wanted
from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.page.extension import Sheet, asset_way, text
from edge_runtime.web.page.ports import Store
from edge_runtime.web.routing_table import Way

_SHOWN = 48
_KINDS = {".mp4": b"video/mp4", ".jpg": b"image/jpeg", ".jpeg": b"image/jpeg"}
_WORDS = {".mp4": "Clip", ".jpg": "Snapshot", ".jpeg": "Snapshot"}
_MOST_BYTES = 256 * 2**20


class Events:
    """The timeline.

    Args:
        store: Whose.
        timeline: What it remembers.
    """

    title = "Events"
    path = "/events"

    def __init__(self, store: Store, timeline: Timeline) -> None:
        self._store = store
        self._timeline = timeline

    def ways(self) -> Sequence[Way]:
        """Give the routes."""
        return (
            Way("GET", self.path, self.show, "Show what happened", "Page"),
            Way("GET", "/events/{id}/picture", self.picture, "Give the picture of an event", "Page"),
            Way("GET", "/events/{number}/files/{place}", self.file, "Give a recording of an event", "Page"),
            asset_way("/assets/events.js", "edge_runtime.web.page", "static/events.js"),
        )

    async def show(self, exchange: Exchange) -> Sheet:
        """Show a page of events: `?camera=…&kind=…&from=…&to=…&before=…`."""
        query = exchange.query
        wanted, problem = Wanted(limit=_SHOWN + 1), ""
        try:
            wanted = _wanted(query)
        except InputError as error:
            problem = str(error)
        return await asyncio.to_thread(self._show, wanted, query, problem)

    async def picture(self, _: Exchange, event: str) -> Reply:
        """Give the picture of an event."""
        jpeg = await asyncio.to_thread(self._timeline.picture, event)
        if jpeg is None:
            return Reply(b"", 404, b"image/jpeg")
        return Reply(jpeg, kind=b"image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def file(self, exchange: Exchange, number: str, place: str) -> Reply:
        """Give one of the recordings of an event, by their order."""
        return await asyncio.to_thread(self._file, exchange, number, place)

    def _file(self, exchange: Exchange, number: str, place: str) -> Reply:
        n = _digits(number, "number of an event")
        found = self._timeline.find(Wanted(before=n + 1, limit=1))
        files = self._store.recordings(found[0].event) if found and found[0].number == n else ()
        at = _digits(place, "number of a recording")
        if at >= len(files) or not files[at].is_file() or files[at].stat().st_size > _MOST_BYTES:
            return Reply(b"", 404)
        body = files[at].read_bytes()
        kind = _KINDS.get(files[at].suffix, b"application/octet-stream")
        told = {"accept-ranges": "bytes", "content-disposition": f'inline; filename="{files[at].name}"'}
        start, end = _span(exchange.headers.get("range", ""), len(body))
        if (start, end) == (0, len(body)):
            return Reply(body, kind=kind, headers=told)
        told["content-range"] = f"bytes {start}-{end - 1}/{len(body)}"
        return Reply(body[start:end], 206, kind, told)

    def _show(self, wanted: Wanted, query: dict[str, str], problem: str) -> Sheet:
        found = [] if problem else self._timeline.find(wanted)
        listed = "".join(self._item(moment) for moment in found[:_SHOWN])
        empty = '<p class="empty">Nothing that fits has happened yet.</p>'
        said = f'<p class="problem" role="alert">{text(problem)}</p>' if problem else ""
        more = ""
        if len(found) > _SHOWN:
            older = {**query, "before": str(found[_SHOWN - 1].number)}
            more = f'<a class="button" href="/events?{text(urlencode(older))}">Older</a>'
        if "before" in query:
            newest = {key: value for key, value in query.items() if key != "before"}
            more = f'<a class="button" href="/events?{text(urlencode(newest))}">Newest</a>{more}'
        listing = f"<ol class=timeline>{listed}</ol>" if listed else empty
        body = f"<h1>Events</h1>{said}{self._form(query)}{listing}<p class=pages>{more}</p>"
        return Sheet(body.encode(), 400 if problem else 200, title=self.title, scripts=("/assets/events.js",))

    def _form(self, query: dict[str, str]) -> str:
        cameras = _options("camera", "Camera", self._store.cameras(), query.get("camera", ""))
        kinds = _options("kind", "Kind", self._timeline.kinds(), query.get("kind", ""))
        times = "".join(
            f'<div class=grow><label for="{key}">{label}</label><input type="datetime-local" id="{key}"'
            f' name="{key}" value="{text(query.get(key, ""))}"></div>'
            for key, label in (("from", "From (UTC)"), ("to", "To (UTC)"))
        )
        fields = f"{cameras}{kinds}{times}<button>Show</button>"
        return f'<form class=search method=get action="/events">{fields}</form>'

    def _item(self, moment: Moment) -> str:
        event = moment.event
        picture = (
            f'<img src="/events/{text(event.id)}/picture" alt="" loading=lazy width=288 height=216>'
            if moment.pictured
            else "<div class=nothing aria-hidden=true></div>"
        )
        files = "".join(
            f'<a href="/events/{moment.number}/files/{place}">{_WORDS.get(path.suffix, "File")}</a>'
            for place, path in enumerate(self._store.recordings(event))
        )
        return (
            f"<li class=card>{picture}<div><p><strong>{text(sentence(event))}</strong></p><p class=meta>"
            f"{text(event.camera)} · <time datetime={text(event.time)}>{text(_clock(event.time))}</time></p>"
            f"<p class=links>{files}</p></div></li>"
        )


def sentence(event: Event) -> str:
    """Say what happened, for a person."""
    match event.type:
        case "zone_entered":
            return f"{event.subject.label} entered {event.zone}"
        case "zone_left":
            return f"{event.subject.label} left {event.zone} after {event.dwell_s:.0f} s"
        case "zone_dwell":
            return f"{event.subject.label} in {event.zone} for {event.dwell_s:.0f} s"
        case "line_crossed":
            return f"{event.subject.label} crossed {event.line}: {event.name}"
        case "camera_state":
            return f"camera is {event.state}{f': {event.reason}' if event.reason else ''}"
        case _:
            return event.type.replace("_", " ")


def _wanted(query: dict[str, str]) -> Wanted:
    before = query.get("before", "")
    return Wanted(
        camera=query.get("camera", "")[:64],
        kind=query.get("kind", "")[:64],
        from_ms=_moment(query.get("from", "")) or 0,
        to_ms=_moment(query.get("to", "")),
        before=_digits(before, "before") if before else None,
        limit=_SHOWN + 1,
    )


def _moment(asked: str) -> int | None:
    if not asked:
        return None
    try:
        return round(datetime.fromisoformat(f"{asked}+00:00").timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InputError("time", expected="as 2026-11-25T08:30", got=repr(asked[:40])) from error


def _digits(asked: str, what: str) -> int:
    if not asked.isascii() or not asked.isdigit() or len(asked) > 15:
        raise InputError(what, expected="digits", got=repr(asked[:20]))
    return int(asked)


def _span(asked: str, size: int) -> tuple[int, int]:
    """Read a Range header of one span, which players of videos send; anything else is all of it."""
    first, dash, last = asked.removeprefix("bytes=").partition("-")
    if not asked.startswith("bytes=") or not dash or not (first.isdigit() and (last.isdigit() or not last)):
        return 0, size
    start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else (0, size)


def _options(name: str, label: str, values: Sequence[str], chosen: str) -> str:
    options = "".join(
        f'<option value="{text(value)}"{" selected" if value == chosen else ""}>'
        f"{text(value.replace('_', ' ') if name == 'kind' else value)}</option>"
        for value in values
    )
    return (
        f'<div class=grow><label for="{name}">{label}</label><select id="{name}" name="{name}">'
        f'<option value="">All</option>{options}</select></div>'
    )


def _clock(moment: str) -> str:
    return f"{moment[:19].replace('T', ' ')} UTC"
