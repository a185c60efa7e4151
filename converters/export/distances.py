"""A YOLOv8 or YOLO11 head is cut off before it makes boxes: the device makes those of cells with a score.

Such a model makes a box for each of thousands of cells, by four softmaxes each; a picture needs a few dozen.
Where to cut is not read from names: a picture of noise is run, and the place that leads to the same boxes and
scores is taken. Changes no other head.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from converters.export import onnx_graph
from converters.export.suppress import drop_dead
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import BundleError, ConversionError
from edge_runtime.contract.task import DetectionSpec, DistancesHead, TaskSpec, YoloHead
from edge_runtime.contract.tensors import Array, TensorSpec
from edge_runtime.tasks.activation import sigmoid
from edge_runtime.tasks.heads.base import corners
from edge_runtime.tasks.heads.distances import DistancesDecoder

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Grids of the models of this family: P3 to P5, with P6, with P2, and without P3."""
_PIXELS = 0.05
"""Boxes may differ by this much: the same sums in another order."""
_SCORE = 1e-4
_FREE_SIDE = 320
"""Of the picture of noise, where the model takes any size."""
_THROUGH = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"})
"""Operators between the distances and their softmax."""


def cut(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the model give distances and scores instead of boxes.

    Args:
        inputs: `model`: the folder of an ONNX model with a YOLOv8-style head.
        out: Gets `model.onnx`, whose outputs are `distances` (1, 4 * bins, n) and `scores` (1, classes, n),
            float32 logits.
        options: `task`: the DetectionSpec, with a YoloHead.
        tell: Progress.

    Returns:
        `tools`, `inputs`, `outputs`, `opset`, `head`: the DistancesHead of the new model.

    Raises:
        ConversionError: The head makes its boxes in another way.
    """
    tell(0.0, "cutting the head off")
    spec = TypeAdapter[TaskSpec](TaskSpec).validate_python(options["task"])
    if not isinstance(spec, DetectionSpec) or not isinstance(spec.head, YoloHead) or spec.head.objectness:
        raise ConversionError(
            "boxes cannot be made outside the model",
            expected="a detection task with a head 'yolo' without objectness",
            got=spec.head.format if isinstance(spec, DetectionSpec) else spec.kind,
            do="Leave out `boxes: outside`",
        )
    model = onnx_graph.load(inputs["model"] / MODEL_FILES["onnx"])
    head = cut_model(model, spec, spec.head)
    facts = onnx_graph.facts_of(model)
    facts["head"] = head.model_dump(mode="json")
    onnx_graph.save(model, out)
    return facts


def cut_model(model: "ModelProto", spec: DetectionSpec, yolo: YoloHead) -> DistancesHead:
    """Cut a graph in place.

    Args:
        model: With raw YOLO predictions, `(1, 4 + classes, n)` or `(1, n, 4 + classes)`.
        spec: Its task.
        yolo: Its head.

    Returns:
        The head of what is left.

    Raises:
        ConversionError: No place in the graph leads to the same boxes and scores.
    """
    graph = model.graph
    output = yolo.output or graph.output[0].name
    distances, scores = _before(graph, "Softmax"), _before(graph, "Sigmoid")
    ran, canvas = _run(model, spec, (output, *distances, *scores))
    raw = _attributes_first(ran[output], 4 + len(spec.labels), output)
    boxes, probabilities = corners(np.ascontiguousarray(raw[:4].T), None), raw[4:]
    cells = raw.shape[1]
    score = next(
        (
            name
            for name in scores
            if ran[name].shape == (1, *probabilities.shape)
            and np.abs(sigmoid(ran[name][0]) - probabilities).max() <= _SCORE
        ),
        None,
    )
    if score is not None:
        for name, strides in product(distances, _STRIDES):
            if _leads_to(ran[name], strides, canvas, boxes):
                return _end(model, name, score, strides, yolo)
    raise ConversionError(
        f"the head of the model makes its {cells} boxes in another way than YOLOv8's",
        expected="softmaxes over the distances to four sides, and a sigmoid over the scores",
        got=f"{len(distances)} softmaxes and {len(scores)} sigmoids, none of which lead to the same boxes",
        do="Leave out `boxes: outside`",
    )


def _before(graph: "GraphProto", operator: str) -> tuple[str, ...]:
    """Name what goes into operators of a kind, turns and reshapes left away."""
    makers = {name: node for node in graph.node for name in node.output}
    found: dict[str, None] = {}
    for node in graph.node:
        if node.op_type == operator:
            name = node.input[0]
            while name in makers and makers[name].op_type in _THROUGH:
                name = makers[name].input[0]
            found[name] = None
    return tuple(found)


def _run(
    model: "ModelProto", spec: DetectionSpec, names: Sequence[str]
) -> tuple[dict[str, Array], tuple[int, int]]:
    """Run a picture of noise and look into the graph.

    Returns:
        The values by name, and (height, width) of the picture.
    """
    import onnxruntime
    from onnx import ModelProto, helper

    probe = ModelProto()
    probe.CopyFrom(model)
    known = {value.name for value in probe.graph.output}
    probe.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in names if name not in known
    )
    value, layout = onnx_graph.picture_input(model, spec.input)
    shape = [
        axis if isinstance(axis, int) else (1 if at == 0 else _FREE_SIDE)
        for at, axis in enumerate(onnx_graph.shape_of(value))
    ]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    noise = np.random.default_rng(0).random(shape, np.float32)
    picture = (noise * 255 if dtype.kind in "iu" else noise).astype(dtype)
    vendor: Any = onnxruntime
    session = vendor.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    values: list[Array] = session.run(list(names), {value.name: picture})
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    return dict(zip(names, values, strict=True)), (height, width)


def _attributes_first(raw: Array, wide: int, name: str) -> Array:
    if raw.ndim == 3 and raw.shape[0] == 1 and wide in raw.shape[1:]:
        return raw[0] if raw.shape[1] == wide else raw[0].T
    raise ConversionError(
        f"output '{name}'",
        expected=f"(1, {wide}, n) or (1, n, {wide})",
        got=onnx_graph.write_shape(raw.shape),
        do="Give as many labels as the model has classes",
    )


def _leads_to(distances: Array, strides: tuple[int, ...], canvas: tuple[int, int], boxes: Array) -> bool:
    """Say whether the device makes the same boxes of what may be distances."""
    if distances.ndim != 3 or distances.shape[2] != len(boxes):
        return False
    outputs = (
        TensorSpec("distances", "float32", distances.shape),
        TensorSpec("scores", "float32", (1, 1, len(boxes))),
    )
    try:
        decoder = DistancesDecoder(DistancesHead(format="yolo-distances", strides=strides), outputs, 1)
        made = decoder.boxes(distances[0].astype(np.float32), np.arange(len(boxes)), canvas)
    except BundleError:  # these are no distances, or other grids
        return False
    return bool(np.abs(made - boxes).max() <= _PIXELS)


def _end(
    model: "ModelProto", distances: str, scores: str, strides: tuple[int, ...], yolo: YoloHead
) -> DistancesHead:
    """Make two inner values the outputs of the graph, under their roles' names."""
    from onnx import TensorProto, helper

    graph = model.graph
    del graph.output[:]
    for inner, name in ((distances, "distances"), (scores, "scores")):
        if inner != name:
            if name in onnx_graph.value_names(graph):
                onnx_graph.rename_value(graph, name, onnx_graph.fresh(name, onnx_graph.value_names(graph)))
            onnx_graph.rename_value(graph, inner, name)
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, None, None)))
    drop_dead(graph)
    onnx_graph.infer_shapes(model)
    return DistancesHead(
        format="yolo-distances",
        distances="distances",
        scores="scores",
        strides=strides,
        nms_iou=yolo.nms_iou,
        class_agnostic=yolo.class_agnostic,
    )
