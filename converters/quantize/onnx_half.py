"""fp16: half the size, and half the time where hardware calculates in it; inputs and outputs stay float.

What would not survive stays float: operators without a half kernel, tensors that exceed 65504, and the box
arithmetic of a detector, since half precision tells pixels above 512 only to the half.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from converters.quantize import calibration
from converters.quantize.calibration import Sample
from converters.quantize.onnx_graph import Network, open_network, save
from converters.quantize.onnx_ranges import observe
from converters.quantize.onnx_subject import signature, tools
from converters.step import SAMPLES_FILE, Facts, Options, Tell
from edge_runtime.contract.task import DetectionSpec

_LARGEST = 65504.0 / 2
"""Half of what float16 can hold: other inputs reach further than the samples."""
_LOOKED_AT = 4
"""Samples that are searched for what exceeds it."""


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Turn a model to fp16.

    Args:
        inputs: `model` (folder); `samples` (folder) and `tokenizer` where there are any, to look for
            overflow.
        out: Gets `model.onnx`.
        options: `task`, where there are samples or the model is a detector.
        tell: Progress.

    Returns:
        Facts; `float_nodes` says how many operators stayed float.

    Raises:
        ConversionError: Model, task and samples do not belong together, or the tool fails on an operator.
    """
    tell(0.0, "reading the model")
    network = open_network(inputs["model"])
    task = calibration.read_task(options) if "task" in options else None
    spared: set[str] = set()
    if isinstance(task, DetectionSpec):
        spared |= network.tail()
    notes: list[JsonValue] = []
    if task is not None and "samples" in inputs:
        tell(0.2, "looking for overflow")
        rows = calibration.raw_samples(inputs["samples"] / SAMPLES_FILE, task)
        few = [rows[index] for index in calibration.spread(len(rows), _LOOKED_AT)]
        samples = calibration.prepare(few, task, signature(inputs["model"])[0], inputs.get("tokenizer"))
        large = overflowing(network, samples)
        spared |= large
        notes += [f"'{name}' stays float: its numbers are too large for fp16" for name in sorted(large)]
    else:
        notes.append("no samples: nobody looked whether numbers are too large for fp16")
    tell(0.6, "converting")
    model = halved(network, spared)
    save(model, out)
    tell(1.0, "done")
    return {"tools": tools(), "warnings": notes, "float_nodes": len(spared)}


def overflowing(network: Network, samples: Sequence[Sample]) -> set[str]:
    """Name the nodes that take or give numbers too large for float16.

    Args:
        network: The float model.
        samples: A few inputs of it.
    """
    names = [name for name in network.producers if network.is_float(name)]
    names += [value.name for value in network.model.graph.input if network.is_float(value.name)]
    seen = observe(network, names, (sample.tensors for sample in samples), infinite=True)
    large = {name for name, what in seen.items() if max(-what.low, what.high) > _LARGEST}
    return {
        node.name
        for node in network.model.graph.node
        if large & {*node.input, *node.output} and node.op_type != "Constant"
    }


def halved(network: Network, spared: Collection[str]) -> Any:
    """Write the model in fp16.

    Args:
        network: The float model; not changed.
        spared: Nodes that stay float. Floats go from one of them to the next as they are; onnxruntime's own
            converter passes them through fp16 even there.

    Returns:
        An `onnx.ModelProto` with the inputs and outputs of the float model.
    """
    return _Halver(network, frozenset(spared)).write()


class _Halver:
    """Each float tensor is made in one type, and cast once where somebody wants the other."""

    def __init__(self, network: Network, spared: frozenset[str]) -> None:
        self._network = network
        outer = {name for node in network.model.graph.node for name in _captured(node)}
        self._half = {
            name
            for name, node in network.nodes.items()
            if name not in spared and _can_be_half(node) and outer.isdisjoint(node.output)
        }
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._made: set[str] = set()  # tensors that there are in half
        self._floats: set[str] = set()  # of those made in half, which there are in float

    def write(self) -> Any:
        import onnx

        for node in self._network.model.graph.node:
            self._node(node)
        model = onnx.ModelProto()
        model.CopyFrom(self._network.model)
        del model.graph.node[:]
        model.graph.node.extend(self._nodes)
        del model.graph.value_info[:]
        used = {name for node in self._nodes for name in (*node.input, *_captured(node))}
        used |= self._network.outputs
        kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, *self._constants.values()])
        return model

    def _node(self, node: Any) -> None:
        import onnx

        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        half = node.name in self._half
        for index, name in enumerate(node.input):
            if half and self._network.is_float(name) and index not in _FLOAT_INPUTS.get(node.op_type, ()):
                copy.input[index] = self._as_half(name)
        if half:
            for index, name in enumerate(node.output):
                if self._network.is_float(name):
                    copy.output[index] = _half_name(name)
                    self._made.add(name)
        else:
            for name in (*node.input, *_captured(node)):
                self._as_float(name)
        self._nodes.append(copy)
        for name in node.output:
            if name in self._made and name in self._network.outputs:
                self._as_float(name)

    def _as_half(self, name: str) -> str:
        from onnx import TensorProto, helper, numpy_helper

        if name in self._network.initializers:
            values = self._network.constant(name).clip(-_FINITE, _FINITE).astype(np.float16)
            self._constants[name] = numpy_helper.from_array(values, _half_name(name))
        elif name not in self._made:
            self._made.add(name)
            self._nodes.append(
                helper.make_node(
                    "Cast", [name], [_half_name(name)], f"{name}_to_half", to=TensorProto.FLOAT16
                )
            )
        return _half_name(name)

    def _as_float(self, name: str) -> None:
        """Make a tensor that was made in half available under its own name."""
        from onnx import TensorProto, helper

        maker = self._network.producers.get(name)
        if name not in self._made or name in self._floats or maker is None or maker.name not in self._half:
            return
        self._floats.add(name)
        self._nodes.append(
            helper.make_node("Cast", [_half_name(name)], [name], f"{name}_to_float", to=TensorProto.FLOAT)
        )


def _half_name(name: str) -> str:
    return f"{name}_half"


def _captured(node: Any) -> set[str]:
    """Tensors that the graphs inside a node take from outside."""
    import onnx

    found: set[str] = set()
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inside = {name for each in attribute.g.node for name in (*each.input, *_captured(each))}
            made = {name for each in attribute.g.node for name in each.output}
            found |= inside - made | {value.name for value in attribute.g.output} - made
    return found


def _can_be_half(node: Any) -> bool:
    inner = any(attribute.HasField("g") for attribute in node.attribute)
    return not inner and node.domain in {"", "ai.onnx"} and node.op_type not in _FLOAT_ONLY


_FINITE = 65504.0
_FLOAT_INPUTS: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2)}
"""Inputs that the ONNX specification wants as float32: the scales of Resize, and its region as we keep it."""
_FLOAT_ONLY = frozenset(
    {
        "Cast",  # its type is an attribute
        "CastLike",
        "Constant",
        "ConstantOfShape",
        "CumSum",
        "DequantizeLinear",
        "EyeLike",
        "Loop",
        "NonMaxSuppression",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Range",
        "RoiAlign",
        "SequenceConstruct",
        "TopK",
    }
)
"""Have no half form in the ONNX specification or in onnxruntime, or say their type in an attribute."""
