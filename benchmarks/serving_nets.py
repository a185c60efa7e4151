"""The models of the serving benchmark, as ONNX files and bundles: tiny, 8 M parameters, convolutions, deep.

Written with random, seeded weights: a server's cost does not depend on what a model knows.
"""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

COMPARED = ("tiny", "mlp", "conv")
SHAPES: dict[str, tuple[int, ...]] = {"tiny": (16,), "mlp": (1024,), "conv": (3, 64, 64), "deep": (3, 32, 32)}
"""Of one row of `x`, float32. Every model gives `y`, float32, `(rows, classes)`. `deep` is for overload, and
takes some milliseconds a row, so that refusing what is too much is not the work itself."""


def make(models: Path, bundles: Path, names: Sequence[str]) -> None:
    """Write `NAME.onnx` and a bundle for each, where they are not there yet."""
    for name in names:
        build = {"tiny": _tiny, "mlp": _mlp, "conv": _conv, "deep": _deep}[name]
        file, folder = models / f"{name}.onnx", bundles / name
        if not file.exists():
            models.mkdir(parents=True, exist_ok=True)
            file.write_bytes(build().SerializeToString())
        if not (folder / "bundle.json").exists():
            _bundle(file, folder, name)


def _tiny() -> onnx.ModelProto:
    return _dense((16, 32, 4))


def _mlp() -> onnx.ModelProto:
    return _dense((1024, 2048, 2048, 1024))


def _dense(widths: tuple[int, ...]) -> onnx.ModelProto:
    dice = np.random.default_rng(0)
    nodes: list[Any] = []
    constants: list[Any] = []
    last = "x"
    for index, (wide, narrow) in enumerate(itertools.pairwise(widths)):
        weights = dice.standard_normal((wide, narrow), np.float32) / np.sqrt(wide)
        constants += [_constant(f"w{index}", weights), _constant(f"b{index}", np.zeros(narrow))]
        end = index == len(widths) - 2
        out = "y" if end else f"h{index}"
        nodes.append(helper.make_node("Gemm", [last, f"w{index}", f"b{index}"], [out]))
        if not end:
            nodes.append(helper.make_node("Relu", [out], [last := f"r{index}"]))
    return _model(nodes, constants, (widths[0],), widths[-1])


def _conv() -> onnx.ModelProto:
    """Separable convolutions, as in small nets for devices."""
    dice = np.random.default_rng(1)
    nodes: list[Any] = []
    constants: list[Any] = []
    last = "x"

    def layer(index: int, taken: int, given: int, *, size: int, stride: int = 1, group: int = 1) -> None:
        nonlocal last
        scale = np.sqrt(taken // group * size * size)
        weights = dice.standard_normal((given, taken // group, size, size), np.float32) / scale
        constants.append(_constant(f"w{index}", weights))
        pad = size // 2
        nodes.append(
            helper.make_node(
                "Conv", [last, f"w{index}"], [f"c{index}"], strides=[stride] * 2, pads=[pad] * 4, group=group
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [last := f"r{index}"]))

    layer(0, 3, 16, size=3, stride=2)
    width = 16
    for index in range(5):
        layer(2 * index + 1, width, width, size=3, stride=2 if index in {1, 3} else 1, group=width)
        wider = min(width * 2, 128)
        layer(2 * index + 2, width, wider, size=1)
        width = wider
    constants.append(_constant("head", dice.standard_normal((width, 10), np.float32)))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["y"]),
    ]
    return _model(nodes, constants, (3, 64, 64), 10)


def _deep() -> onnx.ModelProto:
    """Ten full convolutions of 64 channels."""
    dice = np.random.default_rng(3)
    nodes: list[Any] = []
    constants: list[Any] = []
    last, taken = "x", 3
    for index in range(10):
        weights = dice.standard_normal((64, taken, 3, 3), np.float32) / np.sqrt(9 * taken)
        constants.append(_constant(f"w{index}", weights))
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [last := f"r{index}"]))
        taken = 64
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["y"]),
    ]
    return _model(nodes, constants, (3, 32, 32), 64)


def _constant(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def _model(nodes: list[Any], constants: list[Any], shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, ["n", *shape])],
        [helper.make_tensor_value_info("y", kind, ["n", classes])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _bundle(file: Path, folder: Path, name: str) -> None:
    from edge_runtime.contract.bundle import BundleManifest, Format, Precision, Variant
    from edge_runtime.contract.task import TensorsSpec

    content = file.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    variant = Variant(
        id="onnx-fp32",
        format=Format.ONNX,
        precision=Precision.FP32,
        path="model.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    manifest = BundleManifest(
        name=name,
        version="1.0.0",
        licence="Apache-2.0",
        source="random weights, for a benchmark",
        task=TensorsSpec(kind="tensors"),
        variants=(variant,),
    )
    (folder / "bundle.json").write_text(manifest.model_dump_json(exclude_none=True, indent=2))
