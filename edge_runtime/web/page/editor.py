"""Editor: zones, lines and regions drawn over a camera's picture, and saved to the settings file.

Draws nothing itself (its script does, in the browser) and knows no file: the store does.
"""

import asyncio
from collections.abc import Sequence

from pydantic import ValidationError

from edge_runtime.contract.errors import InputError
from edge_runtime.protocol import json_document
from edge_runtime.protocol.drawing import Save
from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.page.extension import Sheet, asset_way, text
from edge_runtime.web.page.ports import DrawingError, Drawn, FileChangedError, Store
from edge_runtime.web.routing_table import Way

_MOST_BYTES = 256 * 1024
_TOOLS = (("zone", "Zone"), ("line", "Line"), ("mask", "Motion mask"), ("never_look", "Never look"))


class Editor:
    """The page on which zones are drawn.

    Args:
        store: Whose cameras.
    """

    title = "Zones"
    path = "/zones"

    def __init__(self, store: Store) -> None:
        self._store = store

    def ways(self) -> Sequence[Way]:
        """Give the routes."""
        return (
            Way("GET", self.path, self.first, "Show the editor of the first camera", "Page"),
            Way("GET", "/zones/{camera}", self.show, "Show the editor of a camera", "Page"),
            Way("GET", "/zones/{camera}/drawing", self.drawing, "Give what is drawn", "Page"),
            Way("POST", "/zones/{camera}/drawing", self.save, "Save what is drawn", "Page"),
            asset_way("/assets/editor.js", "edge_runtime.web.page", "static/editor.js"),
            asset_way("/assets/shapes.js", "edge_runtime.web.page", "static/shapes.js"),
        )

    async def first(self, _: Exchange) -> Reply:
        """Lead to the first camera."""
        cameras = self._store.cameras()
        if cameras:
            return Reply(b"", 303, headers={"location": f"/zones/{cameras[0]}"})
        return Sheet(b"<h1>Zones</h1><p class=empty>This store has no camera.</p>", title=self.title)

    async def show(self, _: Exchange, camera: str) -> Sheet:
        """Show the editor; its script asks for what is drawn."""
        self._known(camera)
        links = "".join(
            f'<a href="/zones/{text(one)}"{" aria-current=page" if one == camera else ""}>{text(one)}</a>'
            for one in self._store.cameras()
        )
        tools = "".join(
            f'<button type=button data-tool="{kind}" aria-pressed=false>{label}</button>'
            for kind, label in _TOOLS
        )
        body = (
            f'<h1>Zones</h1><nav class=moves aria-label="Camera">{links}</nav>'
            f'<div class=editor data-camera="{text(camera)}"><div><div class=stage><img alt="" data-picture>'
            '<svg data-drawing tabindex=0 role=group aria-label="Drawing over the picture"></svg></div>'
            f'<div class=moves role=toolbar aria-label="Draw">{tools}</div>'
            "<p class=hint data-hint role=status aria-live=polite></p></div>"
            "<form data-form novalidate><h2>On this picture</h2><ul class=shapes data-shapes></ul>"
            "<p class=problem role=alert data-problem hidden></p>"
            "<p class=moves><button class=primary data-save disabled>Save</button>"
            "<button type=button data-undo disabled>Undo changes</button></p></form></div>"
        )
        return Sheet(body.encode(), title=self.title, scripts=("/assets/editor.js",))

    async def drawing(self, _: Exchange, camera: str) -> Reply:
        """Give what is drawn, as JSON."""
        self._known(camera)
        return _reply(await asyncio.to_thread(self._store.drawn, camera))

    async def save(self, exchange: Exchange, camera: str) -> Reply:
        """Save what is drawn; 409 where the file has changed, 422 where the drawing is wrong."""
        self._known(camera)
        body = await exchange.body(_MOST_BYTES)
        try:
            asked = Save.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(key) for key in first["loc"])
            raise InputError(f"drawing: {place}: {first['msg']}"[:400]) from error
        try:
            return _reply(await asyncio.to_thread(self._store.draw, camera, asked.version, asked.drawing))
        except FileChangedError as error:
            return Reply(json_document.write({"error": str(error)}), 409)
        except DrawingError as error:
            places = [{"at": at, "error": said} for at, said in error.places]
            return Reply(json_document.write({"error": str(error), "places": places}), 422)

    def _known(self, camera: str) -> None:
        if camera not in self._store.cameras():
            raise InputError(f"camera '{camera[:64]}'", expected="one of this store", got="another")


def _reply(drawn: Drawn) -> Reply:
    return Reply(
        json_document.write(
            {"version": drawn.version, "locked": drawn.locked, "drawing": drawn.drawing.model_dump()}
        )
    )
