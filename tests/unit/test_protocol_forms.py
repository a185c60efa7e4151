"""Errors, headers and answers on the wire, there and back."""

import json
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import errors
from edge_runtime.contract.errors import (
    BundleError,
    CameraError,
    ConversionError,
    DeadlineError,
    EdgeRuntimeError,
    EngineError,
    InputError,
    OverloadedError,
    QuotaError,
    RefusedError,
    RemoteError,
    StorageError,
    TooLargeError,
    UnauthorizedError,
    UnknownModelError,
)
from edge_runtime.contract.result import (
    Answer,
    Classification,
    Detections,
    Embedding,
    Entities,
    Entity,
    Finish,
    Generation,
    TextClassification,
    Values,
)
from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.protocol import answers, headers, json_document, problems
from edge_runtime.protocol.headers import Metadata

# fmt: off
TABLE = (
    (InputError("x", expected="a", got="b", do="Do c"),      400, 3),
    (UnauthorizedError("x", expected="a token", got="none"), 401, 16),
    (RefusedError("x", do="Ask another"),                    403, 7),
    (UnknownModelError("x", expected="a", got="b"),          404, 5),
    (TooLargeError("x", expected="at most 1", got="2"),      413, 11),
    (QuotaError("x", retry_after_s=30),                      429, 8),
    (EngineError("x", got="b"),                              500, 13),
    (BundleError("x"),                                       500, 13),
    (RemoteError("x", retryable=True, got="b", do="Do c"),   502, 14),
    (RemoteError("x", retryable=False),                      502, 14),
    (OverloadedError("x", retry_after_s=0.25, got="9"),      503, 14),
    (DeadlineError("x", got="0 ms"),                         504, 4),
    (StorageError("x"),                                      507, 13),
)
# fmt: on


@pytest.mark.parametrize(("error", "status", "grpc"), TABLE)
def test_an_error_there_and_back(error: EdgeRuntimeError, status: int, grpc: int) -> None:
    problem = problems.problem_of(error)
    assert (problem.status, problem.grpc) == (status, grpc)
    told = json.loads(json_document.write(problems.v2_document(error)))
    back = (
        problems.from_http(status, told),
        problems.from_http(status, json.loads(json_document.write(problems.openai_document(error)))),
        problems.from_grpc(grpc, str(error), told),
    )
    for found in back:
        assert type(found) is type(error)
        assert vars(found) == vars(error)
        assert str(found) == str(error)


def test_every_class_is_in_the_table_or_below_one_that_is() -> None:
    own = {problem.kind for problem in problems.PROBLEMS}
    unnamed = {
        kind for kind in every(EdgeRuntimeError) if kind not in own and kind.__module__ == errors.__name__
    }
    assert unnamed == {ConversionError, CameraError, errors.UpdateError}, "they never come to a door"


def every(kind: type) -> set[type]:
    return {kind}.union(*map(every, kind.__subclasses__()))


def test_a_bug_says_nothing_of_itself() -> None:
    document = problems.v2_document(ZeroDivisionError("password: hunter2"))
    assert document == {"error": "The server failed; its log says why", "code": "internal-error"}


@pytest.mark.parametrize(
    ("status", "document", "kind", "message"),
    [
        (404, {"error": "no such model"}, UnknownModelError, "no such model"),
        (422, {"detail": "field required"}, InputError, "field required"),
        (
            401,
            {"error": {"message": "Incorrect key", "code": "invalid_api_key"}},
            UnauthorizedError,
            "Incorrect key",
        ),
        (503, "<html>", OverloadedError, "the server answered 503. Try again in 7 s"),
        (500, None, EngineError, "the server answered 500"),
        (502, [], RemoteError, "the server answered 502"),
        (418, {"error": 3}, InputError, "the server answered 418"),
        (400, {"error": "x", "code": "engine-error"}, InputError, "x"),
        (429, {"error": "slow down", "retry_after_s": True}, QuotaError, "slow down. Try again in 7 s"),
    ],
)
def test_errors_of_servers_that_are_not_ours(
    status: int, document: Any, kind: type[EdgeRuntimeError], message: str
) -> None:
    found = problems.from_http(status, document, retry_after_s=7)
    assert type(found) is kind
    assert str(found) == message


