"""Tensors in and out: names, types, quantization; and rows of them on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import BundleError, ConfigError, EngineError, InputError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.task import ClassificationSpec, EmbeddingSpec, ImageInput, TensorsSpec
from edge_runtime.contract.tensors import Quantization, TensorSpec
from edge_runtime.tasks.likeness import MOST_DB, cosine, max_abs, sqnr_db
from edge_runtime.tasks.make import make_any_task, make_task
from edge_runtime.tasks.rows import raw_inputs, read_rows, write_rows

SPEC = TensorsSpec(kind="tensors")
X = TensorSpec("x", "float32", (1, 3))
Y = TensorSpec("y", "float32", (1, 2))


def test_arrays_go_through() -> None:
    task = make_any_task(TensorsSpec(kind="tensors", labels=("no", "yes")), [X], [Y])
    tensors, undo = task.preprocess({"x": np.ones((1, 3))})
    assert tensors["x"].dtype == np.float32
    found = task.postprocess({"y": np.array([[0.25, 0.75]], np.float32)}, undo)
    assert found.labels == ("no", "yes")
    assert found.tensors["y"].tolist() == [[0.25, 0.75]]


def test_quantized_on_both_sides() -> None:
    stored = Quantization((0.5,), (10,))
    task = make_any_task(
        SPEC, [TensorSpec("x", "uint8", (1, 3), stored)], [TensorSpec("y", "int8", (1, 2), stored)]
    )
    tensors, undo = task.preprocess({"x": np.array([[0.0, 1.26, 1000.0]])})
    assert tensors["x"].tolist() == [[10, 13, 255]]
    assert task.postprocess({"y": np.array([[10, 12]], np.int8)}, undo).tensors["y"].tolist() == [[0, 1]]


def test_integers_stay_integers() -> None:
    task = make_any_task(SPEC, [TensorSpec("ids", "int32", (1, 2))], [TensorSpec("label", "int64", (1,))])
    tensors, undo = task.preprocess({"ids": np.array([[1, 2]], np.int64)})
    assert tensors["ids"].dtype == np.int32
    found = task.postprocess({"label": np.array([2**60 + 1])}, undo)
    assert found.tensors["label"].tolist() == [2**60 + 1]


@pytest.mark.parametrize("name", ["x", "anything", "serving_default_x:0"])
def test_a_single_input_needs_no_name(name: str) -> None:
    task = make_any_task(SPEC, [TensorSpec("serving_default_x:0", "float32", (1, 3))], [Y])
    assert list(task.preprocess({name: np.ones((1, 3))})[0]) == ["serving_default_x:0"]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"a": np.ones((1, 3))}, "expected a, b, got a"),
        ({"a": np.ones((1, 3)), "b": np.array([["x"]])}, "input 'b'.*int32"),
        ({"a": np.ones((1, 3)), "b": np.array([[1.5]])}, "numbers that int32 can hold"),
        ({"a": np.ones((1, 3)), "b": np.array([[2**40]])}, "numbers that int32 can hold"),
        ({"a": np.ones((1, 4)), "b": np.array([[1]])}, r"'a'.*\(1, 3\).*\(1, 4\)"),
    ],
)
def test_what_the_model_does_not_take(given_: dict[str, Any], message: str) -> None:
    task = make_any_task(SPEC, [TensorSpec("a", "float32", (1, 3)), TensorSpec("b", "int32", (1, 1))], [Y])
    with pytest.raises(InputError, match=message):
        task.preprocess(given_)


def test_declarations_and_answers_that_are_wrong() -> None:
    with pytest.raises(BundleError, match="expected 3 columns, one a label, got 2"):
        make_any_task(TensorsSpec(kind="tensors", labels=("a", "b", "c")), [X], [Y])
    with pytest.raises(EngineError, match="NaN"):
        make_any_task(SPEC, [X], [Y]).postprocess({"y": np.array([[np.nan, 1]], np.float32)}, None)
    with pytest.raises(ConfigError, match="kind 'tensors'"):
        make_task(SPEC, [X], [Y])


def test_rows_of_one_shape_and_of_several(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    rows = {
        "even": [dice.standard_normal((2, 3)) for _ in range(3)],
        "pictures": [dice.integers(0, 256, (4 + at, 5, 3), np.uint8) for at in range(11)],
        "texts": [np.array(text) for text in ("a", "longer", "é")],
        "labels": [np.array(at, np.int64) for at in range(3)],
    }
    for name, compress in (("a.npz", False), ("b.npz", True)):
        write_rows(tmp_path / name, rows, compress=compress)
        read = read_rows(tmp_path / name)
        assert set(read) == set(rows)
        for key, some in rows.items():
            assert [one.tolist() for one in read[key]] == [one.tolist() for one in some]
    write_rows(tmp_path / "again.npz", dict(reversed(rows.items())))
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "a.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as stored:
        assert "pictures#0010" in stored.files
        assert stored["even"].shape == (3, 2, 3)


def test_rows_as_tasks_take_them() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    image = ClassificationSpec(kind="classification", input=ImageInput(layout="nchw"), labels=("a",))
    (seen,) = raw_inputs({"pictures": [picture], "labels": [np.array(0)]}, image)
    assert isinstance(seen, Picture)
    assert (seen.height, seen.width) == (4, 6)
    assert raw_inputs({"texts": [np.array("hi")]}, EmbeddingSpec(kind="embedding")) == ["hi"]
    one, two = raw_inputs({"x": [np.zeros(3), np.ones(3)], "labels": [np.array(0)] * 2}, SPEC)
    assert (one["x"].shape, two["x"].tolist()) == ((1, 3), [[1, 1, 1]])
    with pytest.raises(InputError, match="an array 'pictures', got texts"):
        raw_inputs({"texts": []}, image)
    with pytest.raises(InputError, match="as many rows in every array, got x: 1, y: 2"):
        raw_inputs({"x": [picture], "y": [picture] * 2}, SPEC)


def test_files_that_are_no_rows(tmp_path: Path) -> None:
    broken = tmp_path / "rows.npz"
    for content in (b"", b"PK\x03\x04 torn", b"text"):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=f"rows {broken}"):
            read_rows(broken)
    np.savez(broken, x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="plain arrays"):
        read_rows(broken)
    with broken.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputError, match="a single array"):
        read_rows(broken)
    np.savez(broken, x=np.array(5))
    with pytest.raises(InputError, match="rows first"):
        read_rows(broken)


vectors = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=2, max_size=8).map(np.array)


@given(vectors, st.floats(0.01, 100))
def test_likeness_of_a_vector_with_itself(vector: np.ndarray, factor: float) -> None:
    assert cosine(vector, vector * factor) == pytest.approx(1)
    assert cosine(vector, vector) == pytest.approx(1)
    assert max_abs(vector, vector) == 0
    assert sqnr_db(vector, vector) == MOST_DB


def test_likeness_of_others() -> None:
    one = np.array([3.0, 4.0])
    assert cosine(one, np.array([4.0, -3.0])) == pytest.approx(0)
    assert cosine(one, -one) == pytest.approx(-1)
    assert cosine(one, np.zeros(2)) == 0
    assert cosine(one, np.array([np.nan, 1])) == 0
    assert cosine(one * 1e300, one * 1e-300) == pytest.approx(1)
    assert max_abs(one, np.array([3.0, 4.5])) == 0.5
    assert max_abs(one, np.array([3.0, np.inf])) > 1e38
    assert sqnr_db(one, np.array([3.0, 4.5])) == pytest.approx(20)
    assert sqnr_db(np.zeros(2), one) == -MOST_DB
