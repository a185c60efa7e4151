"""Overview: every camera live, how all is doing, and who answered the last requests. Changes nothing."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.status import AgentStatus, CameraStatus
from edge_runtime.protocol import json_document
from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.page.extension import Sheet, asset_way, text
from edge_runtime.web.page.live_view import LiveView, Shown
from edge_runtime.web.page.ports import Store
from edge_runtime.web.routing_table import Way

_PATIENCE_S = 10.0
_MOST_CAMERAS = 64
_LOOK_S = 600.0
"""Who asks for a camera's pictures again within this time has not begun to look anew."""
_PACKAGE = "edge_runtime.web.page"


class Overview:
    """The first page.

    Args:
        store: That is shown.
        view: Its pictures.
    """

    title = "Cameras"
    path = "/cameras"

    def __init__(self, store: Store, view: LiveView) -> None:
        self._store = store
        self._view = view
        self._looking: dict[tuple[str, str], float] = {}

    def ways(self) -> Sequence[Way]:
        """Give the routes."""
        return (
            Way("GET", self.path, self.show, "Show the cameras", "Page"),
            Way("GET", "/live/status", self.status, "Tell how all is doing", "Page"),
            Way("GET", "/live/round", self.round, "Give all pictures that are new", "Page"),
            Way("GET", "/live/pictures/{camera}", self.picture, "Give a camera's next picture", "Page"),
            asset_way("/assets/live.js", _PACKAGE, "static/live.js"),
            asset_way("/assets/cameras.js", _PACKAGE, "static/cameras.js"),
        )

    async def show(self, _: Exchange) -> Sheet:
        """Show the page; its script fills in what changes."""
        cards = "".join(_card(camera) for camera in self._store.cameras())
        body = (
            f"<h1>Cameras</h1><div id=trouble></div><div class=cameras>{cards}</div>"
            "<section aria-labelledby=h-machine><h2 id=h-machine>Machine</h2>"
            "<dl class=tiles id=machine></dl></section>"
            "<section aria-labelledby=h-sinks><h2 id=h-sinks>Where events go</h2>"
            "<div id=sinks></div></section>"
            "<section aria-labelledby=h-models><h2 id=h-models>Models</h2><div id=models></div></section>"
            "<section aria-labelledby=h-answers id=answering hidden><h2 id=h-answers>Last answers</h2>"
            "<div id=answers></div></section>"
        )
        return Sheet(body.encode(), title=self.title, scripts=("/assets/cameras.js",))

    async def status(self, _: Exchange) -> Reply:
        """Give numbers for the page, as JSON."""
        return Reply(json_document.write(await asyncio.to_thread(self._status)))

    async def round(self, exchange: Exchange) -> Reply:
        """Give the pictures that are newer than those seen: `?seen=door:4,till:0`.

        The answer is one after the other: a line of JSON with camera, number and bytes, then the JPEG.
        """
        seen = _seen(exchange.query.get("seen", ""))
        for camera, number in seen.items():
            if number == 0:
                await self._note(camera, exchange.client)
        with exchange.watch():
            shown = await self._view.newer(seen, drawn=True, patience_s=_PATIENCE_S)
        return Reply(b"".join(_framed(one) for one in shown), kind=b"application/octet-stream")

    async def picture(self, exchange: Exchange, camera: str) -> Reply:
        """Give a camera's next picture: `?after=4`; `drawn=0`: without drawings; 204: none came in time."""
        after = _number(exchange.query.get("after", "0"))
        drawn = exchange.query.get("drawn", "1") != "0"
        if camera not in self._store.cameras():
            raise InputError(f"camera '{camera[:64]}'", expected="one of this store", got="another")
        if after == 0:
            await self._note(camera, exchange.client)
        with exchange.watch():
            shown = await self._view.newer({camera: after}, drawn=drawn, patience_s=_PATIENCE_S)
        if not shown:
            return Reply(b"", 204)
        return Reply(shown[0].jpeg, kind=b"image/jpeg", headers={"x-picture": str(shown[0].number)})

    async def _note(self, camera: str, who: str) -> None:
        now_s = time.monotonic()
        self._looking = {key: at_s for key, at_s in self._looking.items() if now_s - at_s < _LOOK_S}
        if (camera, who) not in self._looking and camera in self._store.cameras():
            await asyncio.to_thread(self._store.looked, camera, who)
        self._looking[camera, who] = now_s

    def _status(self) -> dict[str, Any]:
        status = self._store.status()
        hot = self._store.temperature_c()
        return {
            "cameras": [_camera(each) for each in status.cameras],
            "machine": {**_machine(status), "temperature_c": None if hot is None else round(hot)},
            "sinks": [
                {
                    "name": each.name,
                    "written": each.written,
                    "waiting": each.waiting,
                    "dropped": each.dropped,
                    "trouble": each.trouble,
                    "what": each.what,
                }
                for each in status.sinks
            ],
            "models": [
                [each.name, each.bundle, each.variant, each.engine, each.problem]
                for each in self._store.models()
            ],
            "answers": [
                [
                    each.time_s,
                    each.model,
                    each.version,
                    each.variant,
                    each.route,
                    each.reason,
                    round(each.latency_ms, 1),
                ]
                for each in self._store.answers()
            ],
            "door": None if status.requests is None else status.requests.door,
        }


