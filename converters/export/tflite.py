"""TensorFlow Lite files as sources: taken as they are, or translated to ONNX.

Changes no precision: a quantized file stays one.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.export import onnx_graph, onnx_source
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import ModelProto

_MAGIC = b"TFL3"
"""The file identifier of TensorFlow Lite's schema, in bytes 4 to 8 of a FlatBuffers file."""
_BUILT_IN_CUSTOM = {"TFLite_Detection_PostProcess"}
"""The custom operator that LiteRT brings itself."""
_TF2ONNX_OPSET = 13
"""From here on QuantizeLinear knows channels; what tf2onnx is tested with."""


def take(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Take a TFLite file as it is, if LiteRT can load it.

    Args:
        inputs: `source`: the `.tflite` file.
        out: Gets `model.tflite`, the same bytes.
        options: None.
        tell: Progress.

    Returns:
        `tools`, `inputs`, `outputs`, and `layout` where a picture goes in.

    Raises:
        ConversionError: The file is damaged, has custom operators, or LiteRT does not load it.
    """
    tell(0.0, "checking the file")
    source = inputs["source"]
    content = _read(source)
    _require_known(source, content)
    interpreter = _open(source)
    shutil.copyfile(source, out / MODEL_FILES["tflite"])
    taken, given = interpreter.get_input_details(), interpreter.get_output_details()
    facts: Facts = {
        "tools": {"ai-edge-litert": version("ai-edge-litert")},
        "warnings": [],
        "inputs": {str(one["name"]): str(one["name"]) for one in taken},
        "outputs": {str(one["name"]): str(one["name"]) for one in given},
    }
    layouts = [onnx_graph.picture_layout(tuple(int(axis) for axis in one["shape"])) for one in taken]
    if found := next((layout for layout in layouts if layout), None):
        facts["layout"] = found
    return facts


def export_onnx(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the ONNX model of a TFLite file.

    Args:
        inputs: `source`: the `.tflite` file; quantized ones become QDQ graphs.
        out: Gets `model.onnx`.
        options: Those of `onnx_source:normalize`.
        tell: Progress.

    Returns:
        As `onnx_source:normalize`.

    Raises:
        ConversionError: The file is damaged, tf2onnx does not know an operator, or the result does not load.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    source = inputs["source"]
    tell(0.0, "checking the file")
    approximate = _require_known(source, _read(source))
    _open(source)
    tell(0.1, "translating to ONNX")
    model = _translate(source)
    _say_sizes(model)
    _try(model, source)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        raw = Path(folder) / "raw.onnx"
        raw.write_bytes(model.SerializeToString())
        facts = onnx_source.normalize(
            {"source": raw}, out, options, lambda share, what: tell(0.7 + 0.3 * share, what)
        )
    facts["tools"] = {name: version(name) for name in ("onnx", "onnxslim", "tf2onnx")}
    if approximate:
        facts["warnings"] = [f"ONNX has its own suppression for {', '.join(approximate)}: boxes may differ"]
    return facts


def _read(source: Path) -> bytes:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise ConversionError(
            f"model {source}", expected="a readable file", got=str(error.strerror)
        ) from error
    if content[4:8] != _MAGIC:
        raise ConversionError(
            f"model {source} is no TensorFlow Lite file",
            expected=f"the mark {_MAGIC.decode()} in bytes 4 to 8",
            got=repr(content[4:8]) if content else "an empty file",
            do="Give a .tflite file, whole",
        )
    return content


def _require_known(source: Path, content: bytes) -> list[str]:
    """Refuse custom operators, and give those that LiteRT has."""
    from ai_edge_litert import schema_py_generated

    schema: Any = schema_py_generated
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        codes: list[Any] = list(model.operatorCodes or [])
        graphs: list[Any] = model.subgraphs
        operators: list[Any] = [one for graph in graphs for one in list[Any](graph.operators or [])]
    except Exception as error:  # the reader follows offsets wherever damage points
        raise ConversionError(
            f"model {source} is damaged: {brief(error)}",
            expected="a whole file",
            do="Copy or export it again",
        ) from error
    known: list[str] = []
    for index, operator in enumerate(operators):
        custom: bytes | None = codes[operator.opcodeIndex].customCode
        name = custom.decode(errors="replace") if custom else ""
        if name in _BUILT_IN_CUSTOM:
            known.append(name)
        elif name:
            flex = name.startswith("Flex")
            raise ConversionError(
                f"custom operator {name} (number {index} of {len(operators)}) in {source}",
                operator=name,
                layer=str(index),
                expected="operators that LiteRT has itself",
                do="Convert it with built-in operators only (no SELECT_TF_OPS)"
                if flex
                else "Export the model without it",
            )
    return known


def _open(source: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter: Any = Interpreter(str(source))
        interpreter.allocate_tensors()
    except Exception as error:
        raise ConversionError(
            f"LiteRT cannot load {source}: {brief(error)}", do="Export the model again with a current version"
        ) from error
    return interpreter


def _translate(source: Path) -> "ModelProto":
    import warnings

    import tf2onnx

    vendor: Any = tf2onnx
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return vendor.convert.from_tflite(str(source), opset=_TF2ONNX_OPSET)[0]
    except Exception as error:
        raise ConversionError(
            f"tf2onnx cannot translate {source}: {brief(error)}",
            do="Give the model in the format it was trained in, or ask for TFLite only (`want.formats`)",
        ) from error


def _say_sizes(model: "ModelProto") -> None:
    """Mend Resize: 5/3 written as float32 is a little less, and 3 rows then become 4 rows, not 5.

    A layer behind a wrong size has no shape itself, so the shapes are told anew until nothing is left to
    mend.
    """
    import onnx

    known = onnx_graph.constants(model.graph)
    mended = True
    while mended:
        mended = False
        shapes = {
            value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in onnx.shape_inference.infer_shapes(model).graph.value_info
        }
        for node in model.graph.node:
            if node.op_type != "Resize" or len(node.input) != 3 or node.input[2] not in known:
                continue
            have, scales = shapes.get(node.input[0]) or [], known[node.input[2]].astype(np.float64)
            if len(have) != len(scales) or 0 in have:
                continue
            exact = np.array(have) * scales
            if (np.floor(exact) == np.rint(exact)).all():
                continue
            sizes = onnx_graph.add_constant(model.graph, f"{node.name}_sizes", np.rint(exact), np.int64)
            del node.input[1:]
            node.input.extend(["", "", sizes])
            mended = True


def _try(model: "ModelProto", source: Path) -> None:
    """Open it once: tf2onnx writes graphs that do not fit together without a word."""
    import onnxruntime

    vendor: Any = onnxruntime
    options = vendor.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = vendor.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        vendor.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionError(
            f"tf2onnx wrote a graph of {source} that does not load: {brief(error)}",
            do="Give the model in the format it was trained in, or ask for TFLite only (`want.formats`)",
        ) from error
