"""From torch to TensorFlow Lite, by litert-torch; runs in that tool's own environment.

Float32 only: `quantize.litert` makes smaller ones of it. Fixed shapes only.
"""

import os
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from converters.export.torch_capture import capture, hushed, unsupported
from converters.export.torch_net import Net, colour_of, with_pictures
from converters.export.torch_onnx import load_for
from converters.export.torch_parity import relative_error
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.litert import LiteRt

_LIMIT_BYTES = 2**31 - 1
"""A FlatBuffers file addresses its content with 31 bits."""
_SIGNATURE = "serving_default"


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the TFLite model of a torch source.

    Args:
        inputs: `source`: weights or exported program, `module`: a Python file; each where the recipe has one.
        out: Gets `model.tflite`.
        options: As for `torch_onnx:export`, without `opset`. Pictures come with channels last in any case.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`, `parity` with the module's own answers; for pictures
        `layout`, `folded` and `input`, the ImageInput of this model.

    Raises:
        ConversionError: The source cannot be loaded, run, captured or translated, or open axes were wanted.
    """
    if options.get("dynamic"):
        raise ConversionError(
            "TFLite models of torch sources have fixed shapes",
            expected="`dynamic: false`",
            got="open axes",
            do="Give one size; use ONNX for a model that takes any",
        )
    tell(0.0, "loading the module")
    net = load_for(inputs, options, dynamic=False)
    net = with_pictures(net, fold=bool(options.get("fold")), layout="nhwc", colour=colour_of(options))
    return write(net, out, tell)


def write(net: Net, out: Path, tell: Tell) -> Facts:
    """Write a net as TFLite; see `export`."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.module.parameters())
    if size > _LIMIT_BYTES:
        raise ConversionError(
            "the weights do not fit into a TFLite file",
            expected=f"at most {_LIMIT_BYTES} bytes",
            got=f"{size} bytes",
            do="Leave this format out (`want.formats`)",
        )
    tell(0.1, "translating to TFLite")
    content = _convert(net)
    tell(0.9, "comparing with torch")
    file = out / MODEL_FILES["tflite"]
    file.write_bytes(content)
    return _facts(net, file)


def _convert(net: Net) -> bytes:
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    with hushed():
        import litert_torch  # pyright: ignore[reportMissingImports] - in the tool's own environment

        vendor: Any = litert_torch
        try:
            # By name, so that the file has the names as they were asked for.
            return vendor.convert(net.module, sample_kwargs=dict(net.examples)).model_content()
        except Exception as error:
            # It captures the module itself; where that is what failed, capturing again says so better.
            program = capture(net)
            raise unsupported("litert-torch", error, program) from error


def _facts(net: Net, file: Path) -> Facts:
    from ai_edge_litert.interpreter import Interpreter

    runner: Any = cast("Any", Interpreter)(str(file)).get_signature_runner(_SIGNATURE)
    facts = net.facts(
        {name: version(name) for name in ("ai-edge-litert", "litert-converter", "litert-torch", "torch")}
    )
    given, taken = runner.get_output_details(), runner.get_input_details()
    inputs = {name: str(taken[name]["name"]) for name in net.examples}
    outputs = {name: str(given[name]["name"]) for name in net.outputs}
    with closing(LiteRt().open(file, options=EngineOptions())) as session:
        rel = relative_error(net, session, inputs, outputs)
    facts |= {"inputs": dict(inputs), "outputs": dict(outputs), "parity": {"rel": rel}}
    narrowed = [name for name, tensor in net.examples.items() if str(tensor.dtype) == "torch.int64"]
    if narrowed:
        facts["warnings"] = [*net.warnings, f"int64 became int32: {', '.join(narrowed)}"]
    return facts
