"""Makes the variants of the benchmark's model that a device runs: uint8 pictures in, fp32 and int8 inside.

Run with the ultralytics environment's Python, which has NNCF. Trains and measures nothing.
"""

import json
import sys
from pathlib import Path

import cv2
import nncf
import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

CALIBRATION_FRAMES = 64
"""NNCF's own examples take 300; MinMax with 200 was measured worse than 64 on a detector (one outlier)."""


def fold(source: Path, target: Path) -> None:
    """Make a float NCHW [0, 1] input uint8 NHWC: transpose inside, 1/255 in the first convolution."""
    model = onnx.load(source)
    graph = model.graph
    old = graph.input[0]
    _, channels, height, width = (axis.dim_value for axis in old.type.tensor_type.shape.dim)
    first = next(node for node in graph.node if old.name in node.input)
    if first.op_type != "Conv":
        raise SystemExit(f"{source.name}: expected a convolution on the input, got {first.op_type}")
    weights = next(tensor for tensor in graph.initializer if tensor.name == first.input[1])
    scaled = (numpy_helper.to_array(weights) / 255.0).astype(np.float32)
    weights.CopyFrom(numpy_helper.from_array(scaled, weights.name))
    del graph.input[0]
    graph.input.insert(
        0, helper.make_tensor_value_info("picture", TensorProto.UINT8, [1, height, width, channels])
    )
    graph.node.insert(0, helper.make_node("Transpose", ["picture"], ["planes"], perm=[0, 3, 1, 2]))
    graph.node.insert(1, helper.make_node("Cast", ["planes"], [old.name], to=TensorProto.FLOAT))
    onnx.checker.check_model(model)
    onnx.save(model, target)


def letterbox(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fit a BGR picture into a grey canvas, centred; give `(1, height, width, 3)` uint8 RGB."""
    factor = min(height / picture.shape[0], width / picture.shape[1])
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    canvas = np.full((height, width, 3), 114, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    small = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    canvas[top : top + size[1], left : left + size[0]] = small
    return np.ascontiguousarray(canvas[None, :, :, ::-1])


def quantize(source: Path, target: Path, frames: list[Path]) -> None:
    """Write an int8 OpenVINO model, calibrated on frames of the scene; box arithmetic stays float."""
    model = ov.convert_model(source)
    _, height, width, _ = model.input(0).get_shape()
    chosen = frames[:: max(1, len(frames) // CALIBRATION_FRAMES)][:CALIBRATION_FRAMES]
    pictures = [letterbox(cv2.imread(str(path)), height, width) for path in chosen]
    # Quantized whole, a YOLO head answers zero scores: pixels and probabilities do not share 8 bits.
    head = nncf.IgnoredScope(patterns=[r".*/model\.23/(?!cv[23]).*"], validate=False)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(pictures),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=head,
        subset_size=len(pictures),
    )
    ov.save_model(quantized, target)


def main() -> None:
    folder = Path(json.loads(sys.argv[1])["folder"])
    seen = [Path(line) for line in (folder / "train.txt").read_text().splitlines()]
    for size in (320, 640):
        uint8 = folder / f"uint8-{size}.onnx"
        fold(folder / f"cut-{size}.onnx", uint8)
        ov.save_model(ov.convert_model(uint8), folder / f"openvino-fp32-{size}" / "model.xml")
        quantize(uint8, folder / f"openvino-int8-{size}" / "model.xml", seen)


if __name__ == "__main__":
    main()
