"""Calibration samples: made as on the device, and doubted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.quantize.calibration import doubts, prepare, raw_samples, read_task, split, spread, tensors
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.tasks.make import make_task
from edge_runtime.tasks.rows import write_rows
from tests.unit import quantize_nets as nets

INPUT = TensorSpec("picture", "float32", (1, 3, 32, 32))
X = TensorSpec("x", "float32", (None, 32))


def test_pictures_become_what_the_device_makes_of_them(tmp_path: Path) -> None:
    pictures = nets.pictures(6)
    write_rows(tmp_path / "samples.npz", {"pictures": pictures, "labels": [np.int64(3)] * 6})
    made = tensors(tmp_path / "samples.npz", nets.CLASSIFICATION, [INPUT], 4)
    task = make_task(
        read_task({"task": nets.CLASSIFICATION}), [INPUT], [TensorSpec("scores", "float32", (1, 10))]
    )
    assert len(made) == 4
    for row, picture in zip(made, pictures, strict=False):
        expected, _ = task.preprocess(Picture.from_bgr(picture))
        np.testing.assert_array_equal(row["picture"], expected["picture"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"x": [np.zeros(31, np.float32)] * 3}, r"expected float32 \(\?, 32\)"),
        ({"x": [np.full(32, np.nan, np.float32)]}, "NaN"),
        ({"x": [np.array(["a"] * 32)]}, "expected float32"),
        ({"x": []}, "at least one|samples"),
    ],
    ids=["shape", "not a number", "text", "none"],
)
def test_arrays_that_do_not_fit_are_told(rows: Any, says: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "samples.npz", rows)
    with pytest.raises(ConversionError, match=says):
        tensors(tmp_path / "samples.npz", nets.TENSORS, [X], 8)


def test_samples_of_another_task_are_told(tmp_path: Path) -> None:
    write_rows(tmp_path / "samples.npz", {"x": nets.vectors(3)})
    with pytest.raises(ConversionError, match="an array 'pictures'"):
        tensors(tmp_path / "samples.npz", nets.CLASSIFICATION, [INPUT], 8)
    with pytest.raises(ConversionError, match="samples"):
        tensors(tmp_path / "missing.npz", nets.CLASSIFICATION, [INPUT], 8)


def test_a_text_model_without_tokenizer_is_told(tmp_path: Path) -> None:
    write_rows(tmp_path / "samples.npz", {"texts": [np.array("hello")]})
    with pytest.raises(ConversionError, match=r"tokenizer\.json"):
        tensors(tmp_path / "samples.npz", {"kind": "embedding"}, [], 8)


def test_a_task_that_is_none_is_told() -> None:
    with pytest.raises(ConversionError, match="option 'task'"):
        read_task({"task": {"kind": "dreaming"}})


def said(pictures: list[np.ndarray], tmp_path: Path) -> str:
    write_rows(tmp_path / "samples.npz", {"pictures": pictures})
    task = read_task({"task": nets.CLASSIFICATION})
    rows = raw_samples(tmp_path / "samples.npz", task)
    return "\n".join(doubts(rows, prepare(rows, task, [INPUT]), task))


def test_good_samples_raise_no_doubt(tmp_path: Path) -> None:
    assert not said(nets.pictures(40), tmp_path)


@pytest.mark.parametrize(
    ("pictures", "says"),
    [
        (nets.pictures(10), "calibrated with 10 samples"),
        (nets.pictures(20) * 2, "20 of 40 calibration samples repeat others"),
        (
            [*nets.pictures(39), np.full((32, 32, 3), 7, np.uint8)],
            "1 of 40 calibration samples are one constant",
        ),
        ([(picture > 127).astype(np.uint8) for picture in nets.pictures(40)], "no pixel above 1"),
        ([picture // 64 * 64 for picture in nets.pictures(40)], "show next to nothing"),
    ],
    ids=["few", "repeated", "constant", "scaled already", "posterized"],
)
def test_doubts(pictures: list[np.ndarray], says: str, tmp_path: Path) -> None:
    assert says in said(pictures, tmp_path)


@pytest.mark.parametrize("count", [3, 4, 7, 64, 96, 200])
def test_ranges_and_judgement_share_no_sample(count: int) -> None:
    ranges, judged = split(count, 32)
    assert not set(ranges) & set(judged)
    assert len(judged) == min(32, count // 3)
    assert len(ranges) + len(judged) == count
    assert max(ranges + judged) < count


def test_one_or_two_samples_do_for_both() -> None:
    assert split(2, 32) == ([0, 1], [0, 1])


def test_spread_takes_the_ends() -> None:
    assert spread(10, 3) == [0, 4, 9]
    assert spread(3, 10) == [0, 1, 2]