def test_grpc_without_details() -> None:
    found = problems.from_grpc(14, "connection refused")
    assert type(found) is RemoteError
    assert found.retryable
    assert type(problems.from_grpc(99, "?")) is RemoteError


def test_retry_after_is_whole_seconds_from_1_on() -> None:
    waits = {0.0: "1", 0.25: "1", 1.0: "1", 1.01: "2", 30.0: "30"}
    assert {s: problems.retry_after(OverloadedError("x", retry_after_s=s)) for s in waits} == waits
    assert problems.retry_after(EngineError("x")) is None


FULL = Metadata(
    id="r-1",
    timeout_s=1.5,
    trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    token="s3cret",
    data=frozenset({DataClass.FACES, DataClass.TEXT}),
    priority=0,
    sticky="shop 7",
)


def test_metadata_there_and_back() -> None:
    assert headers.read(headers.write(FULL)) == FULL
    assert headers.write(Metadata()) == {}
    assert headers.write(Metadata(timeout_s=0.0004)) == {"x-deadline-ms": "1"}
    assert headers.read({"host": "x"}) == Metadata()


def test_a_token_is_in_no_log() -> None:
    assert "s3cret" not in f"{FULL} {FULL!r}"


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("x-deadline-ms", "soon", InputError),
        ("x-deadline-ms", "1.5", InputError),
        ("x-deadline-ms", "", InputError),
        ("x-deadline-ms", "99999999999999999999", InputError),
        ("x-deadline-ms", "0", InputError),
        ("x-deadline-ms", "-20", InputError),
        ("x-request-id", "a b", InputError),
        ("x-request-id", "a" * 129, InputError),
        ("x-request-id", "é", InputError),
        ("x-edge-data", "faces,cats", InputError),
        ("x-edge-priority", "-1", InputError),
        ("x-edge-priority", "10", InputError),
        ("x-edge-sticky", "a" * 257, InputError),
    ],
)
def test_a_header_that_is_wrong(name: str, value: str, kind: type[EdgeRuntimeError]) -> None:
    with pytest.raises(kind, match=name):
        headers.read({name: value})


@pytest.mark.parametrize(
    "trace", ["", "00-abc-def-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "0" * 32]
)
def test_a_broken_trace_is_none(trace: str) -> None:
    assert headers.read({"traceparent": trace}).trace == ""


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("00-{}", "00-{}"),
        ("00-{}-a text of its caller", ""),
        ("01-{}-a text of its caller", "01-{}"),
        ("01-{} a text", ""),
    ],
)
def test_a_trace_carries_nothing_but_its_four_fields(said: str, kept: str) -> None:
    fields = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert headers.read({"traceparent": said.format(fields)}).trace == kept.format(fields)
    written = headers.write(headers.Metadata(trace=said.format(fields)))
    assert written.get("traceparent", "") == kept.format(fields)


LOCAL = Decision(Route.CLOUD, Reason.LOW_CONFIDENCE, "0.4 is below 0.85")
VALUES: dict[str, Any] = {
    "detection": Detections(
        np.float32([[1, 2, 30.5, 40.25]]), np.float32([0.75]), np.int32([2]), ("cat", "dog", "person")
    ),
    "no detection": Detections.empty(("cat",)),
    "classification": Classification(np.int32([1, 0]), np.float32([0.75, 0.25]), ("a", "b")),
    "text": TextClassification(np.int32([1]), np.float32([0.5]), ("0", "good"), 9, True, 3),
    "entities": Entities((Entity("CITY", 3, 7, "Köln", 0.5),), 6, False, 1),
    "no entities": Entities((), 6, False, 1),
    "embedding": Embedding(np.float32([0.1, -0.2]), 5, False),
    "generation": Generation("hi", Finish.LENGTH, 3, 1),
    "tensors": Values({"y": np.int64([[1, 2]]), "t": np.array(["é"], object)}, ("a", "b")),
}


