"""Whatever another side sends as headers, errors and answers is read, or is an error of our own tree."""

import copy
import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import (
    EdgeRuntimeError,
    InputError,
    RemoteError,
)
from edge_runtime.contract.result import (
    Answer,
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
from edge_runtime.protocol import answers, headers, json_document, openai, problems
from edge_runtime.protocol.headers import Metadata
from edge_runtime.protocol.limits import Limits

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=10,
)
NAMES = ("x-request-id", "x-deadline-ms", "traceparent", "authorization", "x-edge-data", "x-edge-priority")
LATIN = st.text(st.characters(max_codepoint=255), max_size=40)


@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(LATIN, st.integers().map(str))))
def test_any_headers(given: dict[str, str]) -> None:
    try:
        found = headers.read(given)
    except InputError:
        return
    assert headers.read(headers.write(found)) == found


@given(
    st.builds(
        Metadata,
        id=st.from_regex(r"\A[!-~]{1,128}\Z"),
        timeout_s=st.one_of(st.none(), st.integers(1, 86_400_000).map(lambda ms: ms / 1000)),
        token=st.from_regex(r"\A[!-~]{0,40}\Z"),
        data=st.frozensets(st.sampled_from(DataClass)),
        priority=st.integers(0, 9),
        sticky=st.from_regex(r"\A[!-~]{0,40}\Z"),
    )
)
def test_metadata_arrives_as_it_was_sent(sent: Metadata) -> None:
    found = headers.read(headers.write(sent))
    assert (found.id, found.token, found.data, found.priority, found.sticky) == (
        sent.id,
        sent.token,
        sent.data,
        sent.priority,
        sent.sticky,
    )
    if sent.timeout_s is None or found.timeout_s is None:
        assert found.timeout_s is sent.timeout_s
    else:  # whole milliseconds, and never more than there were
        assert sent.timeout_s - 0.001 <= found.timeout_s <= sent.timeout_s


KEYS = st.sampled_from(
    ["error", "code", "expected", "got", "do", "retryable", "retry_after_s", "message", "detail"]
)
CODES = st.sampled_from([problem.code for problem in problems.PROBLEMS])
FORM = st.dictionaries(KEYS, st.one_of(JSON, CODES), max_size=6)


@given(st.integers(400, 599), st.one_of(FORM, FORM.map(lambda form: {"error": form}), JSON))
def test_any_error_of_a_server_is_an_error_of_ours(status: int, document: Any) -> None:
    found = problems.from_http(status, document)
    assert isinstance(found, EdgeRuntimeError)
    assert str(found)
    assert isinstance(problems.from_grpc(status % 17, "x", document), EdgeRuntimeError)


ANSWERS = [
    json.loads(
        json_document.write(
            answers.document_of(
                Answer(value, Decision(Route.LOCAL, Reason.FITS), "m", "1", "v", 1.0, 0.5), "r"
            )
        )
    )
    for value in (
        Detections(np.float32([[1, 2, 3, 4]]), np.float32([0.5]), np.int32([0]), ("a",)),
        TextClassification(np.int32([1]), np.float32([0.5]), ("a", "b"), 3, False),
        Entities((Entity("A", 0, 1, "x", 0.5),), 3, False),
        Embedding(np.float32([1, 2]), 3, False),
        Generation("x", Finish.STOP, 1, 1),
        Values({"y": np.float32([[1, 2]])}, ("a",)),
    )
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[Any] = []
    if isinstance(value, dict | list):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
    below = [place for key, item in items for place in places(item, (*path, key))]
    return [(*path, key) for key, _ in items] + below


@given(st.sampled_from(ANSWERS), st.data())
def test_a_damaged_answer_is_a_remote_error_or_an_answer(sent: Any, data: st.DataObject) -> None:
    damaged = copy.deepcopy(sent)
    *way, last = data.draw(st.sampled_from(places(sent)))
    holder = damaged
    for key in way:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[last] = data.draw(JSON)
    else:
        del holder[last]
    try:
        assert isinstance(answers.parse(damaged), Answer)
    except RemoteError as error:
        assert error.expected


OPENAI_KEYS = (
    "model",
    "messages",
    "prompt",
    "input",
    "encoding_format",
    "max_completion_tokens",
    "max_tokens",
)
SAMPLING_KEYS = ("stream", "stream_options", "temperature", "top_p", "seed", "stop", *openai.REFUSED)
BODY = st.dictionaries(
    st.sampled_from(OPENAI_KEYS + SAMPLING_KEYS),
    st.one_of(JSON, st.just([{"role": "user", "content": "x"}]), st.just("m")),
)


@given(BODY, st.sampled_from(["read_chat", "read_completion", "read_embeddings"]))
def test_any_body_of_openais_routes(document: dict[str, Any], reader: str) -> None:
    good = {"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
    for body in (document, good | document):
        try:
            getattr(openai, reader)(body, Limits())
        except InputError as error:
            assert error.expected
            assert error.got
