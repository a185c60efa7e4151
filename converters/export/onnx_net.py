"""ONNX models on their way to the formats that are made from torch: Core ML and TensorFlow Lite.

Writes no file and reads the graph by `onnx_torch`; the exporters are those of torch sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import TypeAdapter

from converters.export import onnx_graph, suppress
from converters.export.torch_net import Net, image_of
from converters.step import MODEL_FILES, Facts, Options
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import DetectionSpec, ImageInput, NmsHead, TaskSpec, YoloHead

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, slots=True)
class OnnxNet:
    """A net made of an ONNX model, and how it differs from it.

    Args:
        net: For the exporters of torch.
        outputs: Name of an output in the model -> its name in the net.
        head: What is left of a detector whose suppression was taken out; None where there was none.
    """

    net: Net
    outputs: Mapping[str, str]
    head: YoloHead | None

    def facts(self, made: Facts) -> Facts:
        """Complete what an exporter says of the net by what happened before.

        Args:
            made: Its facts; `outputs` maps from the net's names.
        """
        names = cast("dict[str, str]", made["outputs"])
        facts: Facts = dict(made)
        facts["outputs"] = {name: names[inside] for name, inside in self.outputs.items()}
        if self.head is not None:
            output = names[str(self.head.output)]
            facts["head"] = self.head.model_copy(update={"output": output}).model_dump(mode="json")
        return facts


def net_of(inputs: Mapping[str, Path], options: Options, *, float_pixels: bool = False) -> OnnxNet:
    """Read a step's ONNX model as a net; suppression inside is taken out, for no target of torch has it.

    Args:
        inputs: `model`: the folder of an ONNX model.
        options: `task`: the TaskSpec. `input`: the ImageInput, where it differs from the task's.
        float_pixels: Take uint8 pictures as float32 pixels.

    Raises:
        ConversionError: An operator has no counterpart in torch, or a shape is not fixed.
    """
    from converters.export.onnx_torch import make_network
    from converters.export.torch_source import make_net

    told = options.get("task")
    task = None if told is None else TypeAdapter[TaskSpec](TaskSpec).validate_python(told)
    model = onnx_graph.load(inputs["model"] / MODEL_FILES["onnx"])
    names = [value.name for value in model.graph.output]
    outputs, head = dict(zip(names, names, strict=True)), None
    if suppress.has_suppression(model):
        if not isinstance(task, DetectionSpec) or not isinstance(task.head, NmsHead):
            raise ConversionError(
                "the model suppresses boxes itself, which this format cannot",
                operator="NonMaxSuppression",
                expected="a detection task with a head 'nms'",
                got="another task" if task is None else task.kind,
                do="Declare that head: suppression then moves to the device",
            )
        head = suppress.release_model(model, len(task.labels))
        outputs = {names[0]: str(head.output)}
    image = image_of(options)
    folded = _takes_pixels(model)
    if folded and image is not None:
        plain = ImageInput(layout="nhwc").model_dump(include={"layout", "scale", "mean", "std"})
        image = image.model_copy(update=plain)
    network = make_network(model, task, float_pixels=float_pixels)
    net = make_net(
        network,
        dict(zip(network.input_names, network.example, strict=True)),
        outputs=network.output_names,
        image=image,
    )
    return OnnxNet(replace(net, folded=folded), outputs, head)


def _takes_pixels(model: "ModelProto") -> bool:
    """Tell whether `fold` has been at it: pictures go in as bytes, channels last."""
    from onnx import TensorProto

    return any(
        value.type.tensor_type.elem_type == TensorProto.UINT8
        and onnx_graph.picture_layout(onnx_graph.shape_of(value)) == "nhwc"
        for value in onnx_graph.real_inputs(model.graph)
    )
