"""Placement of pictures in model inputs: where they go, and that the way back is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.task import ImageInput
from edge_runtime.tasks.geometry import Placement, place

sides = st.integers(1, 4000)
sizes = st.tuples(sides, sides)
canvases = st.tuples(st.integers(8, 1024), st.integers(8, 1024))
fits = st.sampled_from(["letterbox", "stretch", "center_crop"])
aligns = st.sampled_from(["center", "top_left"])
placements = st.builds(
    lambda fit, align, picture, size: place(ImageInput(layout="nhwc", fit=fit, align=align), picture, size),
    fits,
    aligns,
    sizes,
    canvases,
)
fractions = st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=8)


def boxes_in(placement: Placement, corners: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Boxes inside the part of the picture that the model sees."""
    crop = placement.crop
    x1, y1, x2, y2 = np.array(corners).T
    x, y = np.sort([x1, x2], axis=0), np.sort([y1, y2], axis=0)
    return np.stack(
        (
            crop.left + x[0] * crop.width,
            crop.top + y[0] * crop.height,
            crop.left + x[1] * crop.width,
            crop.top + y[1] * crop.height,
        ),
        axis=1,
    ).astype(np.float32)


@given(placements)
def test_everything_lies_inside(placement: Placement) -> None:
    spot, crop = placement.spot, placement.crop
    assert min(spot.top, spot.left, crop.top, crop.left) >= 0
    assert min(spot.height, spot.width, crop.height, crop.width) >= 1
    assert spot.top + spot.height <= placement.canvas[0]
    assert spot.left + spot.width <= placement.canvas[1]
    assert crop.top + crop.height <= placement.picture[0]
    assert crop.left + crop.width <= placement.picture[1]


@given(placements, fractions)
def test_there_and_back_is_where_it_was(
    placement: Placement, corners: list[tuple[float, float, float, float]]
) -> None:
    boxes = boxes_in(placement, corners)
    back = placement.to_picture(placement.to_canvas(boxes))
    # float32 keeps 24 bits: a hundredth of a pixel in a 4000-pixel picture squeezed into 8.
    np.testing.assert_allclose(back, boxes, atol=0.01)


@given(placements, fractions)
def test_to_picture_never_leaves_the_picture(
    placement: Placement, corners: list[tuple[float, float, float, float]]
) -> None:
    wild = ((np.array(corners) - 0.5) * 5000).astype(np.float32)
    boxes = placement.to_picture(wild)
    assert boxes.dtype == np.float32
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= placement.picture[1]).all()
    assert (boxes[:, 1::2] <= placement.picture[0]).all()


@given(placements)
def test_the_spot_is_the_crop(placement: Placement) -> None:
    spot, crop = placement.spot, placement.crop
    on_canvas = np.array([[spot.left, spot.top, spot.left + spot.width, spot.top + spot.height]], np.float32)
    in_picture = [[crop.left, crop.top, crop.left + crop.width, crop.top + crop.height]]
    np.testing.assert_allclose(placement.to_picture(on_canvas), in_picture, atol=0.001)


@given(sizes, canvases, aligns)
def test_a_letterbox_keeps_the_shape_and_touches_two_borders(
    picture: tuple[int, int], size: tuple[int, int], align: str
) -> None:
    placement = place(ImageInput(layout="nhwc", align=align), picture, size)
    spot = placement.spot
    assert (spot.height, spot.width)[0] == size[0] or spot.width == size[1]
    scale = min(size[0] / picture[0], size[1] / picture[1])
    assert abs(spot.height - picture[0] * scale) <= 1
    assert abs(spot.width - picture[1] * scale) <= 1
    margins = size[0] - spot.height - 2 * spot.top, size[1] - spot.width - 2 * spot.left
    if align == "center":
        assert set(margins) <= {0, 1}
    else:
        assert (spot.top, spot.left) == (0, 0)


@given(sizes, canvases, st.sampled_from([8, 16, 32, 64]))
def test_a_free_size_is_padded_to_the_stride_only(
    picture: tuple[int, int], size: tuple[int, int], stride: int
) -> None:
    placement = place(ImageInput(layout="nhwc", stride=stride), picture, size, (True, True))
    for canvas, fitted in zip(placement.canvas, (placement.spot.height, placement.spot.width), strict=True):
        assert canvas % stride == 0
        assert 0 <= canvas - fitted < stride


@given(sizes, canvases)
def test_a_central_crop_has_the_shape_of_the_input(picture: tuple[int, int], size: tuple[int, int]) -> None:
    placement = place(ImageInput(layout="nhwc", fit="center_crop"), picture, size)
    crop = placement.crop
    assert crop.height == picture[0] or crop.width == picture[1]
    scale = max(size[0] / picture[0], size[1] / picture[1])
    assert abs(crop.height - size[0] / scale) <= 1
    assert abs(crop.width - size[1] / scale) <= 1
    assert crop.top % 2 == 0
    assert crop.left % 2 == 0


@pytest.mark.parametrize(
    ("picture", "size", "stride", "free", "canvas"),
    [
        ((1080, 1920), (640, 640), 32, (True, True), (384, 640)),
        ((1080, 1920), (640, 640), 32, (False, False), (640, 640)),
        ((1080, 1920), (640, 640), None, (True, True), (640, 640)),
        ((1920, 1080), (640, 640), 32, (True, True), (640, 384)),
        ((1080, 1920), (640, 640), 32, (False, True), (640, 640)),
        ((576, 768), (320, 320), 32, (True, True), (256, 320)),
    ],
)
def test_canvas(
    picture: tuple[int, int],
    size: tuple[int, int],
    stride: int | None,
    free: tuple[bool, bool],
    canvas: tuple[int, int],
) -> None:
    assert place(ImageInput(layout="nhwc", stride=stride), picture, size, free).canvas == canvas
