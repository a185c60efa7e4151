"""From torch to an asset of Apple's Core AI, by coreai-torch; runs in that tool's own environment.

Makes float32: the device compiles the asset for its own processors. Fixed shapes only. The tool gives parts
of a program names by chance, so the same model gives other bytes in another run.
"""

from collections.abc import Mapping
from contextlib import closing, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from sys import stderr
from typing import Any

from converters.export.fixed_shapes import FixedShapes
from converters.export.torch_capture import capture, hushed, unsupported
from converters.export.torch_net import Net
from converters.export.torch_parity import relative_error
from converters.step import MODEL_FILES, Facts, Options, Tell
from converters.verify.coreai import CoreAiSession


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the Core AI asset of a torch source; see `FixedShapes.of_torch`.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`, `parity` with the module's own answers; for pictures
        `layout`, `folded` and `input`, the ImageInput of this model. Folded pixels are float32, 0–255.
    """
    return TARGET.of_torch(inputs, out, options, tell)


def export_onnx(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the Core AI asset of an ONNX model; see `FixedShapes.of_onnx`."""
    return TARGET.of_onnx(inputs, out, options, tell)


def write(net: Net, out: Path, options: Options, tell: Tell) -> Facts:
    """Write a net as a Core AI asset; see `export`. It has no options of its own."""
    asset = out / MODEL_FILES["aimodel"]
    tell(0.1, "capturing the computation")
    with hushed(), redirect_stdout(stderr):
        vendor: Any = import_module("coreai_torch")  # by name: only the tool's own environment has it
        program = capture(net)
        tell(0.3, "translating to Core AI")
        try:
            converter: Any = vendor.TorchConverter().add_exported_program(
                program.run_decompositions(vendor.get_decomp_table()),
                input_names=list(net.examples),
                output_names=list(net.outputs),
            )
            converter.to_coreai().save_asset(asset)
        except Exception as error:
            raise unsupported("coreai-torch", error, program) from error
        tell(0.9, "comparing with torch")
        facts = net.facts({name: version(name) for name in ("coreai-core", "coreai-torch", "torch")})
        names = {name: name for name in (*net.examples, *net.outputs)}
        with closing(CoreAiSession(asset)) as session:
            rel = relative_error(net, session, names, names)
    facts["parity"] = {"rel": rel}
    narrowed = [name for name, tensor in net.examples.items() if str(tensor.dtype) == "torch.int64"]
    if narrowed:
        facts["warnings"] = [*net.warnings, f"int64 became int32: {', '.join(narrowed)}"]
    return facts


TARGET = FixedShapes("Core AI", write, pixels="float32")
