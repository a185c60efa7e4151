"""A request as it leaves for the cloud, and an answer as it came from there: the protocol's forms and back.

Sends nothing. Texts and pictures travel to `/v1/predict` (texts as JSON, pictures as JPEG), tensors to v2's
`infer`, conversations that are streamed to the OpenAI-style routes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from edge_runtime.contract.errors import EdgeRuntimeError, InputError, RemoteError
from edge_runtime.contract.frame import Picture, PixelFormat, Plane
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer, Values
from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.protocol import answers, headers, json_document, problems, v2
from edge_runtime.protocol.json_document import Document
from edge_runtime.routing.call import Call, Reply
from edge_runtime.tasks.fitted import fitter
from edge_runtime.tasks.geometry import Rect

JPEG_QUALITY = 90
_CHARACTERS_A_TOKEN = 4
"""Of English and its like; the budget of tokens is an estimate, and says so."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is about to leave the device.

    Args:
        id: Of the request; the cloud's key for doing it once.
        model: As the cloud calls it.
        path: Where it goes.
        content_type: Of the body.
        body: The bytes.
        headers: Beside it, without credentials and deadline.
        data: What it holds.
        redacted: Classes that were removed from it.
        reason: Why it goes.
        tokens: That it may cost, estimated.
    """

    id: str
    model: str
    path: str
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict[str, str])
    data: frozenset[DataClass] = frozenset()
    redacted: frozenset[DataClass] = frozenset()
    reason: str = ""
    tokens: int = 0

    def call(self) -> Call:
        """See it as an HTTP request."""
        return Call("POST", self.path, self.body, {**self.headers, "content-type": self.content_type})


def prepare(
    request: Request,
    model: str,
    *,
    outputs: Sequence[str] | None = None,
    binary: bool = True,
    stream: bool = False,
) -> Outgoing:
    """Write a request as the cloud takes it.

    Args:
        request: The caller's, redacted already.
        model: As the cloud calls it.
        outputs: Of tensors: those wanted; None: all.
        binary: Of tensors: as binary data; False: as JSON.
        stream: Of a prompt: its answer in pieces.

    Raises:
        EdgeRuntimeError: It cannot be written: a tensor of a dtype that nobody carries, …
    """
    # What a caller said beside its request goes beside it again.
    beside, parameters = _apart(request.parameters)
    request = replace(request, parameters=parameters)
    said = headers.write(replace(beside, id=request.id, trace=request.trace, data=request.data))
    common = Outgoing(request.id, model, "", "application/json", b"", said, request.data)
    common = replace(common, tokens=tokens_of(request))
    value = request.value
    if isinstance(value, Picture):
        return replace(common, path=_predict(model, request), content_type="image/jpeg", body=jpeg(value))
    if isinstance(value, str):
        body = json_document.write({"text": value, **_parameters(request)})
        return replace(common, path=_predict(model, request), body=body)
    if isinstance(value, Prompt):
        return replace(common, **_prompt(request, value, model, stream=stream))
    encoded = v2.encode_request(
        value, outputs=outputs, id=request.id, parameters=request.parameters, binary=binary
    )
    version = f"/versions/{quote(request.version, safe='')}" if request.version else ""
    path = f"/v2/models/{quote(model, safe='')}{version}/infer"
    if encoded.header_length is None:
        return replace(common, path=path, body=encoded.body)
    length = {v2.HEADER_LENGTH: str(encoded.header_length)}
    return replace(
        common,
        path=path,
        content_type="application/octet-stream",
        body=encoded.body,
        headers={**said, **length},
    )


def event(event_id: str, path: str, document: object, data: frozenset[DataClass]) -> Outgoing:
    """Write something that happened as the cloud takes it.

    Args:
        event_id: The cloud's key for applying it once.
        path: Where it goes.
        document: JSON.
        data: What it holds.
    """
    said = headers.write(headers.Metadata(id=event_id, data=data))
    body = json_document.write(document)
    return Outgoing(event_id, "", path, "application/json", body, said, data, reason="event")


def read_answer(reply: Reply, model: str) -> Answer[Any]:
    """Read what came for a text, a picture, a prompt, or tensors.

    Returns:
        Its decision is CLOUD by policy; whoever asked knows better why.

    Raises:
        EdgeRuntimeError: The cloud refused, in the class that it named.
        RemoteError: It is no answer of ours.
    """
    check(reply)
    if v2.HEADER_LENGTH in reply.headers:
        return _values(reply, model)
    document = _document(reply)
    if "outputs" in document:
        return _values(reply, model)
    answer = answers.parse(document)
    return replace(answer, decision=Decision(Route.CLOUD, Reason.POLICY))


def read_tensors(reply: Reply) -> v2.InferResponse:
    """Read what came for tensors.

    Raises:
        EdgeRuntimeError: As `read_answer`.
    """
    check(reply)
    try:
        length = v2.header_length_of(reply.headers.get(v2.HEADER_LENGTH), len(reply.body))
    except InputError as error:
        raise RemoteError("the cloud's answer", retryable=False, got=str(error)) from error
    return v2.decode_response(reply.body, length)


def check(reply: Reply) -> None:
    """Refuse a reply that tells of an error.

    Raises:
        EdgeRuntimeError: Of the class that the cloud named.
    """
    if reply.status >= 300:
        raise error_of(reply)


def error_of(reply: Reply) -> EdgeRuntimeError:
    """Make the error that a reply tells of."""
    try:
        document = json.loads(reply.body or b"{}")
    except (ValueError, RecursionError):
        document = {"error": reply.body[:200].decode("utf-8", "replace")}
    return problems.from_http(max(400, reply.status), document, retry_after_s(reply))


def names_code(reply: Reply) -> bool:
    """Tell whether a reply is an error that names one of our codes, as only our own servers do."""
    try:
        return problems.is_known(json.loads(reply.body or b"{}"))
    except (ValueError, RecursionError):
        return False


def retry_after_s(reply: Reply) -> float | None:
    """Give the seconds of the header `Retry-After`; None where it has none, or a date."""
    try:
        return max(0.0, float(reply.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def size_of(request: Request) -> int:
    """Estimate what sending a request would take, without encoding it.

    A JPEG of quality 90 takes about two bits a pixel.
    """
    value = request.value
    if isinstance(value, Picture):
        return value.width * value.height // 4
    if isinstance(value, str):
        return len(value) + 32
    if isinstance(value, Prompt):
        return len(value.text or "") + sum(len(m.content) + 32 for m in value.messages) + 64
    return sum(array.nbytes for array in value.values()) + 256


def tokens_of(request: Request) -> int:
    """Estimate the tokens a request costs the cloud: those of its text, and of the answer it asks for."""
    value = request.value
    if isinstance(value, str):
        return 1 + len(value) // _CHARACTERS_A_TOKEN
    if isinstance(value, Prompt):
        text = len(value.text or "") + sum(len(message.content) for message in value.messages)
        return 1 + text // _CHARACTERS_A_TOKEN + (value.sampling.max_tokens or 0)
    return 0


def jpeg(picture: Picture) -> bytes:
    """Write a picture as JPEG.

    Raises:
        InputError: It cannot be written: it has no pixels.
    """
    if not picture.width or not picture.height:
        raise InputError("a picture", expected="pixels", got=f"{picture.width}×{picture.height}")
    ok, encoded = cv2.imencode(".jpg", _bgr(picture), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    if not ok:
        raise InputError(
            "a picture", expected="one that JPEG can hold", got=f"{picture.width}×{picture.height}"
        )
    return encoded.tobytes()


def _bgr(picture: Picture) -> Plane:
    if picture.format is PixelFormat.BGR:
        return np.ascontiguousarray(picture.planes[0])
    # Chroma comes in pairs: a picture of odd size loses its last row or column.
    size = (max(2, picture.height // 2 * 2), max(2, picture.width // 2 * 2))
    image = np.empty((*size, 3), np.uint8)
    whole = Rect(0, 0, picture.height, picture.width)
    fitter(picture.format, whole, size, "bgr").write(picture, image)
    return image


def _predict(model: str, request: Request) -> str:
    version = f"?version={quote(request.version, safe='')}" if request.version else ""
    return f"/v1/predict/{quote(model, safe='')}{version}"


def _apart(parameters: v2.Parameters) -> tuple[headers.Metadata, v2.Parameters]:
    """Take priority and sticky key out of a request's parameters, where the door puts them."""
    rest = dict(parameters)
    priority, sticky = rest.pop("priority", headers.USUAL_PRIORITY), rest.pop("sticky", "")
    return headers.Metadata(priority=int(priority), sticky=str(sticky)), rest


