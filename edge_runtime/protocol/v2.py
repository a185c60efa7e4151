"""Open Inference Protocol v2: requests and answers on tensors, in JSON and with the binary tensor extension.

Both sides of the wire: a door decodes requests and encodes answers, a client the other way round. Sources:
KServe, "Open Inference Protocol"; Triton Inference Server, "Binary tensor data extension", "Parameters
extension". Runs no model, opens no socket, and leaves stateful sequences, shared memory and Triton's
classification to Triton: they are refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_runtime.contract.errors import InputError, RemoteError, TooLargeError
from edge_runtime.contract.tensors import Tensors, TensorSpec, format_shape
from edge_runtime.contract.wire import V2_DATATYPES
from edge_runtime.protocol import datatypes
from edge_runtime.protocol.json_document import Document, is_array, kind_of
from edge_runtime.protocol.limits import DEFAULT_LIMITS, Limits
from edge_runtime.protocol.v2_body import (
    Encoded,
    join,
    read_name,
    read_parameters,
    read_tensors,
    read_text,
    split,
)

HEADER_LENGTH = "inference-header-content-length"
"""The HTTP header that tells how many bytes of a body are JSON; the rest are tensors."""

Scalar = str | int | float | bool
Parameters = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The outputs that a request asks for, and in which form.

    Args:
        names: None: all.
        binary: Whether they are wanted as binary data.
        named: Whether those that say so themselves are.
    """

    names: tuple[str, ...] | None = None
    binary: bool = False
    named: Mapping[str, bool] = field(default_factory=dict[str, bool])

    def is_binary(self, output: str) -> bool:
        """Tell in which form an output is wanted."""
        return self.named.get(output, self.binary)


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What was asked.

    Args:
        id: The caller's name for it; empty: none.
        tensors: The inputs; may be views into the body, read-only. Texts: object arrays of `str`.
        wanted: The outputs.
        parameters: All others.
        priority: From 1, the highest; None: the usual.
        timeout_s: None: none given.
    """

    id: str
    tensors: Tensors
    wanted: Wanted
    parameters: Parameters
    priority: int | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class InferResponse:
    """What was answered.

    Args:
        id: As the request had it; empty: none.
        model: Who answered.
        version: Of it; empty where the server tells none.
        tensors: The outputs.
        parameters: Route, reason, variant, … where the server is ours.
    """

    id: str
    model: str
    version: str
    tensors: Tensors
    parameters: Parameters


def decode_request(
    body: bytes,
    header_length: int | None,
    *,
    inputs: Sequence[TensorSpec] | None = None,
    outputs: Sequence[TensorSpec] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> InferRequest:
    """Read a request.

    Args:
        body: Decompressed.
        header_length: Bytes of it that are JSON; None: all.
        inputs: What the model takes; None: not known here, so that nothing is compared.
        outputs: What the model gives; None: not known here.
        limits: What is taken.

    Raises:
        InputError: It is not what the protocol or the model says; expected and got are told.
        TooLargeError: Too many tensors or elements.
    """
    if len(body) > limits.body_bytes:
        raise TooLargeError("body", expected=f"at most {limits.body_bytes} bytes", got=f"{len(body)}")
    document, binary = split(body, header_length)
    parameters = read_parameters(document, "request")
    tensors = read_tensors(document, "inputs", binary, limits)
    if inputs is not None:
        check_inputs(tensors, inputs)
    check_finite(tensors, limits)
    wanted = _wanted(document, parameters.pop("binary_data_output", False), outputs)
    priority = parameters.pop("priority", None)
    if priority is not None and (type(priority) is not int or priority < 0):
        raise InputError("parameter 'priority'", expected="a whole number from 0 on", got=kind_of(priority))
    timeout_us = parameters.pop("timeout", None)
    if timeout_us is not None and (type(timeout_us) is not int or timeout_us < 0):
        raise InputError(
            "parameter 'timeout'", expected="microseconds, a whole number", got=kind_of(timeout_us)
        )
    return InferRequest(
        read_text(document, "id"),
        tensors,
        wanted,
        parameters,
        priority or None,  # 0 is the protocol's word for the usual one
        timeout_us / 1e6 if timeout_us else None,
    )


def encode_response(
    tensors: Tensors,
    *,
    model: str,
    version: str,
    id: str = "",  # noqa: A002 - the protocol's name
    parameters: Parameters | None = None,
    wanted: Wanted = Wanted(),
) -> Encoded:
    """Write an answer.

    Args:
        tensors: The outputs.
        model: Who answered.
        version: Of it.
        id: As the request had it; empty: none.
        parameters: To tell with it.
        wanted: In which form.

    Raises:
        EngineError: A tensor cannot be carried, or has NaN where JSON is wanted.
    """
    document: Document = {"model_name": model, "model_version": version}
    if id:
        document["id"] = id
    if parameters:
        document["parameters"] = parameters
    return join(document, "outputs", tensors, wanted.is_binary)


def encode_request(
    tensors: Tensors,
    *,
    outputs: Sequence[str] | None = None,
    id: str = "",  # noqa: A002 - the protocol's name
    parameters: Parameters | None = None,
    priority: int | None = None,
    timeout_s: float | None = None,
    binary: bool = True,
) -> Encoded:
    """Write a request.

    Args:
        tensors: The inputs.
        outputs: Those wanted; None: all.
        id: A name for it; empty: none.
        parameters: Others.
        priority: From 1, the highest; None: the usual.
        timeout_s: None: none.
        binary: Whether tensors go and come as binary data; False: as JSON.

    Raises:
        EngineError: A tensor cannot be carried.
    """
    said: dict[str, Scalar] = dict(parameters or {})
    if binary:
        said["binary_data_output"] = True
    if priority is not None:
        said["priority"] = priority
    if timeout_s is not None:
        said["timeout"] = round(timeout_s * 1e6)
    document: Document = {"id": id} if id else {}
    if said:
        document["parameters"] = said
    if outputs is not None:
        document["outputs"] = [{"name": name} for name in outputs]
    return join(document, "inputs", tensors, lambda _: binary)


def decode_response(
    body: bytes, header_length: int | None, *, limits: Limits = DEFAULT_LIMITS
) -> InferResponse:
    """Read an answer.

    Args:
        body: Decompressed.
        header_length: Bytes of it that are JSON; None: all.
        limits: What is taken; NaN is, as the model gave it.

    Raises:
        RemoteError: It is no answer of this protocol.
    """
    try:
        document, binary = split(body, header_length)
        return InferResponse(
            read_text(document, "id"),
            read_text(document, "model_name"),
            read_text(document, "model_version"),
            read_tensors(document, "outputs", binary, limits),
            read_parameters(document, "answer"),
        )
    except InputError as error:
        raise RemoteError(
            f"the server's answer: {error.problem}", retryable=False, expected=error.expected, got=error.got
        ) from error


def header_length_of(value: bytes | str | None, body_bytes: int) -> int | None:
    """Read the HTTP header that tells how many bytes are JSON.

    Args:
        value: As it came; None: absent.
        body_bytes: How long the body is.

    Raises:
        InputError: It is no number, or more than there is.
    """
    if value is None:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) > body_bytes:
        raise InputError(
            "header Inference-Header-Content-Length",
            expected=f"0 to {body_bytes}, the body's bytes",
            got=text[:40],
        )
    return int(text)


def check_inputs(tensors: Tensors, specs: Sequence[TensorSpec]) -> None:
    """Refuse tensors whose names, datatypes or shapes a model does not take.

    Args:
        tensors: What came; texts as object arrays.
        specs: What the model declares.

    Raises:
        InputError: Names the tensor, what was expected and what came.
    """
    if len(tensors) != len(specs) or any(spec.name not in tensors for spec in specs):
        raise InputError(
            "input names do not match the model",
            expected=", ".join(spec.name for spec in specs),
            got=", ".join(tensors)[:500] or "none",
        )
    for spec in specs:
        array = tensors[spec.name]
        got = datatypes.datatype_of(array)
        expected = V2_DATATYPES.get(spec.dtype, spec.dtype)
        if got != expected or not spec.accepts(array.shape):
            raise InputError(
                f"input '{spec.name}'",
                expected=f"{expected} {format_shape(spec.shape)}",
                got=f"{got} {format_shape(array.shape)}",
            )


def check_finite(tensors: Tensors, limits: Limits) -> None:
    """Refuse tensors that hold NaN or infinities, where the limits say so.

    Raises:
        InputError: Names the tensor, and the first such element.
    """
    if limits.infinite:
        return
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            first = int(np.flatnonzero(~np.isfinite(array))[0])
            raise InputError(
                f"input '{name}'", expected="numbers", got=f"{array.reshape(-1)[first]} at element {first}"
            )


def _wanted(document: Document, binary: object, specs: Sequence[TensorSpec] | None) -> Wanted:
    if not isinstance(binary, bool):
        raise InputError("parameter 'binary_data_output'", expected="true or false", got=kind_of(binary))
    given = document.get("outputs")
    if given is None or given == []:
        return Wanted(None, binary)
    if not is_array(given):
        raise InputError("'outputs'", expected="an array of outputs", got=kind_of(given))
    named: dict[str, bool] = {}
    names: list[str] = []
    for entry in given:
        name = read_name(entry, "outputs")
        if name in names:
            raise InputError("'outputs'", expected="every output once", got=f"'{name}' twice")
        if specs is not None and all(spec.name != name for spec in specs):
            raise InputError("'outputs'", expected=", ".join(spec.name for spec in specs), got=name)
        names.append(name)
        form = read_parameters(entry, f"output '{name}'").get("binary_data")
        if form is not None:
            if not isinstance(form, bool):
                raise InputError(
                    f"'binary_data' of output '{name}'", expected="true or false", got=kind_of(form)
                )
            named[name] = form
    return Wanted(tuple(names), binary, named)
