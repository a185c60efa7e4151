"""A YOLOv8-style head, as the tensors it would give and as a small net that really has one."""

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

Array = np.ndarray[Any, Any]
BINS = 16
STRIDES = (8, 16, 32)


def cells(canvas: tuple[int, int], stride: int) -> int:
    """How many cells a grid has."""
    return (canvas[0] // stride) * (canvas[1] // stride)


def encode(
    boxes: Array,
    scores: Array,
    classes: Array,
    canvas: tuple[int, int],
    labels: int,
    strides: tuple[int, ...],
) -> dict[str, Array]:
    """Put each box into the cell at its centre, of the finest grid that reaches its sides.

    A distance that lies between two bins is shared out between them.

    Args:
        boxes: (n, 4) xyxy, pixels of the canvas; one that is infinite has infinite logits.
        scores: (n,) in (0, 1).
        classes: (n,).
        canvas: (height, width).
        labels: How many classes there are.
        strides: Of the grids.
    """
    counts = [cells(canvas, stride) for stride in strides]
    distances = np.zeros((4, BINS, sum(counts)), np.float32)
    logits = np.full((labels, sum(counts)), -12, np.float32)
    for box, score, kind in zip(boxes, scores, classes, strict=True):
        if not np.isfinite(box).all():
            distances[:, :, 0] = np.inf
            logits[kind, 0] = np.log(score / (1 - score))
            continue
        first = 0
        for stride in strides:
            rows, columns = canvas[0] // stride, canvas[1] // stride
            middle = (box[:2] + box[2:]) / 2 // stride
            column, row = np.clip(middle, 0, (columns - 1, rows - 1)).astype(int)
            centre = np.array([column, row, column, row]) + 0.5
            sides = (box / stride - centre) * np.array([-1, -1, 1, 1])
            at = first + row * columns + column
            first += rows * columns
            if sides.max() <= BINS - 1:
                break
        shares = np.maximum(1 - np.abs(sides[:, None] - np.arange(BINS)), 1e-12)
        distances[:, :, at] = np.log(shares)
        logits[kind, at] = np.log(score / (1 - score))
    return {"distances": distances.reshape(1, 4 * BINS, -1), "scores": logits[None]}


def net(seed: int, side: int = 64, labels: int = 3, *, softmax: bool = True) -> onnx.ModelProto:
    """Make a net whose pictures (1, 3, side, side) become `output0` (1, 4 + labels, n), as from exporters.

    Args:
        seed: Of its weights.
        side: Of its picture.
        labels: How many classes it has.
        softmax: False: its distances come another way.
    """
    rng = np.random.default_rng(seed)
    counts = [cells((side, side), stride) for stride in STRIDES]
    count, wide = sum(counts), 4 * BINS + labels
    levels = "\n".join(
        f"""pool{s} = AveragePool<kernel_shape = [{s}, {s}], strides = [{s}, {s}]>(image)
            conv{s} = Conv(pool{s}, weight{s})
            flat{s} = Reshape(conv{s}, flat)"""
        for s in STRIDES
    )
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        head (float[1, 3, {side}, {side}] image) => (float[1, {4 + labels}, {count}] output0) {{
            {levels}
            all = Concat<axis = 2>({", ".join(f"flat{s}" for s in STRIDES)})
            raw, kinds = Split<axis = 1>(all, parts)
            bins = Reshape(raw, sides)
            turned = Transpose<perm = [0, 2, 1, 3]>(bins)
            shares = {"Softmax<axis = 1>" if softmax else "Relu"}(turned)
            mean = Conv(shares, expectation)
            distances = Reshape(mean, four)
            before, behind = Split<axis = 1>(distances, halves)
            first = Sub(centres, before)
            last = Add(centres, behind)
            total = Add(first, last)
            middle = Mul(total, half)
            size = Sub(last, first)
            cells = Concat<axis = 1>(middle, size)
            boxes = Mul(cells, strides)
            probabilities = Sigmoid(kinds)
            output0 = Concat<axis = 1>(boxes, probabilities)
        }}"""
    centres, strides = [], []
    for stride, number in zip(STRIDES, counts, strict=True):
        grid = np.mgrid[: side // stride, : side // stride].reshape(2, -1)[::-1] + 0.5
        centres.append(grid)
        strides.append(np.full(number, stride))
    stored: dict[str, Array] = {
        **{f"weight{s}": rng.normal(0, 6, (wide, 3, 1, 1)).astype(np.float32) for s in STRIDES},
        "flat": np.array([1, wide, -1]),
        "parts": np.array([4 * BINS, labels]),
        "sides": np.array([1, 4, BINS, count]),
        "expectation": np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1),
        "four": np.array([1, 4, count]),
        "halves": np.array([2, 2]),
        "centres": np.concatenate(centres, axis=1)[None].astype(np.float32),
        "half": np.float32(0.5),
        "strides": np.concatenate(strides).astype(np.float32),
    }
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in stored.items())
    return onnx.shape_inference.infer_shapes(model)
