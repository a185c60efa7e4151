"""Samples and their labels: what is read, which are taken, and what is wrong, each in one line."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.step import SAMPLES_FILE
from converters.verify.samples import divide, prepare
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError, InputError
from edge_runtime.tasks.rows import read_rows

IMAGE = {"layout": "nchw"}
CLASSIFIER = {"kind": "classification", "input": IMAGE, "labels": ["cat", "dog"]}
DETECTOR = {"kind": "detection", "input": IMAGE, "head": {"format": "nms"}, "labels": ["cat", "dog"]}
TEXTS = {"kind": "embedding"}
TABLE = {"kind": "tensors"}


class Room:
    """A folder to put samples in, and a way to prepare them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pictures = root / "pictures"
        self.pictures.mkdir()

    def paint(self, *names: str, size: tuple[int, int] = (6, 8)) -> None:
        for at, name in enumerate(names):
            (self.pictures / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(self.pictures / name), np.full((*size, 3), at, np.uint8))

    def write(self, name: str, content: str | bytes | dict[str, Any]) -> Path:
        path = self.root / name
        text = json.dumps(content) if isinstance(content, dict) else content
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def prepare(
        self, task: dict[str, Any], samples: Path | None, labels: Path | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
        files = {"samples": samples, "labels": labels}
        out = self.root / "out"
        out.mkdir(exist_ok=True)
        given_ = {name: path for name, path in files.items() if path is not None}
        facts = prepare(given_, out, {"task": task, **options}, lambda *_: None)
        return facts, read_rows(out / SAMPLES_FILE)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_folder_of_pictures_with_classes(room: Room) -> None:
    room.paint("b.png", "a.png", "deep/c.png", "d.png")
    (room.pictures / "notes.txt").write_text("no picture")
    labels = room.write("labels.csv", "file,label\nb.png,dog\na.png,cat\ndeep/c.png,1\n")
    facts, rows = room.prepare(CLASSIFIER, room.pictures, labels, calibration=2, verification=2)
    assert (facts["count"], facts["calibration"], facts["verification"]) == (4, 2, 2)
    assert facts["labelled"]
    assert not facts["synthetic"]
    assert "1 of 4 samples have no label" in facts["warnings"][0]
    # Sorted: a.png, b.png, d.png, deep/c.png. Calibration takes every other one, verification the rest.
    assert [int(picture[0, 0, 0]) for picture in rows["pictures"]] == [1, 3, 0, 2]
    by_grey = {int(p[0, 0, 0]): int(label) for p, label in zip(rows["pictures"], rows["labels"], strict=True)}
    assert by_grey == {0: 1, 1: 0, 2: 1, 3: -1}


def test_pictures_of_several_sizes_and_large_ones(room: Room) -> None:
    room.paint("a.png")
    room.paint("b.png", size=(100, 2560))
    coco = {
        "images": [
            {"id": at, "file_name": file} for at, file in ((7, "train/b.png"), (8, "a.png"), (9, "?"))
        ],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40]},
            {"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]},
        ],
    }
    _, rows = room.prepare(DETECTOR, room.pictures, room.write("coco.json", coco))
    assert [picture.shape for picture in rows["pictures"]] == [(6, 8, 3), (50, 1280, 3)]
    assert [row.tolist() for row in rows["labels"]] == [[], [[5, 10, 20, 30, 1, 0]]]


def test_arrays_of_pictures(room: Room) -> None:
    path = room.root / "fashion.npz"
    np.savez(path, pictures=np.arange(3 * 28 * 28, dtype=np.int64).reshape(3, 28, 28).astype(np.uint8))
    np.save(room.root / "labels.npy", np.array([1, 0, 1]))
    facts, rows = room.prepare(CLASSIFIER, path, room.root / "labels.npy", calibration=1, verification=2)
    assert rows["pictures"][0].shape == (28, 28, 3)
    assert [int(label) for label in rows["labels"]] == [1, 0, 1]
    assert facts["warnings"] == []


def test_texts(room: Room) -> None:
    lines = room.write("a.txt", "one\n\ntwo é\n")
    _, rows = room.prepare(TEXTS, lines)
    assert [str(row) for row in rows["texts"]] == ["one", "two é"]
    _, rows = room.prepare(TEXTS, room.write("a.jsonl", '"one"\n{"text": "two"}\n'))
    assert [str(row) for row in rows["texts"]] == ["one", "two"]
    _, rows = room.prepare(TEXTS, room.write("a.csv", 'id,text\n1,"one, or so"\n2,two\n'))
    assert [str(row) for row in rows["texts"]] == ["one, or so", "two"]


def test_pairs_keep_every_text_in_its_place(room: Room) -> None:
    texts = room.write("a.txt", "\n".join(f"text {at}" for at in range(9)))
    pairs = room.write("pairs.csv", "first,second,score\n0,8,0.5\n1,2,5\n")
    facts, rows = room.prepare(TEXTS, texts, pairs, calibration=2, verification=2)
    assert [str(row) for row in rows["texts"]] == [f"text {at}" for at in range(9)]
    assert [row.tolist() for row in rows["pairs"]] == [[0, 8, 0.5], [1, 2, 5]]
    assert facts["labelled"]


