"""The messages of the Open Inference Protocol's gRPC service, built from a table when this is imported.

Names and numbers are those of KServe's and Triton's published `inference` package; they are the protocol.
There is no generated code and no build step. The messages live in a pool of their own, so that a client's
generated classes of the same names may be loaded beside them. Serves nothing; `grpc_door` does.
"""

from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_PARAMETERS = "map InferParameter parameters"
_TENSOR = (
    f"1 string name, 2 string datatype, 3 * int64 shape, 4 {_PARAMETERS}, 5 InferTensorContents contents"
)

_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 bool ready",
    "ModelReadyRequest": "1 string name, 2 string version",
    "ModelReadyResponse": "1 bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 string name, 2 string version, 3 * string extensions",
    "ModelMetadataRequest": "1 string name, 2 string version",
    "ModelMetadataResponse": (
        "1 string name, 2 * string versions, 3 string platform,"
        " 4 * ModelMetadataResponse.TensorMetadata inputs, 5 * ModelMetadataResponse.TensorMetadata outputs"
    ),
    "ModelMetadataResponse.TensorMetadata": "1 string name, 2 string datatype, 3 * int64 shape",
    "InferParameter": (
        "1 | bool bool_param, 2 | int64 int64_param, 3 | string string_param, 4 | double double_param,"
        " 5 | uint64 uint64_param"
    ),
    "InferTensorContents": (
        "1 * bool bool_contents, 2 * int32 int_contents, 3 * int64 int64_contents, 4 * uint32 uint_contents,"
        " 5 * uint64 uint64_contents, 6 * float fp32_contents, 7 * double fp64_contents,"
        " 8 * bytes bytes_contents"
    ),
    "ModelInferRequest": (
        f"1 string model_name, 2 string model_version, 3 string id, 4 {_PARAMETERS},"
        " 5 * ModelInferRequest.InferInputTensor inputs,"
        " 6 * ModelInferRequest.InferRequestedOutputTensor outputs, 7 * bytes raw_input_contents"
    ),
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": f"1 string name, 2 {_PARAMETERS}",
    "ModelInferResponse": (
        f"1 string model_name, 2 string model_version, 3 string id, 4 {_PARAMETERS},"
        " 5 * ModelInferResponse.InferOutputTensor outputs, 6 * bytes raw_output_contents"
    ),
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "ModelStreamInferResponse": "1 string error_message, 2 ModelInferResponse infer_response",
    "RepositoryIndexRequest": "1 string repository_name, 2 bool ready",
    "RepositoryIndexResponse": "1 * RepositoryIndexResponse.ModelIndex models",
    "RepositoryIndexResponse.ModelIndex": "1 string name, 2 string version, 3 string state, 4 string reason",
    "ModelRepositoryParameter": (
        "1 | bool bool_param, 2 | int64 int64_param, 3 | string string_param, 4 | bytes bytes_param"
    ),
    "RepositoryModelLoadRequest": (
        "1 string repository_name, 2 string model_name, 3 map ModelRepositoryParameter parameters"
    ),
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": (
        "1 string repository_name, 2 string model_name, 3 map ModelRepositoryParameter parameters"
    ),
    "RepositoryModelUnloadResponse": "",
}
"""Message -> `number [mark] type name`. Marks: `*` repeated, `|` one of several, `map` from string keys."""

_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}
_ONE_OF = "parameter_choice"


def message_class(name: str) -> Any:
    """Give a message's class.

    Args:
        name: As in the protocol, without the package: `ModelInferRequest`.
    """
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def _pool() -> descriptor_pool.DescriptorPool:
    file = FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, DescriptorProto] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[outer].nested_type.add() if outer else file.message_type.add()
        message.name = inner
        made[name] = message
        for field in filter(None, fields.split(", ")):
            _add_field(message, name, field)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add_field(message: DescriptorProto, scope: str, text: str) -> None:
    number, *marks, kind, name = text.split()
    field = message.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if marks == ["|"]:
        if not message.oneof_decl:
            message.oneof_decl.add(name=_ONE_OF)
        field.oneof_index = 0
    elif marks:
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if marks == ["map"]:
        # A map on the wire is a repeated message of a key and a value.
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, scope, "1 string key")
        _add_field(entry, scope, f"2 {kind} value")
        kind = f"{scope}.{entry.name}"
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


_POOL = _pool()
