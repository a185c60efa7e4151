"""From ONNX to OpenVINO IR, float32. Quantizes and compresses nothing: `quantize.openvino` does."""

import re
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from converters.export import onnx_graph
from converters.export.onnx_graph import fresh
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_COUNTED = re.compile(r"(.*)_\d+")
_AT_NODE = re.compile(r"'<Node\((\w+)\): ([^>]*)>'")
"""Where OpenVINO's ONNX frontend names the node it was at, by its name or an output."""
_OPERATORS = re.compile(r"(?:No conversion rule found for operations|Conversion is failed for): *([^\n]+)")
"""Its summary, which names no node."""
_VERSION = re.compile(r"-\d+$")


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the IR of an ONNX model.

    Args:
        inputs: `model`: the folder of an ONNX model.
        out: Gets `model.xml` and `model.bin`.
        options: None.
        tell: Progress.

    Returns:
        `tools`, `inputs`, `outputs`: the names stay.

    Raises:
        ConversionError: OpenVINO does not know an operator, or cannot read the model.
    """
    vendor = load()
    tell(0.0, "converting to OpenVINO IR")
    source = inputs["model"] / MODEL_FILES["onnx"]
    try:
        model = vendor.convert_model(source)
    except Exception as error:
        raise _refusal(error, source) from error
    file = out / MODEL_FILES["openvino"]
    vendor.save_model(model, file, compress_to_fp16=False)
    make_reproducible(file, _names(source))
    return {
        "tools": {"openvino": version("openvino"), "onnx": version("onnx")},
        "inputs": {port.any_name: port.any_name for port in model.inputs},
        "outputs": {port.any_name: port.any_name for port in model.outputs},
    }


def load() -> Any:
    """Import OpenVINO without its telemetry, which would ask for the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    return openvino


def make_reproducible(file: Path, names: Collection[str] = ()) -> None:
    """Take out of an IR what differs from one run to the next: versions, options, counters in names.

    Args:
        file: `model.xml`, changed in place.
        names: Layers that the source named, which keep their names.
    """
    tree = ElementTree.parse(file)  # noqa: S314 - written by OpenVINO a moment ago
    root = tree.getroot()
    for info in root.findall("rt_info"):
        root.remove(info)
    root.set("name", "model")
    layers = root.findall("./layers/layer")
    taken = {layer.get("name", "") for layer in layers} & set(names)
    for layer in layers:
        name = layer.get("name", "")
        counted = _COUNTED.fullmatch(name)
        if name in taken or counted is None:
            continue
        # OpenVINO numbers what has no name by a counter of the whole process, and then a layer of the source
        # whose name that took; the id is one of the model.
        base = counted[1]
        layer.set(
            "name", base if base in names and base not in taken else fresh(f"{base}_{layer.get('id')}", taken)
        )
        taken.add(layer.get("name", ""))
    tree.write(file, encoding="utf-8", xml_declaration=True)


def _names(source: Path) -> set[str]:
    import onnx

    graph = onnx.load(source, load_external_data=False).graph
    return {node.name for node in graph.node} | onnx_graph.value_names(graph)


def _refusal(error: Exception, source: Path) -> ConversionError:
    import onnx

    model = onnx.load(source, load_external_data=False)
    node = _culprit(str(error), model.graph)
    if node is None:
        return ConversionError(f"OpenVINO cannot convert {source}: {brief(error)}")
    layer = node.name or node.output[0]
    return ConversionError(
        f"OpenVINO cannot convert operator {node.op_type} of layer '{layer}': {brief(error)}",
        operator=node.op_type,
        layer=layer,
        do="Export the model with other operators, or leave this format out",
    )


def _culprit(text: str, graph: "GraphProto") -> "NodeProto | None":
    """Find the node that a message is about; its other words may be operators of this graph, too."""
    nodes = list(graph.node)
    for operator, name in _AT_NODE.findall(text):
        alike = (node for node in nodes if node.op_type == operator)
        found = next((node for node in alike if name in {node.name, *node.output}), None)
        if found is not None:
            return found
    told = [word.strip() for line in _OPERATORS.findall(text) for word in line.split(",")]
    return next((node for word in told for node in nodes if _VERSION.sub("", word) == _full_name(node)), None)


def _full_name(node: "NodeProto") -> str:
    """An operator as OpenVINO writes it, but for the version: `Conv`, `custom.Blur`."""
    return node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}"
