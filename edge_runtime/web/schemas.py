"""JSON schemas of what the door takes and gives, for its OpenAPI document.

Checks nothing: the protocols' own readers do, and say more when something is wrong.
"""

from typing import Any

from edge_runtime.contract.route import Reason, Route
from edge_runtime.contract.wire import V2_DATATYPES
from edge_runtime.protocol.json_document import Document


def _object(properties: Document, required: list[str] | None = None) -> Document:
    schema: Document = {"type": "object", "properties": properties}
    return schema | {"required": required} if required else schema


def _array(items: Document, **more: Any) -> Document:
    return {"type": "array", "items": items, **more}


ANY: Document = {"type": "object"}
ANYTHING: Document = {"type": "object", "description": "not needed"}
_TEXT: Document = {"type": "string", "minLength": 1}
_NUMBER: Document = {"type": "number"}
_WHOLE: Document = {"type": "integer"}
_FLAG: Document = {"type": "boolean"}
_PARAMETERS: Document = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string"}, _NUMBER, _FLAG]},
}

FLAG = _object({"live": _FLAG, "ready": _FLAG})

_TENSOR = _object(
    {
        "name": _TEXT,
        "datatype": {"type": "string", "enum": list(V2_DATATYPES.values())},
        "shape": _array({"type": "integer", "minimum": 0}, maxItems=32),
        "parameters": _PARAMETERS,
        "data": {
            "type": "array",
            "items": {},
            "description": "row-major, flat or nested; absent: binary data",
        },
    },
    ["name", "datatype", "shape"],
)
_OUTPUT = _object({"name": _TEXT, "parameters": _PARAMETERS}, ["name"])
INFER = _object(
    {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": _array(_TENSOR),
        "outputs": _array(_OUTPUT),
    },
    ["inputs"],
)
INFER_RESPONSE = _object(
    {
        "id": {"type": "string"},
        "model_name": _TEXT,
        "model_version": {"type": "string"},
        "parameters": _PARAMETERS,
        "outputs": _array(_TENSOR),
    },
    ["model_name", "model_version", "outputs"],
)
INDEX = _object({"ready": _FLAG})
STATES = _array(
    _object(
        {
            "name": _TEXT,
            "version": {"type": "string"},
            "state": {"type": "string", "enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
            "reason": {"type": "string"},
        },
        ["name", "version", "state"],
    )
)

_SAMPLING: Document = {
    "max_tokens": {"type": "integer", "minimum": 1},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "seed": _WHOLE,
    "stop": {"anyOf": [_TEXT, _array(_TEXT, maxItems=16)]},
}
_MESSAGES = _array(
    _object(
        {
            "role": {"type": "string", "enum": ["system", "developer", "user", "assistant"]},
            "content": {"type": "string"},
        },
        ["role", "content"],
    ),
    minItems=1,
)
PREDICT: Document = {
    "anyOf": [
        _object({"text": {"type": "string"}}, ["text"]),
        _object({"texts": _array({"type": "string"}, minItems=1)}, ["texts"]),
        _object({"prompt": {"type": "string"}, **_SAMPLING}, ["prompt"]),
        _object({"messages": _MESSAGES, **_SAMPLING}, ["messages"]),
    ]
}
_ANSWER = _object(
    {
        "id": _TEXT,
        "model": _TEXT,
        "version": {"type": "string"},
        "variant": {"type": "string"},
        "route": {"type": "string", "enum": [route.value for route in Route]},
        "reason": {"type": "string", "enum": [reason.value for reason in Reason]},
        "detail": {"type": "string"},
        "latency_ms": _NUMBER,
        "confidence": _NUMBER,
        "result": _object({"kind": _TEXT}, ["kind"]),
    },
    ["id", "model", "version", "variant", "route", "reason", "latency_ms", "confidence", "result"],
)
PREDICTION: Document = {
    "anyOf": [_ANSWER, _object({"id": _TEXT, "answers": _array(_ANSWER)}, ["id", "answers"])]
}

_STREAMED: Document = {
    "stream": _FLAG,
    "stream_options": _object({"include_usage": _FLAG}),
    "max_completion_tokens": {"type": "integer", "minimum": 1},
    "n": {"type": "integer", "minimum": 1, "maximum": 1},
    "user": {"type": "string"},
}
_ONE_OR_MORE: Document = {"anyOf": [_TEXT, _array(_TEXT, minItems=1)]}
EMBEDDINGS = _object(
    {
        "model": _TEXT,
        "input": _ONE_OR_MORE,
        "encoding_format": {"type": "string", "enum": ["float", "base64"]},
        "user": {"type": "string"},
    },
    ["model", "input"],
)
CHAT = _object({"model": _TEXT, "messages": _MESSAGES, **_SAMPLING, **_STREAMED}, ["model", "messages"])
COMPLETION = _object({"model": _TEXT, "prompt": _ONE_OR_MORE, **_SAMPLING, **_STREAMED}, ["model", "prompt"])

ERROR = _object(
    {
        "error": {"type": "string"},
        "expected": {"type": "string"},
        "got": {"type": "string"},
        "do": {"type": "string"},
        "code": {"type": "string"},
    },
    ["error", "code"],
)
OPENAI_ERROR = _object(
    {
        "error": _object(
            {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
            ["message", "type", "code"],
        )
    },
    ["error"],
)
