"""What is hidden in pictures: which boxes, and that nothing of what is in them can be recognized."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.agent.veils import Veils
from edge_runtime.analytics.veil import HOLD_S, Blur, Veil
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.frame import Frame, Picture, PixelFormat, Plane
from edge_runtime.contract.result import Detections, Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.settings import PrivacySettings
from edge_runtime.sinks.drawing import cover, picture_of
from edge_runtime.video.blackout import Blackout

LABELS = ("person", "car")
S = 1_000_000_000


def found(*boxes: tuple[float, float, float, float], kind: int = 0) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), 0.2, np.float32),
        np.full(len(boxes), kind, np.int32),
        LABELS,
    )


def noise(height: int = 240, width: int = 320) -> Plane:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def scene(detections: Detections | None, pts_ns: int = 0, camera: str = "door") -> Scene:
    frame = Frame(camera, 0, pts_ns, 0, 0, Picture.from_bgr(noise()))
    return Scene(frame, Tracks.empty(LABELS), {}, {}, (), detections)


@pytest.mark.parametrize(
    ("blur", "labels", "kind", "expected"),
    [
        (Blur.PERSONS, ("person",), 0, (90, 30, 210, 270)),
        (Blur.PERSONS, ("person",), 1, None),
        (Blur.PERSONS, (), 1, (90, 30, 210, 270)),
        (Blur.HEADS, ("person",), 0, (90, 43, 210, 127)),
        (Blur.FACES, (), 0, (90, 30, 210, 270)),
    ],
)
def test_which_part_is_hidden(
    blur: Blur, labels: tuple[str, ...], kind: int, expected: tuple[float, ...] | None
) -> None:
    boxes = Veil(blur, labels).update(found((100, 50, 200, 250), kind=kind), 0, height=300, width=400)
    assert boxes.shape == (0 if expected is None else 1, 4)
    if expected is not None:
        assert boxes[0].tolist() == pytest.approx(expected, abs=1e-3)


def test_whom_the_model_misses_stays_hidden_for_a_moment() -> None:
    veil = Veil(Blur.PERSONS, ("person",))
    veil.update(found((100, 50, 200, 250)), 0, height=300, width=400)
    for pts_ns in (S // 2, round(HOLD_S * S)):
        assert len(veil.update(found(), pts_ns, height=300, width=400)) == 1
    assert len(veil.update(found(), round(HOLD_S * S) + 1, height=300, width=400)) == 0


def test_who_walks_leaves_one_box_not_a_trail() -> None:
    veil = Veil(Blur.PERSONS, ("person",))
    looks = [
        veil.update(found((100 + step, 50, 200 + step, 250)), step * 40_000_000, height=300, width=400)
        for step in range(20)
    ]
    assert {len(boxes) for boxes in looks} == {1}


coordinate = st.floats(0, 400, width=32)


@given(st.lists(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=4), max_size=6))
def test_everybody_found_is_hidden_inside_the_picture(looks: list[list[tuple[float, ...]]]) -> None:
    veil = Veil(Blur.PERSONS, ())
    for number, look in enumerate(looks):
        sound = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in look]
        hidden = veil.update(found(*sound), number * S // 10, height=400, width=400)
        assert np.all((hidden >= 0) & (hidden <= 400))
        for box in sound:
            inside = (hidden[:, :2] <= np.array(box[:2]) + 1e-3) & (hidden[:, 2:] >= np.array(box[2:]) - 1e-3)
            assert inside.all(axis=1).any(), f"{box} can be seen"


def test_what_is_covered_is_a_few_squares_and_the_rest_is_untouched() -> None:
    image = noise()
    before = image.copy()
    cover(image, np.array([[100, 40, 220, 200], [-50, -50, 10, 10], [500, 500, 600, 600]], np.float32))
    part = image[40:200, 100:220].reshape(-1, 3)
    assert len(np.unique(part, axis=0)) <= 6 * 6
    mask = np.ones(image.shape[:2], np.bool_)
    mask[40:200, 100:220] = False
    mask[:10, :10] = False
    np.testing.assert_array_equal(image[mask], before[mask])


def test_a_marked_scene_shows_nobody_whatever_its_height() -> None:
    marked = Veils(PrivacySettings(blur=Blur.PERSONS)).mark(
        scene(found((80, 40, 160, 200))), frozenset({Blur.PERSONS, Blur.NOTHING})
    )
    open_picture, hidden_picture = (picture_of(marked[b], 120) for b in (Blur.NOTHING, Blur.PERSONS))
    person = (slice(24, 96), slice(42, 78))
    assert len(np.unique(open_picture[person].reshape(-1, 3), axis=0)) > 1000
    assert len(np.unique(hidden_picture[person].reshape(-1, 3), axis=0)) <= 36


def test_where_it_cannot_be_told_nothing_is_shown() -> None:
    veils = Veils(PrivacySettings(blur=Blur.PERSONS))
    assert set(veils.mark(scene(None), frozenset({Blur.PERSONS, Blur.NOTHING}))) == {Blur.NOTHING}
    assert set(veils.mark(scene(found()), frozenset({Blur.PERSONS, Blur.FACES}))) == {Blur.PERSONS}
    with pytest.raises(EngineError, match="nothing"):
        veils.alone(scene(None))


def test_faces_come_from_a_model_of_their_own() -> None:
    veils = Veils(PrivacySettings(blur=Blur.FACES, faces="faces"), lambda _: found((10, 10, 30, 40), kind=1))
    marked = veils.mark(scene(found((80, 40, 160, 200))), frozenset({Blur.FACES}))[Blur.FACES]
    assert marked.hidden.tolist() == [pytest.approx([8, 7, 32, 43])]


def test_a_scene_alone_is_marked_as_the_store_says() -> None:
    assert len(Veils(PrivacySettings(blur=Blur.HEADS)).alone(scene(found((80, 40, 160, 200)))).hidden) == 1
    assert len(Veils(PrivacySettings()).alone(scene(None)).hidden) == 0


def test_a_region_that_is_never_looked_at_is_black_in_every_plane() -> None:
    planes = tuple(np.full(shape, 200, np.uint8) for shape in ((120, 160), (60, 80), (60, 80)))
    picture = Picture(PixelFormat.I420, planes, 120, 160)
    painted = Blackout([((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))]).paint(picture)
    assert np.all(painted.planes[0][:60, :80] == 16)
    assert np.all(painted.planes[1][:30, :40] == 128)
    assert np.all(painted.planes[0][63:, 83:] == 200)
    assert all(np.all(plane == 200) for plane in planes), "the decoder's own planes are untouched"


def test_without_regions_a_frame_is_the_same_object() -> None:
    frame = scene(None).frame
    assert Blackout(()).of(frame) is frame
