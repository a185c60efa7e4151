"""Live pictures: encoded once however many look, not at all while nobody does, and never in a queue."""

import asyncio

import cv2
import numpy as np
import pytest

from edge_runtime.contract.frame import Frame, Picture
from edge_runtime.contract.result import Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.web.page.live_view import LiveView, Shown


def scene(camera: str, *, bright: int = 60, hidden: bool = False) -> Scene:
    image = np.full((96, 160, 3), bright, np.uint8)
    image[40:60, 40:60] = np.random.default_rng(1).integers(0, 255, (20, 20, 3), np.uint8)
    frame = Frame(camera, 0, 0, 1_767_225_600_000_000_000, 0, Picture.from_bgr(image))
    made = Scene(frame, Tracks.empty(("person",)), {}, {})
    if hidden:
        return Scene(frame, made.tracks, {}, {}, hidden=np.array([[30, 30, 70, 70]], np.float32))
    return made


@pytest.fixture
def view() -> LiveView:
    return LiveView({}, height=96, fastest_s=0)


def test_nothing_is_encoded_while_nobody_looks(view: LiveView) -> None:
    for _ in range(50):
        view.show(scene("door"))
    assert view.encoded == 0


def test_a_picture_is_encoded_once_for_all(view: LiveView) -> None:
    async def look() -> list[list[Shown]]:
        return await asyncio.gather(
            *(view.newer({"door": 0, "till": 0}, drawn=True, patience_s=10) for _ in range(8))
        )

    view.show(scene("door"))
    view.show(scene("till"))
    looks = asyncio.run(look())
    assert view.encoded == 2
    assert all(look == looks[0] for look in looks)
    assert {shown.camera for shown in looks[0]} == {"door", "till"}


def test_a_slow_viewer_gets_the_newest_and_no_queue(view: LiveView) -> None:
    async def look(seen: int) -> list[Shown]:
        return await view.newer({"door": seen}, drawn=False, patience_s=10)

    view.show(scene("door", bright=10))
    first = asyncio.run(look(0))[0]
    for bright in (60, 110, 160):
        view.show(scene("door", bright=bright))
    last = asyncio.run(look(first.number))[0]
    image = cv2.imdecode(np.frombuffer(last.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert abs(int(image[5, 5, 0]) - 160) < 4
    assert view.encoded == 2


def test_who_has_seen_the_newest_waits_for_the_next(view: LiveView) -> None:
    async def look() -> list[Shown]:
        seen = (await view.newer({"door": 0}, drawn=True, patience_s=10))[0].number
        waiting = asyncio.create_task(view.newer({"door": seen}, drawn=True, patience_s=10))
        await asyncio.sleep(0)
        await asyncio.to_thread(view.show, scene("till"))
        assert not waiting.done()
        await asyncio.to_thread(view.show, scene("door"))
        return await waiting

    view.show(scene("door"))
    assert [shown.number for shown in asyncio.run(look())] == [3]


def test_an_unknown_camera_gives_nothing(view: LiveView) -> None:
    assert asyncio.run(view.newer({"nobody": 0}, drawn=True, patience_s=0)) == []
    view.show(scene("door"))
    view.leave(["door"])
    assert asyncio.run(view.newer({"door": 0}, drawn=True, patience_s=0)) == []


@pytest.mark.parametrize("drawn", [True, False])
def test_what_is_hidden_is_covered(view: LiveView, drawn: bool) -> None:
    def spread(hidden: bool) -> float:
        view.show(scene("door", hidden=hidden))
        shown = asyncio.run(view.newer({"door": 0}, drawn=drawn, patience_s=10))[0]
        image = cv2.imdecode(np.frombuffer(shown.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        return float(image[42:58, 42:58].std())

    assert spread(hidden=True) < 0.6 * spread(hidden=False)