def _card(camera: str) -> str:
    name = text(camera)
    return (
        f'<article class="card camera" data-camera="{name}"><h2>{name} <span class=badge data-state></span>'
        f"</h2>"
        f'<canvas width=640 height=360 role=img aria-label="Live picture of {name}"></canvas>'
        "<p class=reason data-reason hidden></p><p class=counts data-counts></p>"
        "<details><summary data-brief>…</summary><dl class=facts data-facts></dl></details>"
        f'<p class=links><a href="/events?camera={name}">Events</a> <a href="/zones/{name}">Zones</a></p>'
        "</article>"
    )


def _camera(camera: CameraStatus) -> dict[str, Any]:
    return {
        "name": camera.name,
        "state": camera.state.value,
        "reason": camera.reason,
        "health": [each.value for each in camera.health],
        "fps": round(camera.inferred_fps, 1),
        "decoded": camera.decoded,
        "inferred": camera.inferred,
        "dropped": {cause.value: count for cause, count in camera.dropped.items() if count},
        "reconnects": camera.reconnects,
        "latency_ms": [round(camera.latency.p50_ms), round(camera.latency.p99_ms)],
        "inference_ms": round(camera.inference.p50_ms, 1),
        "cpu_ms": round(camera.cpu_ms, 1),
        "occupancy": dict(camera.occupancy),
        "crossings": {line: dict(ways) for line, ways in camera.crossings.items()},
        "decoder": camera.decoder,
    }


def _machine(status: AgentStatus) -> dict[str, Any]:
    trouble = [status.trouble, status.level_reason]
    if status.requests is not None:
        trouble.append(status.requests.trouble)
    if status.fleet is not None:
        trouble += status.fleet.trouble
    if status.later:
        trouble.append(f"settings that wait for a restart: {', '.join(status.later)}")
    store = status.store
    return {
        "uptime_s": round(status.uptime_s),
        "cpu_cores": round(status.cpu_cores, 2),
        "rss_bytes": status.rss_bytes,
        "trouble": [each for each in trouble if each],
        "inside": None if store is None else store.inside,
    }


def _framed(shown: Shown) -> bytes:
    head = {"camera": shown.camera, "number": shown.number, "bytes": len(shown.jpeg)}
    return json_document.write(head) + b"\n" + shown.jpeg


def _seen(asked: str) -> dict[str, int]:
    pairs = [part.rpartition(":") for part in asked.split(",")[:_MOST_CAMERAS] if part]
    return {camera: _number(number) for camera, _, number in pairs}


def _number(asked: str) -> int:
    if not asked.isascii() or not asked.isdigit() or len(asked) > 15:
        raise InputError("number of a picture", expected="digits", got=repr(asked[:20]))
    return int(asked)
