"""Pictures to input tensors: colours, number types, padding, and declarations that do not fit the model."""

import threading

import cv2
import numpy as np
import pytest

from edge_runtime.contract.errors import BundleError, InputError
from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.contract.task import ImageInput
from edge_runtime.contract.tensors import Quantization, TensorSpec
from edge_runtime.tasks.pixels import ImageTensor

SIZES = [(90, 160), (91, 161), (33, 50), (1, 1), (2, 3)]


def smooth(height: int, width: int, shift: float = 0.0) -> np.ndarray:
    """A BGR picture whose colours change slowly: subsampled colour planes lose nothing of it."""
    y, x = np.mgrid[0:height, 0:width] / 400
    planes = [128 + 100 * np.sin(3 * x + 2 * y + phase + shift) for phase in (0.0, 2.0, 4.0)]
    return np.stack(planes, axis=2).astype(np.uint8)


def padded(plane: np.ndarray) -> np.ndarray:
    """The same plane with longer rows in memory, as decoders give them."""
    rows = np.full((plane.shape[0], plane.shape[1] + 13, *plane.shape[2:]), 255, np.uint8)
    rows[:, : plane.shape[1]] = plane
    return rows[:, : plane.shape[1]]


def half(plane: np.ndarray) -> np.ndarray:
    size = (plane.shape[1] + 1) // 2, (plane.shape[0] + 1) // 2
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


