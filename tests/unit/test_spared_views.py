"""Live pictures on a machine that cannot afford more: fewer, and never none."""

import asyncio

import numpy as np
import pytest

from edge_runtime.contract.frame import Frame, Picture
from edge_runtime.contract.result import Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.web.page.live_view import LiveView, Shown


def scene() -> Scene:
    picture = Picture.from_bgr(np.full((96, 160, 3), 60, np.uint8))
    return Scene(Frame("door", 0, 0, 0, 0, picture), Tracks.empty(("person",)), {}, {})


@pytest.mark.parametrize(("extras", "pictures"), [(True, 2), (False, 1)])
def test_the_next_picture_waits_where_it_has_to(extras: bool, pictures: int) -> None:
    view = LiveView({}, height=96, fastest_s=0)
    view.spare(False)
    view.spare(extras)

    async def look(seen: int) -> list[Shown]:
        return await view.newer({"door": seen}, drawn=False, patience_s=0.3)

    view.show(scene())
    (first,) = asyncio.run(look(0))
    view.show(scene())
    asyncio.run(look(first.number))
    assert view.encoded == pictures
    view.close()
