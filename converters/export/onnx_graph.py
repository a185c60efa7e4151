"""ONNX graphs as the steps pass them on: read with all their data, written with the same bytes each time.

Changes no graph beyond what a clean file needs, and judges none: `onnx_source` refuses bad models.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.step import MODEL_FILES, Facts
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import ImageInput
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

LIMIT_BYTES = 1_900_000_000
"""Weights beyond this go into a file beside the model: a protobuf message ends at 2 GiB."""
DATA_FILE = f"{MODEL_FILES['onnx']}.data"

Shape = tuple[int | str | None, ...]


def load(path: Path) -> "ModelProto":
    """Read a model with its external data.

    Args:
        path: The `.onnx` file; its external data lies beside it.

    Raises:
        ConversionError: The file is missing or no ONNX model, or external data is missing or too short.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ConversionError(f"model {path}", expected="a readable file", got=str(error.strerror)) from error
    except Exception as error:  # protobuf's DecodeError, whose class depends on protobuf's backend
        raise _not_onnx(path, brief(error)) from error
    if not model.ir_version or not model.graph.node:
        raise _not_onnx(path, "a file without a graph" if path.stat().st_size else "an empty file")
    for tensor in tensors(model.graph):
        _require_data(tensor, path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ConversionError(
            f"external data of {path}: {brief(error)}", do="Copy the model with all its files again"
        ) from error
    return model


def save(model: "ModelProto", out: Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Write a step's model; the same model gives the same bytes.

    Args:
        model: It may lose its weights to the file beside it.
        out: The step's folder.
        limit_bytes: More weights than this go into a file beside the model.
    """
    import onnx

    file = out / MODEL_FILES["onnx"]
    if weight_bytes(model) > limit_bytes:
        onnx.save_model(model, str(file), save_as_external_data=True, location=DATA_FILE)
        return
    file.write_bytes(model.SerializeToString(deterministic=True))


def tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    """Go through all stored tensors of a graph and of the graphs in it, constants included."""
    yield from graph.initializer
    for node in nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from attribute.g.initializer


def nodes(graph: "GraphProto") -> "Iterator[NodeProto]":
    """Go through all nodes of a graph and of the graphs in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def weight_bytes(model: "ModelProto") -> int:
    """Give the size of the stored tensors, roughly what the file will have."""
    return sum(
        len(tensor.raw_data) or 4 * len(tensor.float_data) or 8 * len(tensor.int64_data)
        for tensor in tensors(model.graph)
    )


def real_inputs(graph: "GraphProto") -> "list[ValueInfoProto]":
    """Give the inputs that a caller fills: before IR version 4 every weight was listed as well."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def shape_of(value: "ValueInfoProto") -> Shape:
    """Give a tensor's shape: a number, the name of a free axis, or None for one without a name."""
    return tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None
        for axis in value.type.tensor_type.shape.dim
    )


def write_shape(shape: Shape) -> str:
    """Write a shape for a person: `(batch, 3, ?, ?)`."""
    return "(" + ", ".join("?" if axis is None else str(axis) for axis in shape) + ")"


def constants(graph: "GraphProto") -> dict[str, Array]:
    """Give every tensor of the outer graph whose content is known: initializers and `Constant` nodes."""
    from onnx import numpy_helper

    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return known


def add_constant(graph: "GraphProto", name: str, value: Any, dtype: Any = np.float32) -> str:
    """Store a tensor in the graph.

    Returns:
        The name it got: `name`, or `name_2` … where that is taken.
    """
    from onnx import numpy_helper

    free = fresh(name, value_names(graph))
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), free))
    return free


def fresh(name: str, taken: Iterable[str]) -> str:
    """Give a name that is not taken yet."""
    used = set(taken)
    return next(n for n in [name, *(f"{name}_{i}" for i in range(2, len(used) + 3))] if n not in used)


def value_names(graph: "GraphProto") -> set[str]:
    """Give the names of all values of the outer graph."""
    return (
        {value.name for value in graph.input}
        | {tensor.name for tensor in graph.initializer}
        | {name for node in graph.node for name in (*node.input, *node.output)}
    )


def rename_value(graph: "GraphProto", old: str, new: str) -> None:
    """Rename a value wherever nodes make or take it; the graph's own inputs and outputs stay."""
    for node in nodes(graph):
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def picture_layout(shape: Shape) -> str | None:
    """Tell the layout of a picture tensor from its shape; None where it is none of three channels."""
    if len(shape) != 4:
        return None
    return "nchw" if shape[1] == 3 else "nhwc" if shape[3] == 3 else None


def picture_input(model: "ModelProto", image: ImageInput | None = None) -> "tuple[ValueInfoProto, str]":
    """Find the input that takes the picture, and its layout.

    Args:
        model: The model.
        image: What the task says of it; None: the shape tells.

    Raises:
        ConversionError: None of the inputs can be it.
    """
    inputs = real_inputs(model.graph)
    for value in inputs:
        shape = shape_of(value)
        layout = picture_layout(shape)
        if image is not None and len(shape) == 4 and shape[1 if image.layout == "nchw" else 3] == 3:
            layout = image.layout
        if layout is not None:
            return value, layout
    wanted = {"nchw": "(1, 3, height, width)", "nhwc": "(1, height, width, 3)"}
    raise ConversionError(
        "the model takes no picture",
        expected=wanted[image.layout] if image else " or ".join(wanted.values()),
        got=", ".join(f"{value.name} {write_shape(shape_of(value))}" for value in inputs) or "no input",
        do="Correct `layout` in the task's input, or leave out what is for pictures only",
    )


def infer_shapes(model: "ModelProto") -> None:
    """Let the shapes inside and of the outputs follow the inputs, in place; what stood there is forgotten.

    A shape that cannot be told stays unknown, also where layers do not fit together: running the model tells.
    """
    import onnx

    del model.graph.value_info[:]
    for value in model.graph.output:
        for axis in value.type.tensor_type.shape.dim:
            axis.Clear()
    if weight_bytes(model) > LIMIT_BYTES:
        return
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return
    model.graph.CopyFrom(inferred.graph)


def opset_of(model: "ModelProto") -> int:
    """Give the version of the standard operators that the model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1)


def facts_of(model: "ModelProto", source: Mapping[str, str] | None = None) -> Facts:
    """Say what every step that makes an ONNX model says of it.

    Args:
        model: What was made.
        source: Name of an output in the source -> its name here; None: nothing was renamed.
    """
    inputs = [value.name for value in real_inputs(model.graph)]
    outputs = source or {value.name: value.name for value in model.graph.output}
    return {
        "tools": {"onnx": version("onnx")},
        "inputs": {name: name for name in inputs},
        "outputs": dict(outputs),
        "opset": opset_of(model),
    }


def _require_data(tensor: "TensorProto", path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not entries:
        return
    file = path.parent / entries.get("location", "")
    end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
    if not file.is_file() or file.stat().st_size < end:
        got = f"{file.stat().st_size} bytes" if file.is_file() else "no such file"
        raise ConversionError(
            f"external data of {path}: {file.name} (tensor '{tensor.name}')",
            expected=f"at least {end} bytes beside the model" if end else "a file beside the model",
            got=got,
            do="Copy the model with all its files",
        )


def _not_onnx(path: Path, got: str) -> ConversionError:
    return ConversionError(
        f"model {path} is corrupt or no ONNX model",
        expected="an ONNX protobuf",
        got=got,
        do="Export it again",
    )
