"""An ONNX model as it was handed over becomes the one that all later steps start from.

Checked, its weights looked at, slimmed, at the wanted opset and size. Changes no number format and folds no
preprocessing.
"""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import TypeAdapter

from converters.export import onnx_graph
from converters.export.onnx_opset import to_opset
from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import ImageInput, TaskSpec
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_STANDARD = {"", "ai.onnx", "ai.onnx.ml"}
_ONNXRUNTIME_ONLY = {"com.microsoft", "com.microsoft.nchwc"}
_LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "PRelu"}
"""Operators that turn an infinite weight into NaN; elsewhere infinity is a mask and means something."""


def normalize(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the clean ONNX model of a source.

    Args:
        inputs: `source`: the `.onnx` file, external data beside it.
        out: Gets `model.onnx`, and `model.onnx.data` where the weights do not fit into one message.
        options: `task`: the TaskSpec, whose `input.layout` says which axis is which. `size`: [height, width]
            that the picture input gets. `dynamic`: false fixes free batch axes to 1. `opset`: version of the
            standard operators; absent: as it is.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`, `opset`, and `layout` where a picture goes in.

    Raises:
        ConversionError: The file is damaged or incomplete, a weight is no number, an operator is not
            standard, or the graph cannot have this size or opset.
    """
    source = inputs["source"]
    tell(0.0, f"reading {source.name}")
    model = onnx_graph.load(source)
    _check(source)
    model = _tidy(model)
    warnings = _judge_operators(model)
    _judge_weights(model)
    image = _image(options.get("task"))
    if options.get("dynamic") is False:
        _fix_batch(model)
    if size := options.get("size"):
        height, width = TypeAdapter(tuple[int, int]).validate_python(size)
        tell(0.3, f"input {height}x{width}")
        _resize(model, image, (height, width))
    big = onnx_graph.weight_bytes(model) > onnx_graph.LIMIT_BYTES
    if big:
        warnings.append("over 2 GB: kept with external data, not slimmed")
    else:
        tell(0.5, "slimming")
        model = _slim(model, warnings)
    opset = options.get("opset")
    if isinstance(opset, int) and opset != onnx_graph.opset_of(model):
        tell(0.8, f"to opset {opset}")
        if big:
            raise ConversionError(
                "a model over 2 GB cannot change its opset",
                expected=str(opset),
                got=str(onnx_graph.opset_of(model)),
                do="Export it with that opset",
            )
        model = to_opset(model, opset)
    _name_nodes(model)
    facts = onnx_graph.facts_of(model)
    facts["tools"] = {"onnx": version("onnx"), "onnxslim": version("onnxslim")}
    facts["warnings"] = list(warnings)
    if layout := _layout(model, image):
        facts["layout"] = layout
    onnx_graph.save(model, out)
    return facts


def _check(source: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(source))
    except Exception as error:
        raise ConversionError(
            f"model {source} breaks the rules of ONNX: {brief(error)}", do="Export it again"
        ) from error


def _tidy(model: "ModelProto") -> "ModelProto":
    """Inline functions, list as inputs only what a caller fills, drop what differs between machines."""
    from onnx import inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    inputs = onnx_graph.real_inputs(graph)
    if len(inputs) != len(graph.input):
        model.ir_version = max(model.ir_version, 4)
        kept = [type(value).FromString(value.SerializeToString()) for value in inputs]
        del graph.input[:]
        graph.input.extend(kept)
    for node in onnx_graph.nodes(graph):
        node.ClearField("doc_string")  # exporters write stack traces with paths of their machine
        del node.metadata_props[:]
    del graph.metadata_props[:]
    graph.ClearField("doc_string")
    return model


def _judge_operators(model: "ModelProto") -> list[str]:
    """Refuse operators nobody here can run, and name those that one engine alone can."""
    bound: set[str] = set()
    for node in onnx_graph.nodes(model.graph):
        if node.domain in _ONNXRUNTIME_ONLY:
            bound.add(node.op_type)
        elif node.domain not in _STANDARD:
            raise ConversionError(
                f"operator '{node.domain}.{node.op_type}' of layer '{_layer(node)}' is not a standard one",
                operator=f"{node.domain}.{node.op_type}",
                layer=_layer(node),
                do="Export the model with standard ONNX operators in its place",
            )
    return [f"only onnxruntime runs {', '.join(sorted(bound))}: no other format can be made"] if bound else []


def _judge_weights(model: "ModelProto") -> None:
    from onnx import numpy_helper

    linear = {
        name for node in onnx_graph.nodes(model.graph) if node.op_type in _LINEAR for name in node.input
    }
    for tensor in onnx_graph.tensors(model.graph):
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind in "biuOSU":
            continue
        real = values.astype(np.float32) if values.dtype.itemsize < 4 else values
        nan, infinite = np.isnan(real).sum(), np.isinf(real).sum() if tensor.name in linear else 0
        if nan or infinite:
            raise ConversionError(
                f"weight '{tensor.name}'",
                expected="numbers",
                got=f"{nan} NaN and {infinite} infinite of {real.size}",
                layer=tensor.name,
                do="Take a checkpoint from before the training diverged",
            )


def _image(task: Any) -> ImageInput | None:
    if task is None:
        return None
    found = getattr(TypeAdapter[TaskSpec](TaskSpec).validate_python(task), "input", None)
    return found if isinstance(found, ImageInput) else None


def _layout(model: "ModelProto", image: ImageInput | None) -> str | None:
    for value in onnx_graph.real_inputs(model.graph):
        layout = onnx_graph.picture_layout(onnx_graph.shape_of(value))
        if layout is not None:
            return image.layout if image else layout
    return None


def _fix_batch(model: "ModelProto") -> None:
    for value in onnx_graph.real_inputs(model.graph):
        axes = value.type.tensor_type.shape.dim
        if len(axes) and not axes[0].HasField("dim_value"):
            axes[0].dim_value = 1
    onnx_graph.infer_shapes(model)


def _resize(model: "ModelProto", image: ImageInput | None, size: tuple[int, int]) -> None:
    """Give the picture input a fixed size and find out by running it whether the graph can have it."""
    value, layout = onnx_graph.picture_input(model, image)
    axes = value.type.tensor_type.shape.dim
    have = onnx_graph.shape_of(value)
    first = 2 if layout == "nchw" else 1
    if have[first : first + 2] == size:
        return
    for axis, length in zip((axes[first], axes[first + 1]), size, strict=True):
        axis.dim_value = length
    onnx_graph.infer_shapes(model)
    if onnx_graph.weight_bytes(model) <= onnx_graph.LIMIT_BYTES:
        _try(model, have, size)


def _try(model: "ModelProto", have: onnx_graph.Shape, size: tuple[int, int]) -> None:
    import onnxruntime

    vendor: Any = onnxruntime
    options = vendor.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = vendor.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
        feeds = {
            one.name: np.zeros(
                [axis if isinstance(axis, int) else 1 for axis in one.shape], types.get(one.type, np.int64)
            )
            for one in session.get_inputs()
        }
        session.run(None, feeds)
    except Exception as error:
        operator, layer = _place(str(error))
        raise ConversionError(
            f"the graph cannot have the input size {size[0]}x{size[1]}: {brief(error)}",
            operator=operator,
            layer=layer,
            expected=f"the size it was exported for, {onnx_graph.write_shape(have)}",
            do="Export the model anew with this size, or with free height and width",
        ) from error


def _place(text: str) -> tuple[str | None, str | None]:
    """Read operator and layer from what onnxruntime says when it opens or runs a model."""
    opened = re.search(r"Node \((?P<layer>.*?)\) Op \((?P<operator>\w+)\)", text)
    ran = re.search(r"running (?P<operator>\w+) node\. Name:'(?P<layer>.*?)'", text)
    found = opened or ran
    return (None, None) if found is None else (found["operator"], found["layer"])


def _slim(model: "ModelProto", warnings: list[str]) -> "ModelProto":
    """Fold constants and drop dead nodes; a graph that onnxslim cannot take stays as it is, with a word."""
    import onnx
    import onnxslim

    before = model.SerializeToString()
    try:
        slim = cast("ModelProto", onnxslim.slim(model))
        onnx.checker.check_model(slim)
    except Exception as error:  # noqa: BLE001 - a best effort on foreign graphs; told as a warning
        warnings.append(f"not slimmed: onnxslim failed ({brief(error)})")
        return onnx.ModelProto.FromString(before)
    return slim


def _name_nodes(model: "ModelProto") -> None:
    """Name every node: errors, traces and per-layer precision speak of nodes by name."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name if node.name and node.name not in taken else f"{node.op_type}_{index}"
        node.name = onnx_graph.fresh(name, taken)
        taken.add(node.name)


def _layer(node: "NodeProto") -> str:
    return node.name or (node.output[0] if node.output else node.op_type)
