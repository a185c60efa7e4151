"""From torch to a Core ML ML Program, by coremltools.

Makes float16 or float32; `quantize.coreml` makes smaller ones. Inputs are MultiArrays, never Core ML images,
as the device's engine takes them. Core ML runs on Apple systems only: nothing is run here.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from converters.export.coreml_package import make_reproducible
from converters.export.fixed_shapes import FixedShapes
from converters.export.torch_capture import capture, hushed, unsupported
from converters.export.torch_net import Net
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import TaskSpec, UnlabelledSpec

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_FIRST_TARGET = "iOS15"
"""ML Programs begin with iOS 15 and macOS 12."""
_DEFAULT_TARGET = "iOS16"
_PRECISIONS = ("fp16", "fp32")
_LABELS = "classes"
"""The metadata key under which Xcode and most apps look for labels, one a line of a comma-separated list."""


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the Core ML model of a torch source; see `FixedShapes.of_torch`.

    Args:
        inputs: As there.
        out: Gets `model.mlpackage`.
        options: As there, and: `minimum_target`: `iOS16`, `macOS13` …; `precision`: `fp16` or `fp32`;
            `labels`, or those of `task`: kept as metadata.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`, `precision`, `minimum_target`; for pictures `layout`,
        `folded` and `input`, the ImageInput of this model. Folded pixels are float32, 0–255: Core ML
        takes no bytes.
    """
    return TARGET.of_torch(inputs, out, options, tell)


def write(net: Net, out: Path, options: Options, tell: Tell) -> Facts:
    """Write a net as a Core ML package; see `export`."""
    precision = str(options.get("precision", "fp16"))
    if precision not in _PRECISIONS:
        raise ConversionError("precision", expected=" or ".join(_PRECISIONS), got=repr(precision))
    minimum = str(options.get("minimum_target", _DEFAULT_TARGET))
    tell(0.1, "capturing the computation")
    with hushed():
        program = capture(net)
        tell(0.3, "translating to Core ML")
        model = _convert(net, program, minimum, precision)
        labels = _labels(options)
        if labels:
            model.user_defined_metadata[_LABELS] = ",".join(labels)
        tell(0.8, "writing the package")
        package = out / MODEL_FILES["coreml"]
        model.save(str(package))
        make_reproducible(package)
    facts = net.facts({name: version(name) for name in ("coremltools", "torch")})
    facts |= {"precision": precision, "minimum_target": minimum}
    narrowed = [name for name, tensor in net.examples.items() if str(tensor.dtype) == "torch.int64"]
    if narrowed:
        facts["warnings"] = [*net.warnings, f"int64 became int32: {', '.join(narrowed)}"]
    return facts


def _convert(net: Net, program: "ExportedProgram", minimum: str, precision: str) -> Any:
    """Translate; what coremltools does not know is split into simpler operators where torch can do that."""
    import coremltools
    import torch

    vendor: Any = coremltools
    target = getattr(vendor.target, minimum, None)
    if target is None or target < vendor.target[_FIRST_TARGET]:
        known = [one.name for one in vendor.target if one >= vendor.target[_FIRST_TARGET]]
        raise ConversionError("minimum_target", expected=f"one of {', '.join(known)}", got=repr(minimum))
    vendor_ways: Any = torch.export.default_decompositions()
    # `alias`, what torch makes of a slice that takes all, is no operator to split: a copy is the same.
    ways: dict[Any, Any] = {**vendor_ways, torch.ops.aten.alias.default: torch.clone}
    able = {str(operator): operator for operator in ways}
    split: dict[Any, Any] = {}
    while True:
        plain = program.run_decompositions(split)
        try:
            return vendor.convert(
                plain,
                convert_to="mlprogram",
                inputs=[
                    vendor.TensorType(name, tuple(tensor.shape), dtype=_dtype(tensor))
                    for name, tensor in net.examples.items()
                ],
                # Said, because coremltools gives float16 outputs to newer targets.
                outputs=[
                    vendor.TensorType(name, dtype=_dtype(tensor))
                    for name, tensor in zip(net.outputs, _outputs(program), strict=True)
                ],
                minimum_deployment_target=target,
                compute_precision=vendor.precision.FLOAT16
                if precision == "fp16"
                else vendor.precision.FLOAT32,
                skip_model_load=True,
            )
        except Exception as error:
            refusal = unsupported("coremltools", error, plain)
            operator = able.get(refusal.operator or "")
            if operator is None or operator in split:
                raise refusal from error
            split[operator] = ways[operator]


def _outputs(program: "ExportedProgram") -> list[Any]:
    nodes: Any = program.graph.output_node().args[0]
    return [node.meta["val"] for node in nodes]


def _dtype(tensor: Any) -> Any:
    return np.float32 if tensor.is_floating_point() else np.int32


def _labels(options: Options) -> Sequence[str]:
    told = options.get("labels")
    if told is not None:
        return TypeAdapter(tuple[str, ...]).validate_python(told)
    task = options.get("task")
    if task is None:
        return ()
    found = TypeAdapter[TaskSpec](TaskSpec).validate_python(task)
    return () if isinstance(found, UnlabelledSpec) else found.labels


TARGET = FixedShapes("Core ML", write, pixels="float32")
