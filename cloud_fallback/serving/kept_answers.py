"""Answers as bytes, to be given again for the same request id, and requests as short digests.

Uses the forms that cross the wire: v2 binary for tensors, the JSON of `/v1/predict` for the rest. Keeps
nothing; `idempotency` does.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer
from edge_runtime.protocol import answers, datatypes, json_document, v2
from edge_runtime.protocol.backend import TensorAnswer

_HEAD = struct.Struct("<I")
_DIGEST_BYTES = 16


def tensor_answer_bytes(answer: TensorAnswer) -> bytes:
    """Write an answer on tensors.

    Raises:
        EngineError: A tensor cannot be carried.
    """
    body, head = v2.encode_response(
        answer.tensors,
        model=answer.model,
        version=answer.version,
        parameters=answer.details,
        wanted=v2.Wanted(binary=True),
    )
    return _HEAD.pack(len(body) if head is None else head) + body


def tensor_answer_of(content: bytes) -> TensorAnswer:
    """Read an answer on tensors.

    Raises:
        RemoteError: The bytes are none.
    """
    (head,) = _HEAD.unpack_from(content)
    found = v2.decode_response(content[_HEAD.size :], head)
    return TensorAnswer(found.tensors, found.model, found.version, found.parameters)


def answer_bytes(answer: Answer[Any]) -> bytes:
    """Write an answer of a task.

    Raises:
        EngineError: It is of no known task.
    """
    return json_document.write(answers.document_of(answer, ""))


def answer_of(content: bytes) -> Answer[Any]:
    """Read an answer of a task.

    Raises:
        RemoteError: The bytes are none.
    """
    return answers.parse(json_document.read_object(content))


def fingerprint(request: Request, outputs: Sequence[str] | None = None) -> bytes:
    """Give a digest of what is asked; how long the answer may take is no part of it.

    Args:
        request: Its id is no part, either.
        outputs: The tensors wanted; None: all.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    parameters = sorted(request.parameters.items())
    digest.update(repr((request.model, request.version, parameters, outputs and list(outputs))).encode())
    match request.value:
        case str() | Prompt():
            digest.update(repr(request.value).encode("utf-8", "surrogatepass"))
        case Picture():
            digest.update(repr((request.value.format, request.value.height, request.value.width)).encode())
            for plane in request.value.planes:
                digest.update(plane.tobytes())
        case _:
            for name, array in sorted(request.value.items()):
                digest.update(repr((name, datatypes.datatype_of(array), array.shape)).encode())
                content = datatypes.to_bytes(array)
                digest.update(content if isinstance(content, bytes) else content.tobytes())
    return digest.digest()