def in_format(bgr: np.ndarray, pixels: PixelFormat) -> Picture:
    """The same picture in another format, by the formulas of ITU-R BT.601."""
    height, width = bgr.shape[:2]
    if pixels is PixelFormat.BGR:
        return Picture.from_bgr(bgr)
    b, g, r = np.moveaxis(bgr.astype(np.float64), 2, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    cb, cr = (b - luma) * 0.564, (r - luma) * 0.713
    if pixels is not PixelFormat.I420_FULL:
        luma, cb, cr = 16 + luma * 219 / 255, cb * 224 / 255, cr * 224 / 255
    y, u, v = (np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in (luma, cb + 128, cr + 128))
    u, v = half(u), half(v)
    if pixels is PixelFormat.NV12:
        planes = padded(y), padded(np.stack((u.reshape(v.shape), v), axis=2))
    else:
        planes = padded(y), padded(u), padded(v)
    return Picture(pixels, planes, height, width)


def tensor(
    dtype: str = "uint8", shape: tuple[int | None, ...] = (1, 48, 64, 3), **more: object
) -> TensorSpec:
    return TensorSpec("image", dtype, shape, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch", "center_crop"])
@pytest.mark.parametrize("pixels", list(PixelFormat))
@pytest.mark.parametrize("canvas", [(48, 64), (47, 63)])
@pytest.mark.parametrize("size", SIZES)
def test_colours_and_place(
    pixels: PixelFormat, size: tuple[int, int], canvas: tuple[int, int], fit: str, colour: str
) -> None:
    bgr = smooth(*size)
    image = ImageTensor(ImageInput(layout="nhwc", colour=colour, fit=fit), [tensor(shape=(1, *canvas, 3))])
    array, placement = image.fill(in_format(bgr, pixels))
    crop, spot = placement.crop, placement.spot
    seen = bgr[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    expected = np.full((*canvas, 3), 114, np.uint8)
    expected[spot.top : spot.top + spot.height, spot.left : spot.left + spot.width] = cv2.resize(
        seen, (spot.width, spot.height)
    )
    if colour == "rgb":
        expected = expected[:, :, ::-1]
    assert array.shape == (1, *canvas, 3)
    difference = np.abs(array[0].astype(int) - expected)
    assert difference.max() <= 7
    assert difference.mean() <= 2


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("mean", "std"), [((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ((0.1, 0.2, 0.3), (0.2, 0.3, 0.4))]
)
def test_float_is_the_formula(
    layout: str, dtype: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    shape = (1, 48, 64, 3) if layout == "nhwc" else (1, 3, 48, 64)
    picture = in_format(smooth(90, 160), PixelFormat.I420)
    pixels, _ = ImageTensor(ImageInput(layout="nhwc"), [tensor()]).fill(picture)
    spec = ImageInput(layout=layout, scale=1 / 255, mean=mean, std=std)
    array, _ = ImageTensor(spec, [tensor(dtype, shape)]).fill(picture)
    expected = (pixels / 255 - np.array(mean)) / np.array(std)
    if layout == "nchw":
        expected = expected.transpose(0, 3, 1, 2)
    assert array.dtype == np.dtype(dtype)
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, expected.astype(dtype))


def test_uint8_planar() -> None:
    picture = Picture.from_bgr(smooth(90, 160))
    flat, _ = ImageTensor(ImageInput(layout="nhwc"), [tensor()]).fill(picture)
    planar, _ = ImageTensor(ImageInput(layout="nchw"), [tensor(shape=(1, 3, 48, 64))]).fill(picture)
    np.testing.assert_array_equal(planar, flat.transpose(0, 3, 1, 2))


def test_quantized_input_that_stores_pixels_as_they_are() -> None:
    spec = ImageInput(layout="nhwc", mean=(127.0,) * 3, std=(128.0,) * 3)
    stored = tensor(quantization=Quantization((1 / 128,), (127,)))
    picture = Picture.from_bgr(smooth(90, 160))
    plain, _ = ImageTensor(ImageInput(layout="nhwc"), [tensor()]).fill(picture)
    for declared in (spec, ImageInput(layout="nhwc")):
        array, _ = ImageTensor(declared, [stored]).fill(picture)
        np.testing.assert_array_equal(array, plain)


def test_int8_goes_through_its_quantization() -> None:
    picture = Picture.from_bgr(smooth(90, 160))
    plain, _ = ImageTensor(ImageInput(layout="nhwc"), [tensor()]).fill(picture)
    spec = ImageInput(layout="nhwc", scale=1 / 255)
    array, _ = ImageTensor(spec, [tensor("int8", quantization=Quantization((1 / 255,), (-128,)))]).fill(
        picture
    )
    assert array.dtype == np.int8
    np.testing.assert_array_equal(array, plain.astype(int) - 128)


def test_padding_survives_the_next_picture() -> None:
    image = ImageTensor(ImageInput(layout="nchw", scale=1 / 255, pad=51), [tensor("float32", (1, 3, 64, 64))])
    for shift in (0.0, 1.0, 2.0):
        array, placement = image.fill(Picture.from_bgr(smooth(90, 160, shift)))
        assert placement.spot.top == 14
        border = np.concatenate((array[:, :, :14], array[:, :, 50:]), axis=2)
        np.testing.assert_array_equal(border, np.float32(0.2))


def test_a_camera_that_changes_its_size() -> None:
    image = ImageTensor(ImageInput(layout="nhwc"), [tensor()])
    for width in [*range(40, 100, 2), 40, 98]:
        bgr = smooth(60, width)
        array, placement = image.fill(in_format(bgr, PixelFormat.I420))
        fresh, _ = ImageTensor(ImageInput(layout="nhwc"), [tensor()]).fill(in_format(bgr, PixelFormat.I420))
        assert placement.picture == (60, width)
        np.testing.assert_array_equal(array, fresh)


def test_rectangular_where_the_model_takes_any_size() -> None:
    spec = ImageInput(layout="nchw", size=(640, 640), stride=32, scale=1 / 255)
    image = ImageTensor(spec, [tensor("float32", (1, 3, None, None))])
    wide, _ = image.fill(Picture.from_bgr(smooth(270, 480)))
    high, _ = image.fill(Picture.from_bgr(smooth(480, 270)))
    assert wide.shape == (1, 3, 384, 640)
    assert high.shape == (1, 3, 640, 384)


def test_threads_do_not_see_each_others_pictures() -> None:
    image = ImageTensor(ImageInput(layout="nhwc"), [tensor()])
    start = threading.Barrier(4)
    wrong: list[float] = []

    def work(shift: float) -> None:
        picture = Picture.from_bgr(smooth(90, 160, shift))
        alone, _ = ImageTensor(ImageInput(layout="nhwc"), [tensor()]).fill(picture)
        start.wait(10)
        for _ in range(200):
            array, _ = image.fill(picture)
            if not np.array_equal(array, alone):
                wrong.append(shift)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in (0.0, 1.0, 2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


@pytest.mark.parametrize(
    ("spec", "inputs", "words"),
    [
        (ImageInput(layout="nchw"), [tensor()], ["(1, 3, height, width)", "(1, 48, 64, 3)", "layout"]),
        (ImageInput(layout="nhwc"), [tensor(shape=(4, 48, 64, 3))], ["(4, 48, 64, 3)", "batch 1"]),
        (ImageInput(layout="nhwc"), [tensor(shape=(1, 48, 64, 1))], ["three channels"]),
        (ImageInput(layout="nhwc"), [tensor(shape=(1, 100))], ["(1, 100)"]),
        (ImageInput(layout="nhwc", size=(64, 64)), [tensor()], ["(64, 64)", "(1, 48, 64, 3)"]),
        (ImageInput(layout="nhwc"), [tensor(shape=(1, None, None, 3))], ["takes any size", "size"]),
        (ImageInput(layout="nhwc"), [tensor(), tensor()], ["one image"]),
        (ImageInput(layout="nhwc"), [], ["one image", "none"]),
        (ImageInput(layout="nhwc"), [tensor("int64")], ["int64", "float32"]),
        (ImageInput(layout="nhwc"), [tensor("int8")], ["quantization", "none"]),
        (
            ImageInput(layout="nhwc"),
            [tensor("int8", quantization=Quantization((1 / 128,), (0,)))],
            ["[-1, 0.992]", "[0, 255]", "scale, mean and std"],
        ),
        (
            ImageInput(layout="nhwc", scale=1 / 255),
            [tensor("int8", quantization=Quantization((1.0,), (-128,)))],
            ["[0, 255]", "[0, 1]"],
        ),
    ],
)
def test_a_declaration_that_does_not_fit_the_model(
    spec: ImageInput, inputs: list[TensorSpec], words: list[str]
) -> None:
    with pytest.raises(BundleError) as caught:
        ImageTensor(spec, inputs)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "picture",
    [
        Picture(PixelFormat.I420, (np.zeros((4, 4), np.uint8),), 4, 4),
        Picture(PixelFormat.I420, tuple(np.zeros((4, 4), np.uint8) for _ in range(3)), 4, 4),
        Picture(PixelFormat.NV12, (np.zeros((4, 4), np.uint8), np.zeros((2, 4), np.uint8)), 4, 4),
        Picture(PixelFormat.BGR, (np.zeros((4, 4), np.uint8),), 4, 4),
        Picture(PixelFormat.BGR, (np.zeros((4, 4, 3), np.float32),), 4, 4),  # type: ignore[arg-type]
        Picture(PixelFormat.BGR, (np.zeros((0, 4, 3), np.uint8),), 0, 4),
    ],
)
def test_a_broken_picture_is_refused_and_the_next_one_works(picture: Picture) -> None:
    image = ImageTensor(ImageInput(layout="nhwc"), [tensor()])
    with pytest.raises(InputError, match="picture"):
        image.fill(picture)
    image.fill(Picture.from_bgr(smooth(4, 4)))