def plain(value: Any) -> Any:
    """Arrays become lists with their dtype, so that dataclasses compare."""
    if isinstance(value, np.ndarray):
        return (value.dtype.name, value.tolist())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return (
        {name: plain(getattr(value, name)) for name in value.__slots__}
        if hasattr(value, "__slots__")
        else value
    )


@pytest.mark.parametrize("name", VALUES)
def test_an_answer_there_and_back(name: str) -> None:
    sent = Answer(VALUES[name], LOCAL, "m", "3", "int8", 12.5, 0.5)
    document = answers.document_of(sent, "r-1")
    assert document["id"] == "r-1"
    found = answers.parse(json.loads(json_document.write(document)))
    sent_value, found_value = plain(sent.value), plain(found.value)
    if "labels" in sent_value and name != "tensors":
        names = [
            labels[i] for labels, (_, ids) in [(found.value.labels, found_value["classes"])] for i in ids
        ]
        assert names == [sent.value.labels[i] for i in sent_value["classes"][1]]
        del sent_value["labels"], found_value["labels"]
    assert found_value == sent_value
    assert (found.decision, found.model, found.version, found.variant) == (LOCAL, "m", "3", "int8")
    assert (found.latency_ms, found.confidence) == (12.5, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"result": None},
        {"result": {"kind": "song"}},
        {"result": {"kind": []}},
        {"route": "train"},
        {"latency_ms": "fast"},
        {"confidence": None},
        {"result": {"kind": "detection", "objects": [{"box": [1, 2], "class": 0, "label": "", "score": 1}]}},
        {"result": {"kind": "classification", "classes": [{"class": 2**40, "label": "", "score": 1}]}},
        {"result": {"kind": "embedding", "vector": ["x"], "tokens": 1, "truncated": False}},
        {"result": {"kind": "embedding", "vector": [1e39], "tokens": 1, "truncated": False}},
        {"result": {"kind": "embedding", "vector": [1], "tokens": 1, "truncated": "no"}},
        {
            "result": {
                "kind": "tensors",
                "labels": [],
                "tensors": {"y": {"datatype": "FP31", "shape": [1], "data": [1]}},
            }
        },
    ],
)
def test_what_is_no_answer_is_a_remote_error(change: dict[str, Any]) -> None:
    document = (
        answers.document_of(Answer(VALUES["generation"], LOCAL, "m", "3", "int8", 1.0, 1.0), "r") | change
    )
    with pytest.raises(RemoteError, match=r"an answer of /v1/predict"):
        answers.parse(document)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"predictions": [1], "model": "m"}, "a document with predictions, model, and without result, route"),
        ({}, "a document with nothing, and without result"),
        ({"result": [1]}, "an array of 1 as `result`"),
        ({"result": {"kind": "poem"}}, "a `result` whose `kind` is 'poem'"),
        ({"result": {"kind": "embedding"}}, "a `result` of kind embedding, in which `vector` is missing"),
    ],
)
def test_a_foreign_document_is_said_with_its_place(document: dict[str, Any], said: str) -> None:
    if "result" in document:
        whole = answers.document_of(Answer(VALUES["generation"], LOCAL, "m", "3", "int8", 1.0, 1.0), "r")
        document = whole | document
    with pytest.raises(RemoteError) as told:
        answers.parse(document)
    assert said in str(told.value)


def test_a_value_of_no_task() -> None:
    with pytest.raises(EngineError, match="got str"):
        answers.result_of("a text")


def test_headers_of_an_answer() -> None:
    told = headers.of_answer(Answer(None, LOCAL, "m", "1.0\r\nx: y", "int8", 1.0, 1.0))
    assert told == {
        "x-edge-route": "cloud",
        "x-edge-reason": "low-confidence",
        "x-edge-version": "1.0??x: y",
        "x-edge-variant": "int8",
    }
