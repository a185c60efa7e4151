"""From ONNX to a Core ML ML Program, by way of torch and coremltools.

Makes float16 or float32; `quantize.coreml` makes smaller ones. Static shapes only.
"""

from collections.abc import Mapping
from pathlib import Path

from converters.export import torch_coreml
from converters.step import Facts, Options, Tell


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the Core ML model of an ONNX model.

    Args:
        inputs: `model`: the folder of an ONNX model.
        out: Gets `model.mlpackage`.
        options: `task` or `input`: how a picture goes in. `fold`: take pixels 0–255 and normalise inside;
            `colour` then is the order of the channels. `minimum_target`, `precision` and `labels` as for
            `torch_coreml:export`.
        tell: Progress.

    Returns:
        As `torch_coreml:export`; `head` where suppression was taken out.

    Raises:
        ConversionError: An operator has no counterpart, or a shape is not fixed.
    """
    return torch_coreml.TARGET.of_onnx(inputs, out, options, tell)
