"""Small nets for the tests of quantization, with weights that are always the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.step import MODEL_FILES, SAMPLES_FILE
from edge_runtime.tasks.rows import write_rows

PICTURE = (1, 3, 32, 32)


class Builder:
    """Adds nodes one after another; each method gives the name of its result."""

    def __init__(self, seed: int = 7) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._dice = np.random.default_rng(seed)

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def conv(self, x: str, inside: int, out: int, size: int = 3, stride: int = 1, group: int = 1) -> str:
        shape = (out, inside // group, size, size)
        weights = self._dice.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
        bias = self._dice.normal(0, 0.1, out).astype(np.float32)
        pad = size // 2
        return self.node(
            "Conv", x, self.constant(weights), self.constant(bias),
            pads=[pad] * 4, strides=[stride] * 2, group=group,
        )  # fmt: skip

    def silu(self, x: str) -> str:
        return self.node("Mul", x, self.node("Sigmoid", x))

    def dense(self, x: str, inside: int, out: int, scale: float = 1.0) -> str:
        weights = self._dice.normal(0, scale * inside**-0.5, (inside, out)).astype(np.float32)
        return self.node("MatMul", x, self.constant(weights))

    def model(
        self, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]], opset: int = 17
    ) -> onnx.ModelProto:
        last = dict(zip(outputs, (node.output[0] for node in self.nodes[-len(outputs) :]), strict=True))
        nodes = [*self.nodes, *(helper.make_node("Identity", [made], [name]) for name, made in last.items())]

        def values(declared: Mapping[str, Sequence[Any]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
                for name, shape in declared.items()
            ]

        graph = helper.make_graph(nodes, "net", values(inputs), values(outputs), self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


def backbone(build: Builder) -> str:
    """Every pattern of a modern detector: SiLU, residual sum, concatenation, pooling, nearest upsampling."""
    stem = build.silu(build.conv("picture", 3, 16, stride=2))
    inner = build.silu(build.conv(stem, 16, 16, size=1))
    total = build.node("Add", stem, inner)
    pooled = build.node("MaxPool", total, kernel_shape=[2, 2], strides=[2, 2])
    scales = build.constant(np.float32([1, 1, 2, 2]))
    larger = build.node("Resize", pooled, "", scales, mode="nearest", nearest_mode="floor",
                        coordinate_transformation_mode="asymmetric")  # fmt: skip
    both = build.node("Concat", larger, total, axis=1)
    return build.node("Relu", build.conv(both, 32, 40))


def classifier() -> onnx.ModelProto:
    """Pictures in, ten logits out."""
    build = Builder()
    flat = build.node("Flatten", build.node("GlobalAveragePool", backbone(build)))
    weights = build.constant(np.random.default_rng(3).normal(0, 2, (40, 10)).astype(np.float32))
    build.node("Gemm", flat, weights, build.constant(np.zeros(10, np.float32)))
    return build.model({"picture": PICTURE}, {"scores": (1, 10)})


def folded() -> onnx.ModelProto:
    """The classifier, with pixels as a camera has them going in."""
    model = classifier()
    picture = model.graph.input[0]
    picture.CopyFrom(helper.make_tensor_value_info("picture", TensorProto.UINT8, [1, 32, 32, 3]))
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "picture":
                node.input[index] = "floats"
    model.graph.node.insert(
        0, helper.make_node("Transpose", ["picture"], ["planes"], "planes", perm=[0, 3, 1, 2])
    )
    model.graph.node.insert(
        1, helper.make_node("Cast", ["planes"], ["floats"], "floats", to=TensorProto.FLOAT)
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def shares(dice: np.random.Generator) -> dict[str, np.ndarray]:
    return {"picture": dice.random(PICTURE, np.float32)}


def pixels(dice: np.random.Generator) -> dict[str, np.ndarray]:
    return {"picture": dice.integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)}


def detector() -> onnx.ModelProto:
    """A YOLO-like head: boxes from exponents, scores from a sigmoid, in one tensor `(1, 256, 6)`."""
    build = Builder()
    features = backbone(build)
    boxes = build.conv(features, 40, 4, size=1)
    scores = build.conv(features, 40, 2, size=1)
    sized = build.node("Mul", build.node("Exp", boxes), build.constant(np.float32(4.0)))
    joined = build.node("Concat", sized, build.node("Sigmoid", scores), axis=1)
    flat = build.node("Reshape", joined, build.constant(np.array([1, 6, 256])))
    build.node("Transpose", flat, perm=[0, 2, 1])
    return build.model({"picture": PICTURE}, {"rows": (1, 256, 6)})


def chain(layers: int = 4, *, width: int = 32, outlier: int | None = None) -> onnx.ModelProto:
    """Dense layers, Relu between; before one of them a channel a thousand times as large, and ignored."""
    build = Builder()
    x = "x"
    for index in range(layers):
        if index == outlier:
            large = np.ones(width, np.float32)
            large[0] = 1000.0
            x = build.node("Mul", x, build.constant(large))
        x = build.dense(x, width, width)
        if index == outlier:
            weights = numpy_helper.to_array(build.constants[-1]).copy()
            weights[0] = 0
            build.constants[-1].CopyFrom(numpy_helper.from_array(weights, build.constants[-1].name))
        if index < layers - 1:
            x = build.node("Relu", x)
    return build.model({"x": (1, width)}, {"y": (1, width)})


def dense(shape: Sequence[int]) -> onnx.ModelProto:
    """A product of matrices, its bias and a Gelu's Erf."""
    build = Builder()
    bias = build.constant(np.linspace(-1, 1, 24, dtype=np.float32))
    build.node("Erf", build.node("Add", build.dense("x", 32, 24), bias))
    return build.model({"x": shape}, {"y": (*shape[:-1], 24)})


def lookup(table: np.ndarray) -> onnx.ModelProto:
    """Rows of a table by their numbers."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"])],
        "net",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 5])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, 5, table.shape[1]])],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


DETECTION = {
    "kind": "detection",
    "input": {"layout": "nchw", "scale": 1 / 255, "fit": "stretch"},
    "head": {"format": "nms"},
    "labels": ["a", "b"],
}
CLASSIFICATION = {
    "kind": "classification",
    "input": {"layout": "nchw", "scale": 1 / 255, "fit": "stretch"},
    "labels": [str(number) for number in range(10)],
}
TENSORS = {"kind": "tensors"}


def pictures(count: int, seed: int = 1) -> list[np.ndarray]:
    """Blocks of colour with noise."""
    dice = np.random.default_rng(seed)
    coarse = dice.integers(0, 255, (count, 4, 4, 3))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2) + dice.integers(-20, 20, (count, 32, 32, 3))
    return list(fine.clip(0, 255).astype(np.uint8))


def vectors(count: int, width: int = 32) -> list[np.ndarray]:
    return list(np.random.default_rng(2).normal(size=(count, width)).astype(np.float32))


def lay(folder: Path, model: onnx.ModelProto, rows: Mapping[str, Any]) -> dict[str, Path]:
    """Put model and samples where earlier steps leave them."""
    inputs = {"model": folder / "float", "samples": folder / "samples"}
    for path in inputs.values():
        path.mkdir()
    onnx.save(model, inputs["model"] / MODEL_FILES["onnx"])
    write_rows(inputs["samples"] / SAMPLES_FILE, rows)
    return inputs
