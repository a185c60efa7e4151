"""Non-maximum suppression moves into a graph, or out of one again.

Inside it is what an app without our postprocessing wants; outside it is what quantization and targets without
the operator need. Both ways the answers are those of the device's own `edge_runtime.tasks.nms`. Detectors
that suppress nothing (DETR) or bring an operator of their own (SSD of TensorFlow Lite) are left alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from converters.export import onnx_graph
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError
from edge_runtime.contract.task import DetectionSpec, NmsHead, TaskSpec, YoloHead
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.tasks.outputs import assign_outputs

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_FLOOR = 0.05
"""Boxes down to this score are kept inside, so that a device may ask for less than the task's own threshold:
weaker boxes never suppress stronger ones."""


def suppress(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Put decoding and suppression behind a YOLO head.

    Args:
        inputs: `model`: the folder of an ONNX model with raw YOLO predictions.
        out: Gets `model.onnx`, whose output is `detections` (1, max_detections, 6) float32: x1 y1 x2 y2 in
            pixels of the model's input, score, class; best first, the unused rows 0. With a `classes` name in
            the head: (1, max_detections, 5), and (1, max_detections) int64.
        options: `task`: the DetectionSpec. `head`: the NmsHead with the names that the outputs get; absent:
            `detections` alone.
        tell: Progress.

    Returns:
        `tools`, `inputs`, `outputs`, `opset`, `head`: the NmsHead of the new model.

    Raises:
        ConversionError: The head is no YOLO head, or its output is not what it says.
    """
    tell(0.0, "adding suppression")
    spec = _detection(options)
    if not isinstance(spec.head, YoloHead):
        raise ConversionError(
            f"suppression cannot go into a model with a head '{spec.head.format}'",
            expected="a head 'yolo'",
            do="Say `nms: outside`: this head needs none, or has it already",
        )
    head = NmsHead.model_validate(options.get("head") or {"format": "nms"})
    model = onnx_graph.load(inputs["model"] / MODEL_FILES["onnx"])
    predictions = _predictions(model, spec.head, len(spec.labels))
    head = _append(model, spec, spec.head, predictions, head)
    facts = onnx_graph.facts_of(model, {predictions.name: str(head.detections)})
    facts["head"] = head.model_dump(mode="json")
    onnx_graph.save(model, out)
    return facts


