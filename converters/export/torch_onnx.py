"""From torch to ONNX, by torch's own dynamo exporter.

Changes no number format. The legacy exporter is not used: no target needs it, as Core ML is made from torch
directly.
"""

import re
import tempfile
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from converters.export import onnx_graph, onnx_source
from converters.export.torch_capture import capture, hushed, unsupported
from converters.export.torch_net import Net, colour_of, image_of, layer_path, with_pictures
from converters.export.torch_parity import relative_error
from converters.export.torch_source import load
from converters.recipe import Source
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    from onnx import ModelProto

_NATIVE_OPSET = 18
"""What torch's translations are written for; older ones are made by onnx's version converter."""


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the ONNX model of a torch source.

    Args:
        inputs: `source`: weights or exported program, `module`: a Python file; each where the recipe has one.
        out: Gets `model.onnx`, and `model.onnx.data` where the weights do not fit into one message.
        options: `source`: the recipe's Source. `opset`: version of the standard operators. `input` or `task`:
            how a picture goes in. `size`: [height, width]. `fold`: take uint8 NHWC pictures and normalise
            inside; `colour` then is the order of the channels that go in. `dynamic`: keep declared axes open.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`, `opset`, `parity` with the module's own answers; for
        pictures `layout`, `folded` and `input`, the ImageInput of this model.

    Raises:
        ConversionError: The source cannot be loaded, run, captured or translated.
    """
    tell(0.0, "loading the module")
    net = load_for(inputs, options, dynamic=bool(options.get("dynamic")))
    net = with_pictures(net, fold=bool(options.get("fold")), colour=colour_of(options))
    return write(net, out, options, tell, dynamic=bool(options.get("dynamic")))


def load_for(inputs: Mapping[str, Path], options: Options, *, dynamic: bool) -> Net:
    """Load the source that a step's options name; what every exporter of torch begins with."""
    size = options.get("size")
    return load(
        Source.model_validate(options["source"]),
        inputs,
        image=image_of(options),
        size=None if size is None else TypeAdapter(tuple[int, int]).validate_python(size),
        dynamic=dynamic,
    )


def write(net: Net, out: Path, options: Options, tell: Tell, *, dynamic: bool) -> Facts:
    """Write a net as ONNX; see `export`."""
    import torch

    dynamic = dynamic and any(net.dynamic.values())
    tell(0.1, "capturing the computation")
    with hushed():
        program = capture(net, dynamic=dynamic)
        tell(0.3, "translating to ONNX")
        opset = options.get("opset")
        try:
            made = torch.onnx.export(
                program,
                input_names=list(net.examples),
                output_names=list(net.outputs),
                opset_version=max(opset, _NATIVE_OPSET) if isinstance(opset, int) else _NATIVE_OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            raise unsupported("torch's ONNX exporter", error, program) from error
    if made is None:
        raise ConversionError("torch's ONNX exporter gave nothing")
    with tempfile.TemporaryDirectory(dir=out) as folder:
        raw = Path(folder) / "raw.onnx"
        _save(made.model_proto, net, Path(folder))
        facts = onnx_source.normalize(
            {"source": raw}, out, {"opset": opset}, lambda share, what: tell(0.6 + 0.3 * share, what)
        )
    facts = _facts(net, facts, opset)
    tell(0.95, "comparing with torch")
    with closing(OnnxRuntime().open(out / MODEL_FILES["onnx"], options=EngineOptions())) as session:
        names = [cast("dict[str, str]", facts[kind]) for kind in ("inputs", "outputs")]
        facts["parity"] = {"rel": relative_error(net, session, *names)}
    return facts


def _facts(net: Net, made: Facts, opset: object) -> Facts:
    if isinstance(opset, int) and made["opset"] != opset:
        raise ConversionError("the exported model", expected=f"opset {opset}", got=f"opset {made['opset']}")
    tools = cast("dict[str, str]", made["tools"]) | {
        "torch": version("torch"),
        "onnxscript": version("onnxscript"),
    }
    facts = net.facts(dict(sorted(tools.items())))
    warnings = [*net.warnings, *cast("list[str]", made["warnings"])]
    facts["opset"] = made["opset"]
    # An input that nothing depends on does not survive the slimming.
    unused = sorted(set(net.examples) - set(cast("dict[str, str]", made["inputs"])))
    if unused:
        facts["inputs"] = made["inputs"]
        warnings.append(f"the outputs do not depend on {', '.join(unused)}: not an input any more")
    facts["warnings"] = list(warnings)
    return facts


def _save(model: "ModelProto", net: Net, folder: Path) -> None:
    for node in onnx_graph.nodes(model.graph):
        node.name = _node_name(node)
        for attribute in node.attribute:
            # The default, which opset 18 brought: without it a reduction can go back to opset 17.
            if attribute.name == "noop_with_empty_axes" and not attribute.i:
                node.attribute.remove(attribute)
                break
    _name_axes(model, net)
    onnx_graph.save(model, folder)
    (folder / "model.onnx").rename(folder / "raw.onnx")


def _node_name(node: Any) -> str:
    """`features.0.conv/Conv`: the module's path, as everything that speaks of layers wants it."""
    told = {entry.key: entry.value for entry in node.metadata_props}
    scopes = re.findall(r"'([^']*)'", told.get("pkg.torch.onnx.name_scopes", ""))
    path = layer_path(scopes[-2]) if len(scopes) > 1 and not scopes[-2].startswith("_") else ""
    return f"{path}/{node.op_type}" if path else node.op_type


def _name_axes(model: "ModelProto", net: Net) -> None:
    """Rename open axes from torch's `s44` to what they are: `batch`, or the input and the axis."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        for axis, length in enumerate(value.type.tensor_type.shape.dim):
            if length.dim_param:
                name = "batch" if axis == 0 and "batch" not in names.values() else f"{value.name}_{axis}"
                names.setdefault(length.dim_param, name)
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    for value in values:
        for length in value.type.tensor_type.shape.dim:
            if length.dim_param:
                length.dim_param = re.sub(
                    r"\b\w+\b", lambda found: names.get(found[0], found[0]), length.dim_param
                )
