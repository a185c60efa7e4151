"""Moving an ONNX model to another version of the standard operators.

Onnx's version converter does it. Where it has no rule for an operator whose older version is the same for
this use, the operator stays, at most with constant axes as an attribute; nothing else is rewritten here.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from converters.export.onnx_graph import constants, nodes, opset_of
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Array
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_OTHER_MEANING = {"GRU", "GridSample", "GroupNormalization", "LSTM", "RNN", "RoiAlign"}
"""Operators whose older versions calculate something else with the same inputs and attributes."""


def to_opset(model: "ModelProto", opset: int) -> "ModelProto":
    """Give the same model in another opset.

    Args:
        model: Under 2 GB, without functions of its own.
        opset: The version that is wanted.

    Raises:
        ConversionError: An operator cannot be said in that version; names it and its layer.
    """
    import onnx

    have = opset_of(model)
    changed = _converted(model, opset)
    if isinstance(changed, Exception):
        if opset > have:
            raise _stuck(model, have, opset, brief(changed), _named(str(changed), model))
        changed = model
        for version in range(have - 1, opset - 1, -1):
            step = _converted(changed, version)
            changed = _relabelled(changed, version, opset) if isinstance(step, Exception) else step
    least = onnx.helper.find_min_ir_version_for(changed.opset_import)
    changed.ir_version = max(changed.ir_version, least)
    return changed


def _converted(model: "ModelProto", opset: int) -> "ModelProto | Exception":
    import onnx
    from onnx import version_converter

    try:
        changed = version_converter.convert_version(model, opset)
        onnx.checker.check_model(changed)
    except Exception as error:  # noqa: BLE001 - C++ assertions; the other way is tried, then it is told
        return error
    return changed


def _relabelled(model: "ModelProto", opset: int, goal: int) -> "ModelProto":
    """Call the operators those of an older version, where that is all that differs."""
    import onnx

    changed = type(model).FromString(model.SerializeToString())
    known = constants(changed.graph)
    for node in nodes(changed.graph):
        _axes_to_attribute(node, opset, known)
        if node.domain in {"", "ai.onnx"} and (why := _differs(node, opset)):
            raise _stuck(model, opset_of(model), goal, why, node)
    for entry in changed.opset_import:
        if entry.domain in {"", "ai.onnx"}:
            entry.version = opset
    try:
        onnx.checker.check_model(changed, full_check=True)
    except Exception as error:
        found = _named(str(error), model)
        raise _stuck(model, opset_of(model), goal, brief(error), found) from error
    return changed


def _axes_to_attribute(node: "NodeProto", opset: int, known: Mapping[str, Array]) -> None:
    """Say constant axes of a reduction as before opset 18 (ReduceSum: 13), and an even Split as before 18."""
    from onnx import helper

    if opset >= 18:
        return
    reduces = node.op_type.startswith("Reduce") and node.op_type != "ReduceSum"
    if reduces and len(node.input) > 1 and node.input[1] in known:
        axes = known[node.input[1]].reshape(-1).tolist()
        del node.input[1:]
        idle = not axes and any(one.name == "noop_with_empty_axes" and one.i for one in node.attribute)
        if idle:
            node.op_type = "Identity"
            del node.attribute[:]
            return
        if axes:
            node.attribute.append(helper.make_attribute("axes", axes))
        _drop(node, "noop_with_empty_axes")
    if node.op_type == "Split" and len(node.input) < 2:
        _drop(node, "num_outputs")  # parts of different lengths do not pass the check of shapes afterwards


def _drop(node: "NodeProto", name: str) -> None:
    for attribute in [one for one in node.attribute if one.name == name]:
        node.attribute.remove(attribute)


def _differs(node: "NodeProto", opset: int) -> str | None:
    """Say what an older version of an operator lacks for this use, dropping attributes that say nothing."""
    from onnx import defs, helper

    new = defs.get_schema(node.op_type, opset + 1)
    if new.since_version <= opset:
        return None
    try:
        old = defs.get_schema(node.op_type, opset)
    except defs.SchemaError:
        return f"there is none in opset {opset}"
    if node.op_type in _OTHER_MEANING:
        return f"it means something else in opset {opset}"
    for attribute in list(node.attribute):
        if attribute.name in old.attributes:
            continue
        default = new.attributes[attribute.name].default_value
        if helper.get_attribute_value(attribute) != helper.get_attribute_value(default):
            return f"no attribute '{attribute.name}' in opset {opset}"
        node.attribute.remove(attribute)
    return f"fewer inputs in opset {opset}" if len(node.input) > old.max_input else None


def _named(text: str, model: "ModelProto") -> "NodeProto | None":
    words = set(re.findall(r"\w+", text))
    return next((node for node in nodes(model.graph) if node.op_type in words), None)


def _stuck(model: "ModelProto", have: int, opset: int, why: str, node: "NodeProto | None") -> ConversionError:
    layer = None if node is None else node.name or node.output[0]
    where = "" if node is None else f" at operator {node.op_type}, layer '{layer}'"
    return ConversionError(
        f"the model cannot go from opset {have} to {opset}{where}: {why}",
        operator=None if node is None else node.op_type,
        layer=layer,
        do=f"Export it with opset {opset}, or leave the opset as it is",
    )