def release(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Cut a graph off where its suppression begins: the device does the rest.

    Args:
        inputs: `model`: the folder of an ONNX model with one NonMaxSuppression.
        out: Gets `model.onnx`, whose output is `predictions` (1, 4 + classes, n) float32: cx cy w h in pixels
            of the model's input, and a score for each class.
        options: `task`: the DetectionSpec, with an NmsHead.
        tell: Progress.

    Returns:
        `tools`, `inputs`, `outputs`, `opset`, `head`: the YoloHead of the new model.

    Raises:
        ConversionError: There is not exactly one suppression, or the head is not `nms`.
    """
    tell(0.0, "taking suppression out")
    spec = _detection(options)
    if not isinstance(spec.head, NmsHead):
        raise ConversionError(
            f"no suppression to take out of a model with a head '{spec.head.format}'", expected="a head 'nms'"
        )
    model = onnx_graph.load(inputs["model"] / MODEL_FILES["onnx"])
    source = [value.name for value in model.graph.output]
    head = release_model(model, len(spec.labels))
    facts = onnx_graph.facts_of(model, {source[0]: str(head.output)})
    facts["head"] = head.model_dump(mode="json")
    onnx_graph.save(model, out)
    return facts


def has_suppression(model: "ModelProto") -> bool:
    """Tell whether a graph suppresses boxes itself."""
    return any(node.op_type == "NonMaxSuppression" for node in model.graph.node)


def release_model(model: "ModelProto", labels: int) -> YoloHead:
    """Cut a graph off at its NonMaxSuppression, in place.

    Args:
        model: Boxes go into the operator as x1 y1 x2 y2 in pixels, or centred where it says so.
        labels: How many classes the task has.

    Returns:
        The head of what is left.

    Raises:
        ConversionError: There is not exactly one suppression, its IoU threshold is not fixed, or it has not
            the scores of so many classes.
    """
    graph = model.graph
    found = [node for node in graph.node if node.op_type == "NonMaxSuppression"]
    if len(found) != 1:
        raise ConversionError("suppression in the graph", expected="one operator", got=str(len(found)))
    node = found[0]
    known = onnx_graph.constants(graph)
    iou = known.get(node.input[3]) if len(node.input) > 3 else np.float32(0)
    if iou is None:
        raise ConversionError(
            "the IoU threshold of the suppression", expected="a constant", got="a value that is calculated"
        )
    centred = any(attribute.name == "center_point_box" and attribute.i for attribute in node.attribute)
    new = _Nodes(graph, opset=onnx_graph.opset_of(model), prefix="release")
    boxes = node.input[0]
    if not centred:
        first, last = new.split(boxes, [2, 2], axis=2)
        middle = new.add("Mul", new.add("Add", first, last), new.constant("half", 0.5))
        boxes = new.add("Concat", middle, new.add("Sub", last, first), axis=2)
    planes = new.add("Transpose", boxes, perm=[0, 2, 1])
    output = new.add("Concat", planes, node.input[1], axis=1, output="predictions")
    new.finish([(output, np.float32, (1, None, None))])
    drop_dead(graph)
    onnx_graph.infer_shapes(model)
    attributes = onnx_graph.shape_of(graph.output[0])[1]
    if isinstance(attributes, int) and attributes != 4 + labels:
        raise ConversionError(
            "suppression in the graph",
            expected=f"scores of {labels} classes, one for each label",
            got=f"{attributes - 4}",
            layer=node.name or node.output[0],
            do="Give as many labels as the model has classes; where it mixes them, leave suppression inside",
        )
    return YoloHead(format="yolo", output=output, nms_iou=float(iou.reshape(-1)[0]), coordinates="pixels")


@dataclass(frozen=True)
class _Predictions:
    """The raw output: its name, and whether each box is a column (`attributes_first`) or a row."""

    name: str
    attributes_first: bool


def _detection(options: Options) -> DetectionSpec:
    spec = TypeAdapter[TaskSpec](TaskSpec).validate_python(options["task"])
    if not isinstance(spec, DetectionSpec):
        raise ConversionError("suppression", expected="a detection task", got=spec.kind)
    return spec


def _predictions(model: "ModelProto", head: YoloHead, labels: int) -> _Predictions:
    specs = [
        TensorSpec(value.name, "float32", tuple(a if isinstance(a, int) else None for a in shape))
        for value, shape in ((value, onnx_graph.shape_of(value)) for value in model.graph.output)
    ]
    try:
        spec = assign_outputs({"output": head.output}, specs)["output"].spec
    except EdgeRuntimeError as error:
        raise ConversionError(error.problem, expected=error.expected, got=error.got, do=error.do) from error
    wide = labels + (5 if head.objectness else 4)
    shape = spec.shape
    if len(shape) != 3 or wide not in shape[1:]:
        raise ConversionError(
            f"output '{spec.name}'",
            expected=f"(1, {wide}, n) or (1, n, {wide}) for {labels} labels",
            got=onnx_graph.write_shape(shape),
            do="Give as many labels as the model has classes, and check `objectness`",
        )
    # Where both fit, what exporters of this kind of model do; see `YoloDecoder`.
    first = not head.objectness if shape[1] == shape[2] else shape[1] == wide
    return _Predictions(spec.name, first)


def _append(
    model: "ModelProto", spec: DetectionSpec, yolo: YoloHead, predictions: _Predictions, head: NmsHead
) -> NmsHead:
    """Write what `YoloDecoder` does as operators: one class a box, the best one, as the device has it."""
    graph, labels = model.graph, len(spec.labels)
    new = _Nodes(graph, opset=onnx_graph.opset_of(model), prefix="suppress")
    rows = predictions.name
    if predictions.attributes_first:
        rows = new.add("Transpose", rows, perm=[0, 2, 1])
    parts = [2, 2, 1, labels] if yolo.objectness else [2, 2, labels]
    middle, size, *rest = new.split(rows, parts, axis=2)
    best = new.reduce_max(rest[-1], axis=2)
    if yolo.objectness:
        best = new.add("Mul", best, rest[0])
    kind = new.add("ArgMax", rest[-1], axis=2, keepdims=1)
    half = new.add("Mul", size, new.constant("half", 0.5))
    boxes = new.add("Concat", new.add("Sub", middle, half), new.add("Add", middle, half), axis=2)
    if yolo.coordinates == "normalized":
        boxes = new.add("Mul", boxes, _canvas(model, spec, new))
    scores = new.add("Transpose", best, perm=[0, 2, 1])
    if not yolo.class_agnostic:
        # The scores of all other classes are 0, so that each box stands in the list of its own class only.
        each = new.constant("classes", np.arange(labels).reshape(1, labels, 1), np.int64)
        own = new.add("Cast", new.add("Equal", new.add("Transpose", kind, perm=[0, 2, 1]), each), to=1)
        scores = new.add("Mul", own, scores)
    floor = np.nextafter(
        np.float32(min(spec.min_score, _FLOOR)), np.float32(0)
    )  # the operator wants more than
    most = new.constant("most", [spec.max_detections], np.int64)
    chosen = new.add(
        "NonMaxSuppression",
        boxes,
        scores,
        most,
        new.constant("iou", [yolo.nms_iou]),
        new.constant("floor", [max(floor, 0)]),
    )
    kinds = new.add("Cast", kind, to=1)
    if head.class_offset:
        kinds = new.add("Add", kinds, new.constant("offset", float(head.class_offset)))
    table = new.add("Concat", boxes, best, kinds, axis=2)
    return _rows(new, table, chosen, most, spec.max_detections, head)


def _rows(new: "_Nodes", table: str, chosen: str, most: str, rows: int, head: NmsHead) -> NmsHead:
    """Take the chosen rows of the table, best first, and fill up with zeros to a fixed number."""
    index = new.add("Gather", chosen, new.constant("box_column", 2, np.int64), axis=1)
    flat = new.add("Reshape", table, new.constant("flat", [-1, 6], np.int64))
    picked = new.add("Gather", flat, index, axis=0)
    # Enough zero rows for TopK to have its number however few were chosen; their score is the lowest.
    filled = new.add("Concat", picked, new.constant("filling", np.zeros((rows, 6))), axis=0)
    scores = new.add("Gather", filled, new.constant("score_column", 4, np.int64), axis=1)
    _, order = new.top_k(scores, most)
    sorted_rows = new.add("Gather", filled, order, axis=0)
    name = head.detections or "detections"
    head = head.model_copy(update={"detections": name})
    batch = new.constant("batch_of_rows", [1, rows, 6], np.int64)
    if head.classes is None:
        new.finish([(new.add("Reshape", sorted_rows, batch, output=name), np.float32, (1, rows, 6))])
        return head
    boxes, classes = new.split(new.add("Reshape", sorted_rows, batch), [5, 1], axis=2)
    flat_classes = new.add("Reshape", classes, new.constant("batch_of_classes", [1, rows], np.int64))
    new.finish(
        [
            (new.add("Identity", boxes, output=name), np.float32, (1, rows, 5)),
            (new.add("Cast", flat_classes, to=7, output=head.classes), np.int64, (1, rows)),
        ]
    )
    return head


def _canvas(model: "ModelProto", spec: DetectionSpec, new: "_Nodes") -> str:
    """Give (width, height, width, height) of the picture that goes in."""
    value, layout = onnx_graph.picture_input(model, spec.input)
    first = 2 if layout == "nchw" else 1
    size = onnx_graph.shape_of(value)[first : first + 2]
    if isinstance(size[0], int) and isinstance(size[1], int):
        return new.constant("canvas", [size[1], size[0], size[1], size[0]])
    order = new.constant("canvas_axes", [first + 1, first, first + 1, first], np.int64)
    return new.add("Cast", new.add("Gather", new.add("Shape", value.name), order, axis=0), to=1)


class _Nodes:
    """Operators appended to a graph, which then ends in them."""

    def __init__(self, graph: "GraphProto", opset: int, prefix: str) -> None:
        if opset < 13:
            raise ConversionError(
                "suppression", expected="opset 13 or later", got=str(opset), do="Raise opset"
            )
        self._graph, self._opset, self._prefix = graph, opset, prefix

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Store a tensor."""
        return onnx_graph.add_constant(self._graph, f"{self._prefix}_{name}", value, dtype)

    def add(self, operator: str, *operands: str, output: str = "", **attributes: Any) -> str:
        """Append an operator of one output and give that."""
        return self._append(operator, operands, 1, attributes, output)[0]

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Cut a tensor along an axis."""
        lengths = self.constant("split", sizes, np.int64)
        return self._append("Split", (value, lengths), len(sizes), {"axis": axis})

    def reduce_max(self, value: str, axis: int) -> str:
        """Take the largest along an axis, which stays: `axes` became an input in opset 18."""
        if self._opset < 18:
            return self.add("ReduceMax", value, axes=[axis], keepdims=1)
        return self.add("ReduceMax", value, self.constant("axes", [axis], np.int64), keepdims=1)

    def top_k(self, value: str, count: str) -> list[str]:
        """Take the largest of a row: values and indices, best first, the earlier of equals first."""
        return self._append("TopK", (value, count), 2, {"axis": 0})

    def finish(self, outputs: Sequence[tuple[str, Any, tuple[int | None, ...]]]) -> None:
        """Make these the outputs of the graph, and no others."""
        from onnx import helper

        del self._graph.output[:]
        for name, dtype, shape in outputs:
            element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            self._graph.output.append(helper.make_tensor_value_info(name, element, shape))

    def _append(
        self,
        operator: str,
        operands: Sequence[str],
        count: int,
        attributes: Mapping[str, Any],
        output: str = "",
    ) -> list[str]:
        from onnx import helper

        taken = onnx_graph.value_names(self._graph)
        if output in taken:  # an inner value has the name that an output is to get
            onnx_graph.rename_value(self._graph, output, onnx_graph.fresh(output, taken))
        names = [output or onnx_graph.fresh(f"{self._prefix}_{operator.lower()}", taken)]
        while len(names) < count:
            names.append(onnx_graph.fresh(names[0], taken | set(names)))
        name = onnx_graph.fresh(f"{self._prefix}/{operator}", {node.name for node in self._graph.node})
        self._graph.node.append(helper.make_node(operator, list(operands), names, name, **attributes))
        return names


def drop_dead(graph: "GraphProto") -> None:
    """Remove what no output needs any more."""
    needed = {value.name for value in graph.output}
    alive: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            alive.append(node)
            needed.update(name for inner in (node, *_inner(node)) for name in inner.input)
    stored = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(alive))
    graph.initializer.extend(stored)


def _inner(node: "NodeProto") -> "list[NodeProto]":
    return [
        one
        for attribute in node.attribute
        if attribute.HasField("g")
        for one in onnx_graph.nodes(attribute.g)
    ]
