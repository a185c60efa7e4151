"""Bundles of small models that run, for the serving tests: with golden files or without.

Written file by file, not by the writer of the converters: the writer has tests of its own, and these bundles
may be wrong on purpose.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_runtime.contract.bundle import (
    BundleManifest,
    FileRef,
    Format,
    Golden,
    Precision,
    Receipt,
    Variant,
)
from edge_runtime.contract.task import TaskSpec, TensorsSpec
from edge_runtime.tasks.rows import write_rows
from tests.simulators.tiny_decoder import write_tokenizer

Array = NDArray[Any]
WIDTH = 4


def scaling(factor: float, width: int = WIDTH, *, fixed: bool = False) -> onnx.ModelProto:
    """`y = factor * x`, as a product with a matrix."""
    weights = (np.eye(width) * factor).astype(np.float32)
    return _model("MatMul", weights, width, 1 if fixed else "n")


def centring(width: int = WIDTH) -> onnx.ModelProto:
    """`y = x - mean of all rows`: what a row gets depends on who else is in the batch."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return _graph(nodes, [], width, "n")


def _model(op: str, weights: Array, width: int, rows: int | str) -> onnx.ModelProto:
    node = helper.make_node(op, ["x", "w"], ["y"])
    return _graph([node], [numpy_helper.from_array(weights, "w")], width, rows)


def _graph(nodes: list[Any], constants: list[Any], width: int, rows: int | str) -> onnx.ModelProto:
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "definition",
        [helper.make_tensor_value_info("x", kind, [rows, width])],
        [helper.make_tensor_value_info("y", kind, [rows, width])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def bundle(
    folder: Path,
    model: onnx.ModelProto,
    *,
    name: str = "scale",
    version: str = "1.0.0",
    golden: tuple[Array, Array] | None = None,
    cosine: float | None = None,
    kind: Format = Format.ONNX,
    task: TaskSpec | None = None,
    tokenizer: bool = False,
) -> Path:
    """Write a bundle.

    Args:
        folder: Where; it is made.
        model: Its only variant.
        name: Its name.
        version: Of it.
        golden: Inputs `(n, width)` and the outputs `(n, width)` that are claimed for them.
        cosine: What its receipt says was measured.
        kind: The format it says it has.
        task: What it does; None: tensors.
        tokenizer: It has the one of `tiny_decoder`.
    """
    folder.mkdir(parents=True)
    if tokenizer:
        write_tokenizer(folder / "tokenizer.json")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    files = None
    if golden is not None:
        inputs, outputs = golden
        write_rows(folder / "inputs.npz", {"x": list(inputs)})
        write_rows(folder / "outputs.npz", {"y": [row[None] for row in outputs]})
        files = Golden(inputs=file_ref(folder, "inputs.npz"), outputs=file_ref(folder, "outputs.npz"))
    content = (folder / "model.onnx").read_bytes()
    variant = Variant(
        id="onnx-fp32",
        format=kind,
        precision=Precision.FP32,
        path="model.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    receipt = Receipt(
        variant=variant.id,
        engine="onnxruntime",
        machine="a desk",
        measured_at="2026-01-01T00:00:00Z",
        parity={} if cosine is None else {"cosine.y": cosine},
    )
    manifest = BundleManifest(
        name=name,
        version=version,
        licence="Apache-2.0",
        source="made for a test",
        task=task or TensorsSpec(kind="tensors"),
        variants=(variant,),
        receipts=(receipt,),
        golden=files,
        tokenizer=file_ref(folder, "tokenizer.json") if tokenizer else None,
    )
    (folder / "bundle.json").write_text(manifest.model_dump_json(exclude_none=True, indent=2))
    return folder


def file_ref(folder: Path, name: str) -> FileRef:
    """Name a file as a manifest does."""
    content = (folder / name).read_bytes()
    return FileRef(path=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
