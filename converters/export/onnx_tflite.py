"""From ONNX to TensorFlow Lite, by way of torch and litert-torch; runs in that tool's own environment.

Float32 only: `quantize.litert` makes smaller ones of it. Static shapes only.
"""

from collections.abc import Mapping
from pathlib import Path

from converters.export import torch_litert
from converters.export.onnx_net import net_of
from converters.export.torch_net import colour_of, with_pictures
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
    tell(0.0, "reading the graph")
    read = net_of(inputs, options)
    fold = bool(options.get("fold")) and not read.net.folded
    net = read.net
    if fold or not net.folded:
        net = with_pictures(net, fold=fold, layout="nhwc", colour=colour_of(options))
    return read.facts(torch_litert.write(net, out, tell))