def _parameters(request: Request) -> Document:
    return {"parameters": dict(request.parameters)} if request.parameters else {}


def _prompt(request: Request, prompt: Prompt, model: str, *, stream: bool) -> dict[str, Any]:
    sampling = prompt.sampling
    chosen = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
    }
    said: Document = {key: value for key, value in chosen.items() if value is not None}
    if prompt.text is None:
        said["messages"] = [{"role": one.role, "content": one.content} for one in prompt.messages]
    else:
        said["prompt"] = prompt.text
    if not stream:
        return {"path": _predict(model, request), "body": json_document.write(said | _parameters(request))}
    said |= {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    path = "/v1/completions" if prompt.text is not None else "/v1/chat/completions"
    return {"path": path, "body": json_document.write(said)}


def _document(reply: Reply) -> Document:
    try:
        return json_document.read_object(reply.body, "the cloud's answer")
    except InputError as error:
        raise RemoteError(
            "the cloud's answer", retryable=False, expected=error.expected, got=error.got
        ) from error


def _values(reply: Reply, model: str) -> Answer[Values]:
    response = read_tensors(reply)
    return Answer(
        Values(response.tensors, ()),
        Decision(Route.CLOUD, Reason.POLICY),
        response.model or model,
        response.version,
        str(response.parameters.get("variant", "")),
        0.0,
        1.0,
    )
