"""What a request holds, whether two answers agree, and what becomes of audits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.errors import RefusedError, RemoteError
from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Detections, Embedding, Entities, Finish, Generation, Values
from edge_runtime.contract.route import DataClass
from edge_runtime.routing.agreement import agree
from edge_runtime.routing.contents import answer_contents, contents
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.outgoing import jpeg
from edge_runtime.routing.parcel import WITHHELD, Kind, Late, Parcel
from edge_runtime.runtime.late import LateDesk
from tests.simulators.cloud import sentiment

V, F, T, E, X = (
    *(DataClass.VIDEO, DataClass.FACES, DataClass.TEXT, DataClass.EMBEDDING),
    DataClass.TENSORS,
)
PICTURE = Picture.from_bgr(np.zeros((4, 4, 3), np.uint8))
TENSORS = {"x": np.zeros(1)}


@pytest.mark.parametrize(
    ("value", "said", "kind", "holds"),
    [
        (PICTURE, set(), None, {V, F}),
        (PICTURE, {V}, None, {V}),
        (PICTURE, {T}, None, {V, T}),
        ("a text", set(), None, {T}),
        (Prompt("a"), {F}, None, {T, F}),
        (TENSORS, set(), None, {V, F, T, E, X}),
        (TENSORS, {E}, None, {E, X}),
        (TENSORS, set(), "detection", {V, F, X}),
        (TENSORS, {V}, "classification", {V, X}),
        (TENSORS, set(), "embedding", {T, X}),
        (TENSORS, set(), "tensors", {X}),
    ],
)
def test_what_a_request_holds(
    value: Any, said: set[DataClass], kind: str | None, holds: set[DataClass]
) -> None:
    assert contents(Request("1", "m", value, data=frozenset(said)), kind) == holds


@pytest.mark.parametrize("declared", [(), (X,), (V,)], ids=["undeclared", "tensors", "video"])
@pytest.mark.parametrize("kind", [None, "detection", "classification", "embedding", "tensors"])
@pytest.mark.parametrize("dtype", [object, "S", "U"])
def test_a_tensor_of_strings_is_a_text_whatever_is_said(dtype: Any, kind: str | None, declared: Any) -> None:
    value = {"x": np.array(["a secret"], dtype)}
    assert T in contents(Request("1", "m", value, data=frozenset(declared)), kind)


@pytest.mark.parametrize(
    ("asked", "outputs", "is_text"),
    [
        ({}, None, False),
        ({"parameters": {"sticky": "a secret"}}, None, True),
        ({"parameters": {"note": "secret"}}, None, True),
        ({"parameters": {"priority": 0, "deep": True, "p": 0.5}}, None, False),
        ({"parameters": {"a secret": 1}}, None, True),
        ({"value": {"serving_default_x:0": np.zeros(1)}}, None, False),
        ({"value": {"a secret": np.zeros(1)}}, None, True),
        ({"value": {"s" * 65: np.zeros(1)}}, None, True),
        ({"version": "1.2.3"}, None, False),
        ({"version": "a secret"}, None, True),
        ({"id": "s" * 65}, None, True),
        ({"value": PICTURE, "parameters": {"sticky": "a"}}, None, True),
        ({}, ["scores"], False),
        ({}, ["scores", "a secret"], True),
    ],
)
def test_what_can_carry_a_text_beside_the_value_counts_as_one(
    asked: dict[str, Any], outputs: list[str] | None, is_text: bool
) -> None:
    request = replace(Request("1", "m", TENSORS, data=frozenset({V})), **asked)
    assert (T in contents(request, None, outputs)) is is_text


def classes(*labels: str) -> dict[str, Any]:
    return {"kind": "classification", "classes": [{"label": label, "score": 0.5} for label in labels]}


def objects(*labels: str) -> dict[str, Any]:
    return {"kind": "detection", "objects": [{"label": label} for label in labels]}


def span(label: str, start: int) -> dict[str, Any]:
    return {"label": label, "start": start, "end": start + 1}


def tensor(*values: float) -> dict[str, Any]:
    return {"kind": "tensors", "tensors": {"y": {"shape": [len(values)], "data": list(values)}}, "labels": []}


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        (classes("a", "b"), classes("a", "c"), True),
        (classes("a"), classes("b"), False),
        (classes(), classes(), True),
        (classes(), classes("a"), False),
        (objects("car", "cat"), objects("cat", "car"), True),
        (objects("car"), objects("car", "car"), False),
        (objects("car"), classes("car"), False),
        (
            {"kind": "token-classification", "entities": [span("A", 1), span("B", 5)]},
            {"kind": "token-classification", "entities": [span("B", 5), span("A", 1)]},
            True,
        ),
        ({"kind": "embedding", "vector": [1.0, 0.0]}, {"kind": "embedding", "vector": [2.0, 0.1]}, True),
        ({"kind": "embedding", "vector": [1.0, 0.0]}, {"kind": "embedding", "vector": [0.0, 1.0]}, False),
        ({"kind": "embedding", "vector": [1.0]}, {"kind": "embedding", "vector": [1.0, 1.0]}, False),
        ({"kind": "generation", "text": "a  b"}, {"kind": "generation", "text": "a b"}, True),
        (tensor(1.0, 100.0), tensor(1.5, 100.0), True),
        (tensor(1.0, 100.0), tensor(9.0, 100.0), False),
        (tensor(1.0), tensor(1.0, 1.0), False),
    ],
)
def test_whether_two_answers_say_the_same(here: dict[str, Any], there: dict[str, Any], same: bool) -> None:
    assert agree(here, there) is same
    assert agree(there, here) is same


def test_a_cameras_planes_become_a_picture_that_looks_alike() -> None:
    import cv2

    image = np.full((32, 48, 3), (40, 120, 200), np.uint8)
    yuv = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    flat = yuv.reshape(-1)
    sizes = (32 * 48, 16 * 24, 16 * 24)
    luma, u, v = np.split(flat, np.cumsum(sizes)[:-1])
    planes = (luma.reshape(32, 48), u.reshape(16, 24), v.reshape(16, 24))
    for picture in (Picture(PixelFormat.I420, planes, 32, 48), Picture.from_bgr(image)):
        seen = cv2.imdecode(np.frombuffer(jpeg(picture), np.uint8), cv2.IMREAD_COLOR)
        assert seen is not None
        assert np.abs(seen.astype(int) - image).max() <= 6


def audit(number: int, here: str) -> Late:
    local = json.loads(sentiment(here))["result"]
    note = json.dumps({"model": "large", "local": local})
    return Late(f"id-{number}", Kind.AUDIT, "application/json", sentiment("negative"), 0.0, note)


def test_audits_say_when_a_threshold_no_longer_holds_also_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(tmp_path / "outbox.sqlite", max_bytes=10**6, max_age_s=1e6)
    desk = LateDesk(box, None, {"large": 0.01}, tmp_path / "audits.json")
    for number in range(20):
        desk.take(audit(number, "negative"))
    status = desk.status()["large"]
    assert (status.audits, status.differing, status.holds) == (20, 0, True)
    desk.take(audit(20, "positive"))
    again = LateDesk(box, None, {"large": 0.01}, tmp_path / "audits.json")
    for number in range(21, 40):
        again.take(audit(number, "positive"))
    assert again.status()["large"].holds is False
    assert caplog.text.count("calibrate it again") == 1
    box.close()


def test_an_answer_that_cannot_be_read_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(tmp_path / "outbox.sqlite", max_bytes=10**6, max_age_s=1e6)
    desk = LateDesk(box, None, {}, tmp_path / "audits.json")
    desk.take(Late("id-1", Kind.ESCALATION, "application/json", b"no JSON", 0.0, "{}"))
    assert "the late answer to id-1 cannot be read" in caplog.text
    assert desk.find("id-1") is False
    box.close()


def test_whoever_asks_for_what_was_given_up_is_told_why(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox.sqlite", max_bytes=10**6, max_age_s=1e6)
    desk = LateDesk(box, None, {}, tmp_path / "audits.json")
    for key, error in (("wrong", "no such input"), ("private", f"{WITHHELD}text may not leave")):
        assert box.put(Parcel(key, "m", Kind.ESCALATION, "/p", "application/json", b"{}"), 0.0)
        box.poison(box.heads()[0], error, 0.0)
    with pytest.raises(RemoteError, match=r"'wrong' was given up.*no such input"):
        desk.find("wrong")
    with pytest.raises(RefusedError, match=r"'private' did not leave.*privacy: text may not leave"):
        desk.find("private")
    box.close()


def test_what_an_answer_holds() -> None:
    vector = np.zeros(3, np.float32)
    assert answer_contents(Detections.empty(("person",)), "one") == frozenset()
    assert answer_contents(Detections.empty(("person",)), "said to somebody") == {T}
    assert answer_contents(Embedding(vector, 3, truncated=False), "one") == {E}
    assert answer_contents(Entities((), 3, truncated=False), "one") == {T}
    assert answer_contents(Generation("x", Finish.STOP, 1, 1), "one") == {T}
    assert answer_contents(Values({"y": vector}, ()), "one") == set(DataClass)
