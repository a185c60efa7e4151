"""ModelInfer's messages as the REST form of the same protocol, and answers as messages again.

One reader for both protocols: what a request may not hold is decided in `edge_runtime.protocol.v2`. Opens no
port; `grpc_door` does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloud_fallback.serving.open_inference_pb import message_class
from edge_runtime.contract.errors import InputError
from edge_runtime.contract.tensors import Array, TensorSpec
from edge_runtime.contract.wire import V2_DATATYPES
from edge_runtime.protocol import datatypes, json_document
from edge_runtime.protocol.backend import TensorAnswer

_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype -> field of typed contents. FP16 has none and travels raw."""


def rest_form(message: Any) -> tuple[bytes, int]:
    """Write a ModelInfer request as a v2 body.

    Args:
        message: `ModelInferRequest`.

    Returns:
        JSON and behind it what is raw, and how many bytes are JSON.

    Raises:
        InputError: The tensors are neither all raw nor all typed.
    """
    raw: list[bytes] = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InputError(
            "raw_input_contents", expected=f"one for each of {len(message.inputs)} inputs", got=str(len(raw))
        )
    inputs = [_rest_tensor(tensor, raw, index) for index, tensor in enumerate(message.inputs)]
    document: dict[str, Any] = {
        "id": message.id,
        "parameters": _parameters(message.parameters),
        "inputs": inputs,
        "outputs": [{"name": one.name, "parameters": _parameters(one.parameters)} for one in message.outputs],
    }
    head = json_document.write(document)
    return b"".join((head, *raw)), len(head)


def _rest_tensor(tensor: Any, raw: list[bytes], index: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "parameters": _parameters(tensor.parameters),
    }
    if len(raw) > index:
        if tensor.HasField("contents"):
            raise InputError(f"tensor '{tensor.name}'", expected="contents or raw_input_contents", got="both")
    elif tensor.datatype in {"FP32", "FP64"}:
        # Numbers that are none go the binary way, where they are refused or let through by name.
        dtype = "<f4" if tensor.datatype == "FP32" else "<f8"
        raw.append(np.array(getattr(tensor.contents, _FIELDS[tensor.datatype]), dtype).tobytes())
    else:
        described["data"] = _values(tensor)
        raw.append(b"")
        return described
    described["parameters"]["binary_data_size"] = len(raw[index])
    return described


def _values(tensor: Any) -> list[Any]:
    name = datatypes.check_datatype(tensor.name, tensor.datatype)
    if name not in _FIELDS:
        raise InputError(f"tensor '{tensor.name}'", expected=f"raw_input_contents for {name}", got="contents")
    values = list(getattr(tensor.contents, _FIELDS[name]))
    if name != datatypes.TEXT:
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise InputError(f"a text of tensor '{tensor.name}'", expected="UTF-8", got=error.reason) from error


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for key, value in parameters.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is not None:
            said[key] = getattr(value, kind)
    return said


def infer_response(answer: TensorAnswer, request_id: str, *, typed: bool) -> Any:
    """Write an answer as a `ModelInferResponse`.

    Args:
        answer: What the model gave.
        request_id: As the request had it.
        typed: Whether the request's tensors were; raw all the same where a datatype has no other form.
    """
    message = message_class("ModelInferResponse")(
        model_name=answer.model, model_version=answer.version, id=request_id
    )
    named = {name: (datatypes.datatype_of(array), array) for name, array in answer.tensors.items()}
    typed = typed and all(datatype in _FIELDS for datatype, _ in named.values())
    for name, (datatype, array) in named.items():
        tensor = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if typed:
            getattr(tensor.contents, _FIELDS[datatype]).extend(_plain(datatype, array))
        else:
            content = datatypes.to_bytes(array)
            message.raw_output_contents.append(content if isinstance(content, bytes) else content.tobytes())
    for key, value in answer.details.items():
        parameter = message.parameters[key]
        match value:
            case bool():
                parameter.bool_param = value
            case int():
                parameter.int64_param = value
            case float():
                parameter.double_param = value
            case str():
                parameter.string_param = value
    return message


def _plain(datatype: str, array: Array) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    if datatype == datatypes.TEXT:
        return [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return values


def metadata_specs(specs: Sequence[TensorSpec]) -> list[Any]:
    """Write inputs or outputs as `ModelMetadataResponse.TensorMetadata`; an axis of any length is -1."""
    kind = message_class("ModelMetadataResponse.TensorMetadata")
    return [
        kind(
            name=spec.name,
            datatype=V2_DATATYPES.get(spec.dtype, spec.dtype),
            shape=[-1 if axis is None else axis for axis in spec.shape],
        )
        for spec in specs
    ]