def test_tables(room: Room) -> None:
    table = room.write("a.csv", "age,height\n1,2\n3,4.5\n")
    example = [{"name": "features", "shape": [1, 2]}]
    _, rows = room.prepare(TABLE, table, room.write("labels.csv", "label\n0.5\n2\n"), inputs=example)
    assert [row.tolist() for row in rows["features"]] == [[1, 2], [3, 4.5]]
    assert [float(label) for label in rows["labels"]] == [0.5, 2]


@pytest.mark.parametrize(
    ("task", "inputs", "name"),
    [
        (CLASSIFIER, [], "pictures"),
        (TEXTS, [], "texts"),
        (TABLE, [{"name": "x", "shape": [1, 4]}, {"name": "ids", "shape": [1, 3], "dtype": "int64"}], "x"),
    ],
)
def test_stand_ins(room: Room, task: dict[str, Any], inputs: Any, name: str) -> None:
    facts, rows = room.prepare(task, None, inputs=inputs, calibration=2, verification=3)
    assert facts["synthetic"]
    assert "no samples were given" in facts["warnings"][0]
    assert len(rows[name]) == 5
    first = (room.root / "out" / SAMPLES_FILE).read_bytes()
    room.prepare(task, None, inputs=inputs, calibration=2, verification=3)
    assert (room.root / "out" / SAMPLES_FILE).read_bytes() == first


