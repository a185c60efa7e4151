"""From ONNX to TensorFlow Lite, by way of torch and litert-torch; runs in that tool's own environment.

Float32 only: `quantize.litert` makes smaller ones of it. Static shapes only.
"""

from collections.abc import Mapping
from pathlib import Path

from converters.export import torch_litert
from converters.step import Facts, Options, Tell


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the TFLite model of an ONNX model.

    Args:
        inputs: `model`: the folder of an ONNX model.
        out: Gets `model.tflite`.
        options: `task` or `input`: how a picture goes in. `fold`: take uint8 pictures and normalise inside;
            `colour` then is the order of the channels. Pictures come with channels last in any case.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`; for pictures `layout`, `folded`, `input`; `head` where
        suppression was taken out.

    Raises:
        ConversionError: An operator has no counterpart, or a shape is not fixed.
    """
    return torch_litert.TARGET.of_onnx(inputs, out, options, tell)
