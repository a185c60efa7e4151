"""Trace: where a variant begins to answer otherwise than its source, operator by operator. Judges nothing.

Works for two ONNX models whose tensors kept their names, which export, float16 and QDQ quantization leave
alone. For other formats it says that it cannot: their files name no tensors in between.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.likeness import cosine, sqnr_db

_MOST_BYTES = 1 << 31
"""A protobuf can be no larger; a model with more has its weights in files beside it, and is not traced."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One tensor that both models compute.

    Args:
        name: The node that makes it in the source; its output where it has no name.
        operator: Its type.
        tensor: Its output.
        cosine: With the variant's.
        sqnr_db: Of the variant's.
    """

    name: str
    operator: str
    tensor: str
    cosine: float
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Trace:
    """What was found.

    Args:
        layers: In the order of execution.
        first: The first layer less alike than wanted; None: there is none among those that can be compared.
        note: Why there is nothing, or what else to know; for a person.
    """

    layers: tuple[Layer, ...]
    first: Layer | None
    note: str

    def facts(self) -> dict[str, JsonValue]:
        """Give it as facts of a step."""
        return {
            "layers": [asdict(layer) for layer in self.layers],
            "first_diverging": None if self.first is None else asdict(self.first),
            "note": self.note,
        }


def trace(
    source: tuple[str, Path, Tensors], variant: tuple[str, Path, Tensors], least_cosine: float
) -> Trace:
    """Compare all tensors that two models share by name.

    Args:
        source: Format, file and one input of the source model.
        variant: The same of the variant, its input made of the same sample.
        least_cosine: Below, a tensor counts as diverged.
    """
    for format_, model, _ in (source, variant):
        if format_ != "onnx":
            return Trace((), None, f"not traced: a {format_} file names no tensors in between")
        if _weight(model) > _MOST_BYTES:
            return Trace((), None, f"not traced: {model.name} is larger than 2 GB")
    try:
        with tempfile.TemporaryDirectory() as folder:
            mine, nodes = _run_exposed(*source[1:], Path(folder) / "source.onnx")
            theirs, _ = _run_exposed(*variant[1:], Path(folder) / "variant.onnx")
    except EdgeRuntimeError as error:
        return Trace((), None, f"not traced: with its inner tensors exposed the model does not run: {error}")
    layers = tuple(_layers(mine, theirs, nodes))
    if not layers:
        return Trace((), None, "not traced: the two graphs share no tensor of one name and shape")
    first = next((layer for layer in layers if layer.cosine < least_cosine), None)
    compared = f"{len(layers)} of {len(nodes)} operators compared"
    if first is None:
        return Trace(layers, None, f"{compared}, none diverges by itself")
    return Trace(layers, first, f"{compared}; the first to diverge is {first.operator} '{first.name}'")


def _layers(mine: Tensors, theirs: Tensors, nodes: Mapping[str, tuple[str, str]]) -> Iterator[Layer]:
    for tensor, (name, operator) in nodes.items():
        if tensor not in mine or tensor not in theirs:
            continue
        a, b = mine[tensor], theirs[tensor]
        if a.shape == b.shape and _is_real(a) and _is_real(b):
            yield Layer(name, operator, tensor, cosine(a, b), sqnr_db(a, b))


def _is_real(array: Array) -> bool:
    return array.dtype.kind == "f"


def _run_exposed(model: Path, inputs: Tensors, copy: Path) -> tuple[Tensors, dict[str, tuple[str, str]]]:
    """Run a copy that gives every tensor in between.

    Returns:
        All tensors, and for each: name and type of the node that makes it, in the order of execution.
    """
    import onnx

    graph: Any = onnx.load(str(model))
    given = {output.name for output in graph.graph.output}
    nodes: dict[str, tuple[str, str]] = {}
    for node in graph.graph.node:
        for tensor in filter(None, node.output):
            nodes[tensor] = node.name or tensor, node.op_type
            if tensor not in given:
                graph.graph.output.append(onnx.ValueInfoProto(name=tensor))
    onnx.save(graph, str(copy))
    session = load_engine("onnxruntime").open(copy, options=EngineOptions())
    try:
        return session.run(inputs), nodes
    finally:
        session.close()


def _weight(model: Path) -> int:
    return sum(file.stat().st_size for file in model.parent.iterdir() if file.is_file())