def _wrong(room: Room, kind: str) -> tuple[dict[str, Any], Path | None, Path | None]:
    room.paint("a.png", "b.png")
    (room.root / "empty").mkdir()
    torn = room.root / "torn"
    torn.mkdir()
    (torn / "a.jpg").write_bytes(b"\xff\xd8 no more")
    np.savez(room.root / "nan.npz", x=np.array([[1.0, np.nan]]))
    np.savez(room.root / "wide.npz", x=np.zeros((2, 5)))
    np.savez(room.root / "float.npz", pictures=np.zeros((2, 4, 4, 3)))
    np.savez(room.root / "other.npz", y=np.zeros((2, 5)))
    np.save(room.root / "few.npy", np.array([1]))
    objects = np.array([{}, None], object)
    np.save(room.root / "pickled.npy", objects, allow_pickle=True)
    np.savez(room.root / "pickled.npz", x=objects)
    texts = room.write("t.txt", "one\ntwo\n")
    coco = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "horse"}]}
    horse = {**coco, "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]}
    cases: dict[str, tuple[dict[str, Any], Path | None, Path | None]] = {
        "absent": (CLASSIFIER, room.root / "absent", None),
        "empty": (CLASSIFIER, room.root / "empty", None),
        "torn": (CLASSIFIER, torn, None),
        "a text for pictures": (CLASSIFIER, texts, None),
        "floats for pictures": (CLASSIFIER, room.root / "float.npz", None),
        "unknown file": (CLASSIFIER, room.pictures, room.write("l.csv", "a.png,cat\nz.png,dog\n")),
        "unknown class": (CLASSIFIER, room.pictures, room.write("m.csv", "a.png,horse\n")),
        "class out of range": (CLASSIFIER, room.pictures, room.write("n.csv", "a.png,2\n")),
        "too few labels": (CLASSIFIER, room.pictures, room.root / "few.npy"),
        "unknown category": (DETECTOR, room.pictures, room.write("h.json", horse)),
        "no entry": (DETECTOR, room.pictures, room.write("c.json", {**coco, "annotations": []})),
        "no COCO": (DETECTOR, room.pictures, room.write("x.json", {"images": []})),
        "no file name": (DETECTOR, room.pictures, room.write("f.json", {**horse, "images": [{"id": 1}]})),
        "no such category": (DETECTOR, room.pictures, room.write("g.json", {**horse, "categories": []})),
        "pickled labels": (CLASSIFIER, room.pictures, room.root / "pickled.npy"),
        "pickled samples": (TABLE, room.root / "pickled.npz", None),
        "wrong shape of another name": (TABLE, room.root / "other.npz", None),
        "no JSON": (DETECTOR, room.pictures, room.write("y.json", "{")),
        "line of no text": (TEXTS, room.write("u.jsonl", '"one"\n5\n'), None),
        "not UTF-8": (TEXTS, room.write("v.txt", b"\xff\xfe\xff"), None),
        "pair of no text": (TEXTS, texts, room.write("p.csv", "0,2,1\n")),
        "no pairs": (TEXTS, texts, room.write("q.csv", "0,1\n")),
        "NaN": (TABLE, room.root / "nan.npz", None),
        "wrong shape": (TABLE, room.root / "wide.npz", None),
        "no numbers": (TABLE, room.write("w.csv", "1,2\n1,x\n"), None),
        "nothing for tensors": (TABLE, None, None),
    }
    return cases[kind]


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("absent", ConversionError, "absent: expected a file or folder, got nothing there"),
        ("empty", ConversionError, "empty: expected at least one sample, got none"),
        ("torn", InputError, r"a\.jpg: expected JPEG.*damaged"),
        ("a text for pictures", ConversionError, r"a folder of pictures, or an \.npz.*got \.txt"),
        ("floats for pictures", InputError, r"picture 0: .*uint8 BGR.*got float64 \(4, 4, 3\)"),
        ("unknown file", ConversionError, r"unknown files: .*got z\.png"),
        ("unknown class", ConversionError, "unknown classes: expected labels of the task, got horse"),
        (
            "class out of range",
            ConversionError,
            "unknown classes: expected indices of the task's 2 labels, got 2",
        ),
        ("too few labels", ConversionError, "expected 2 rows, one a sample, got 1"),
        ("unknown category", ConversionError, "unknown classes: .*got horse"),
        ("no entry", ConversionError, r"every sample among its images, got none for b\.png"),
        ("no COCO", InputError, "COCO JSON: images .*, got an entry without 'categories'"),
        ("no file name", InputError, "got an entry without 'file_name'"),
        ("no such category", ConversionError, "unknown categories: expected a category_id of its c.*, got 1"),
        ("pickled labels", InputError, r"pickled\.npy: expected a plain \.npy, got Python objects"),
        ("pickled samples", InputError, r"pickled\.npz: expected an \.npz file of plain.*got Python objects"),
        ("wrong shape of another name", InputError, r"row 0 of 'y': expected \(2\), got \(5\)"),
        ("no JSON", InputError, "COCO JSON"),
        ("line of no text", InputError, "u.jsonl, line 2: expected a string"),
        ("not UTF-8", InputError, "a readable file in UTF-8"),
        ("pair of no text", ConversionError, "unknown rows: expected numbers of the 2 texts, from 0, got 2"),
        ("no pairs", InputError, "three columns"),
        ("NaN", InputError, "row 0 of 'x': expected numbers, got NaN or infinity"),
        ("wrong shape", InputError, r"row 0 of 'x': expected \(2\), got \(5\)"),
        ("no numbers", InputError, "numbers in rows of one length"),
        ("nothing for tensors", ConversionError, "samples: expected some, for a task of tensors"),
    ],
)
def test_what_is_wrong(room: Room, kind: str, error: type[EdgeRuntimeError], message: str) -> None:
    task, samples, labels = _wrong(room, kind)
    example = [{"name": "x", "shape": [1, 2]}] if samples is not None and samples.suffix == ".npz" else []
    with pytest.raises(error, match=message) as caught:
        room.prepare(task, samples, labels, inputs=example)
    assert "\n" not in str(caught.value)
    assert "allow_pickle" not in str(caught.value)
    assert "Error(" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.tile(np.arange(4.0), (40, 1)), "all 40 samples of 'x' are the same"),
        (np.repeat(np.arange(40.0)[:, None], 4, axis=1), "each sample of 'x' is one constant value"),
        (np.arange(160.0).reshape(40, 4) * 1e4, "values of 'x' reach 1.59e+06, and fp16 ends at 65504"),
        (
            np.array([[1.0, 2, 3, 4]] * 39 + [[1.0, 2, 3, 9000]]),
            "reach 9e+03, and half of them are below 2.5",
        ),
        (np.random.default_rng(0).normal(size=(40, 4)), ""),
        (np.random.default_rng(0).integers(0, 255, (40, 4), np.uint8), ""),
    ],
)
def test_odd_numbers_of_a_task_of_tensors_are_told(room: Room, rows: Any, said: str) -> None:
    np.savez(room.root / "rows.npz", x=rows)
    facts, _ = room.prepare(TABLE, room.root / "rows.npz", calibration=20, verification=20)
    assert said in " ".join(facts["warnings"])
    assert bool(facts["warnings"]) == bool(said)


def test_one_sample_is_called_one(room: Room) -> None:
    np.savez(room.root / "one.npz", x=np.array([[1.0, 2.0]]))
    facts, _ = room.prepare(TABLE, room.root / "one.npz")
    assert facts["warnings"][0].startswith("only 1 sample, for 64")


@given(st.integers(1, 300), st.integers(1, 100), st.integers(1, 100))
def test_samples_are_divided(count: int, calibration: int, verification: int) -> None:
    division = divide(count, calibration, verification)
    assert len(set(division.rows)) == len(division.rows) == min(count, calibration + verification)
    assert division.calibration == min(calibration, count)
    assert division.verification == min(verification, count)
    overlap = division.calibration + division.verification - len(division.rows)
    assert overlap == max(0, min(calibration, count) + min(verification, count) - count)
    assert set(division.rows) <= set(range(count))
