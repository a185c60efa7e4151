"""Answers as JSON documents, and back: what `/v1/predict` gives and what a client of ours makes of it.

Labels of a model do not travel; the names of those that were found do. Computes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import EngineError, InputError, RemoteError
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
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.protocol import datatypes
from edge_runtime.protocol.json_document import Document, is_object, kind_of
from edge_runtime.protocol.limits import DEFAULT_LIMITS

_CLASSES = 1 << 16
_FIELDS = ("result", "route", "reason", "model", "version", "variant", "latency_ms", "confidence")


def document_of(answer: Answer[Any], request_id: str) -> Document:
    """Write an answer.

    Args:
        answer: Of any task.
        request_id: The request that it answers.

    Raises:
        EngineError: Its value is of no known task.
    """
    return {
        "id": request_id,
        "model": answer.model,
        "version": answer.version,
        "variant": answer.variant,
        "route": answer.decision.route.value,
        "reason": answer.decision.reason.value,
        "detail": answer.decision.detail,
        "latency_ms": round(answer.latency_ms, 3),
        "confidence": round(float(answer.confidence), 6),
        "result": result_of(answer.value),
    }


def result_of(value: object) -> Document:
    """Write what a model found.

    Raises:
        EngineError: It is of no known task.
    """
    write = _WRITERS.get(type(value))
    if write is None:
        raise EngineError(
            "an answer", expected=", ".join(k.__name__ for k in _WRITERS), got=type(value).__name__
        )
    return write(value)


def parse(document: Document) -> Answer[Any]:
    """Read an answer.

    Args:
        document: As `document_of` writes it.

    Returns:
        The labels of its value hold the names of the classes that were found, at their places; other places
        hold their numbers.

    Raises:
        RemoteError: It is no such document.
    """
    lacking = [name for name in _FIELDS if name not in document]
    if lacking:
        told = ", ".join(list(document)[:8]) or "nothing"
        raise _foreign(f"a document with {told[:200]}, and without {', '.join(lacking)}")
    try:
        return Answer(
            value=_result(document["result"]),
            decision=Decision(
                Route(document["route"]), Reason(document["reason"]), str(document.get("detail", ""))
            ),
            model=str(document["model"]),
            version=str(document["version"]),
            variant=str(document["variant"]),
            latency_ms=float(document["latency_ms"]),
            confidence=float(document["confidence"]),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise _foreign(str(error)) from error


def _result(result: object) -> Any:
    """Read what a model found.

    Raises:
        RemoteError: It is none of ours; says where.
    """
    if not is_object(result):
        raise _foreign(f"{kind_of(result)} as `result`")
    kind = result.get("kind")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise _foreign(f"a `result` whose `kind` is {str(kind)[:40]!r}, none of {', '.join(_READERS)}")
    try:
        return read(result)
    except KeyError as error:
        raise _foreign(
            f"a `result` of kind {kind}, in which `{str(error.args[0])[:40]}` is missing"
        ) from error
    except (TypeError, ValueError, AttributeError, OverflowError, InputError) as error:
        raise _foreign(f"a `result` of kind {kind} that cannot be read: {error}") from error


def _foreign(got: str) -> RemoteError:
    return RemoteError(
        "the server's answer",
        retryable=False,
        expected="an answer of /v1/predict",
        got=got[:300],
        do="Is that the address of an edge-runtime door?",
    )


def _name(labels: tuple[str, ...], index: int) -> str:
    return labels[index] if 0 <= index < len(labels) else str(index)


def _classes(found: Classification | TextClassification) -> list[Document]:
    return [
        {"class": int(index), "label": _name(found.labels, int(index)), "score": round(float(score), 6)}
        for index, score in zip(found.classes, found.scores, strict=True)
    ]


def _write_detections(found: Detections) -> Document:
    objects = [
        {
            "box": [round(float(edge), 2) for edge in box],
            "class": int(index),
            "label": _name(found.labels, int(index)),
            "score": round(float(score), 6),
        }
        for box, index, score in zip(found.boxes, found.classes, found.scores, strict=True)
    ]
    return {"kind": "detection", "objects": objects}


def _write_classification(found: Classification) -> Document:
    return {"kind": "classification", "classes": _classes(found)}


def _write_text(found: TextClassification) -> Document:
    return {"kind": "text-classification", "classes": _classes(found), **_seen(found)}


def _write_entities(found: Entities) -> Document:
    parts = [
        {
            "label": part.label,
            "start": part.start,
            "end": part.end,
            "text": part.text,
            "score": round(float(part.score), 6),
        }
        for part in found.entities
    ]
    return {"kind": "token-classification", "entities": parts, **_seen(found)}


def _seen(found: TextClassification | Entities) -> Document:
    return {"tokens": found.tokens, "truncated": found.truncated, "windows": found.windows}


def _write_embedding(found: Embedding) -> Document:
    vector = datatypes.to_json("vector", found.vector)
    return {"kind": "embedding", "vector": vector, "tokens": found.tokens, "truncated": found.truncated}


def _write_generation(found: Generation) -> Document:
    return {
        "kind": "generation",
        "text": found.text,
        "finish": found.finish.value,
        "prompt_tokens": found.prompt_tokens,
        "tokens": found.tokens,
    }


def _write_values(found: Values) -> Document:
    tensors = {
        name: {
            "datatype": datatypes.datatype_of(array),
            "shape": list(array.shape),
            "data": datatypes.to_json(name, array),
        }
        for name, array in found.tensors.items()
    }
    return {"kind": "tensors", "tensors": tensors, "labels": list(found.labels)}


_WRITERS: Mapping[type, Callable[[Any], Document]] = {
    Detections: _write_detections,
    Classification: _write_classification,
    TextClassification: _write_text,
    Entities: _write_entities,
    Embedding: _write_embedding,
    Generation: _write_generation,
    Values: _write_values,
}


def _labels(found: list[Document]) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for entry in found:
        index = int(entry["class"])
        if not 0 <= index < _CLASSES:
            raise ValueError(f"class {index} is none")
        names[index] = str(entry["label"])
    return tuple(names.get(index, str(index)) for index in range(max(names, default=-1) + 1))


def _floats(values: list[Any]) -> NDArray[np.float32]:
    numbers = np.array([float(value) for value in values], np.float64)
    if len(numbers) and not np.abs(numbers).max() <= np.finfo(np.float32).max:
        raise ValueError("a number is larger than float32 takes")
    return numbers.astype(np.float32)


def _edges(entry: Document) -> list[Any]:
    edges = cast(list[Any], entry["box"])
    if len(edges) != 4:
        raise ValueError("a box has other than 4 edges")
    return edges


def _scores(found: list[Document]) -> Any:
    return _floats([entry["score"] for entry in found])


def _ids(found: list[Document]) -> Any:
    return np.array([int(entry["class"]) for entry in found], np.int32)


def _read_detections(result: Document) -> Detections:
    found: list[Document] = result["objects"]
    boxes = _floats([edge for entry in found for edge in _edges(entry)]).reshape(-1, 4)
    return Detections(boxes, _scores(found), _ids(found), _labels(found))


def _read_classification(result: Document) -> Classification:
    found: list[Document] = result["classes"]
    return Classification(_ids(found), _scores(found), _labels(found))


def _read_text(result: Document) -> TextClassification:
    found: list[Document] = result["classes"]
    return TextClassification(
        _ids(found),
        _scores(found),
        _labels(found),
        int(result["tokens"]),
        _flag(result),
        int(result["windows"]),
    )


def _read_entities(result: Document) -> Entities:
    parts = tuple(
        Entity(str(p["label"]), int(p["start"]), int(p["end"]), str(p["text"]), float(p["score"]))
        for p in cast(list[Document], result["entities"])
    )
    return Entities(parts, int(result["tokens"]), _flag(result), int(result["windows"]))


def _read_embedding(result: Document) -> Embedding:
    vector = _floats(cast(list[Any], result["vector"]))
    return Embedding(vector, int(result["tokens"]), _flag(result))


def _read_generation(result: Document) -> Generation:
    return Generation(
        str(result["text"]), Finish(result["finish"]), int(result["prompt_tokens"]), int(result["tokens"])
    )


def _read_values(result: Document) -> Values:
    tensors: dict[str, Any] = {}
    for name, tensor in cast(dict[str, Document], result["tensors"]).items():
        datatype = datatypes.check_datatype(name, tensor["datatype"])
        shape = datatypes.check_shape(name, tensor["shape"], DEFAULT_LIMITS.elements)
        tensors[name] = datatypes.from_json(name, datatype, shape, tensor["data"])
    return Values(tensors, tuple(str(label) for label in cast(list[Any], result["labels"])))


def _flag(result: Document) -> bool:
    truncated = result["truncated"]
    if not isinstance(truncated, bool):
        raise ValueError("'truncated' is neither true nor false")
    return truncated


_READERS: Mapping[str, Callable[[Document], Any]] = {
    "detection": _read_detections,
    "classification": _read_classification,
    "text-classification": _read_text,
    "token-classification": _read_entities,
    "embedding": _read_embedding,
    "generation": _read_generation,
    "tensors": _read_values,
}
