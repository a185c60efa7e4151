"""From Keras files and SavedModels to ONNX, TensorFlow Lite and Core ML.

Runs no training graph. A Keras file may hold Python code (Lambda layers): it is loaded only with `trust`.
"""

import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue, TypeAdapter

from converters.export import onnx_coreml, onnx_source
from converters.export.torch_net import colour_of, image_of
from converters.recipe import Source
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import ImageInput
from edge_runtime.contract.tensors import format_shape
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from onnx import ModelProto

_NEWEST_OPSET = 18
"""What tf2onnx writes at most; onnx's own converter goes on from there."""
_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class _Model:
    """A model of TensorFlow, whatever file it came from.

    Args:
        call: Takes one tensor for each input, gives one for each output, in order.
        inputs: TensorSpecs, in order; None is a free axis.
        outputs: Names, in order.
        keep: The weights, or what owns them.
    """

    call: Callable[..., Sequence[Any]]
    inputs: Sequence[Any]
    outputs: tuple[str, ...]
    keep: Any


def export_onnx(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the ONNX model of a Keras file or a SavedModel.

    Args:
        inputs: `source`: a `.keras` or `.h5` file, or the folder of a SavedModel.
        out: Gets `model.onnx`.
        options: `source`: the recipe's Source, for `trust`. `task` or `input`: how a picture goes in. `size`:
            [height, width]. `dynamic`: false fixes the batch to 1. `opset`: of the result; absent: 17.
        tell: Progress.

    Returns:
        As `onnx_source:normalize`; outputs have the names of the source.

    Raises:
        ConversionError: The source cannot be loaded, or tf2onnx does not know an operator.
    """
    tf = _tensorflow()
    tell(0.0, "loading the model")
    model = load(inputs["source"], options)
    specs = specs_of(model, options, fixed=options.get("dynamic") is False)
    tell(0.3, "translating to ONNX")
    opset = options.get("opset")
    opset = opset if isinstance(opset, int) else 17
    import tf2onnx

    vendor: Any = tf2onnx
    try:
        proto, _ = vendor.convert.from_function(
            tf.function(model.call, input_signature=specs),
            input_signature=specs,
            opset=min(opset, _NEWEST_OPSET),
        )
    except Exception as error:
        raise refusal("tf2onnx", error) from error
    _require_known(proto)
    _rename_outputs(proto, model.outputs)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        raw = Path(folder) / "raw.onnx"
        raw.write_bytes(proto.SerializeToString())
        wanted: Options = {"opset": opset, "task": options.get("task"), "dynamic": options.get("dynamic")}
        facts = onnx_source.normalize({"source": raw}, out, wanted, lambda s, what: tell(0.6 + 0.4 * s, what))
    facts["tools"] = _tools("tf2onnx", "onnx", "onnxslim")
    return facts


def export_tflite(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the TFLite model, float32, of a Keras file or a SavedModel.

    Args:
        inputs: As for `export_onnx`.
        out: Gets `model.tflite`.
        options: `source`, `task` or `input`, `size` as for `export_onnx`; the batch is 1. `fold`: take uint8
            NHWC pictures and normalise inside; `colour` then is the order of the channels.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`; for pictures `layout`, `folded` and `input`, the ImageInput
        of this model.

    Raises:
        ConversionError: The source cannot be loaded, or TensorFlow Lite has no kernel for an operator.
    """
    tell(0.0, "loading the model")
    model = load(inputs["source"], options)
    specs = specs_of(model, options, fixed=True)
    image = image_of(options)
    facts: Facts = {}
    if image is not None:
        if options.get("fold"):
            model, specs, image = _folded(model, specs, image, options)
        facts["layout"], facts["folded"] = image.layout, bool(options.get("fold"))
        facts["input"] = image.model_dump(mode="json")
    tell(0.3, "translating to TFLite")
    try:
        content = _to_tflite(model, specs)
    except Exception as error:
        raise refusal("TensorFlow Lite", error) from error
    file = out / MODEL_FILES["tflite"]
    file.write_bytes(content)
    return facts | _names_inside(file, model)


def export_coreml(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the Core ML model of a Keras file or a SavedModel, by way of ONNX.

    Coremltools' own TensorFlow front end is not used: it was last tested with TensorFlow 2.12.

    Args:
        inputs: As for `export_onnx`.
        out: Gets `model.mlpackage`.
        options: Those of `export_onnx` and of `onnx_coreml:export`.
        tell: Progress.

    Returns:
        As `onnx_coreml:export`.

    Raises:
        ConversionError: As for both.
    """
    with tempfile.TemporaryDirectory(dir=out) as folder:
        told = dict(options) | {"dynamic": False}
        made = export_onnx(inputs, Path(folder), told, lambda share, what: tell(share / 2, what))
        facts = onnx_coreml.export({"model": Path(folder)}, out, options, lambda s, w: tell(0.5 + s / 2, w))
    facts["tools"] = _mapping(made["tools"]) | _mapping(facts["tools"])
    return facts


def _to_tflite(model: _Model, specs: Sequence[Any]) -> bytes:
    tf = _tensorflow()

    def call(*tensors: Any) -> dict[str, Any]:
        return dict(zip(model.outputs, model.call(*tensors), strict=True))

    # Only a tf.Module that owns function and variables has its weights frozen; with a Keras model in its
    # place they stay variables that nobody fills, and the file answers NaN.
    owner = tf.Module()
    owner.weights, owner.function = model.keep, tf.function(call, input_signature=specs)
    concrete = owner.function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner).convert()


def _names_inside(file: Path, model: _Model) -> Facts:
    """Read back what the tensors are called: the order of the file is not that of the model."""
    from ai_edge_litert.interpreter import Interpreter

    vendor: Any = Interpreter(str(file))
    runner = vendor.get_signature_runner(_SIGNATURE)
    taken, given = runner.get_input_details(), runner.get_output_details()
    facts: Facts = {"tools": _tools(), "warnings": []}
    facts["inputs"] = {name: taken[name]["name"] for name in (_bare(spec.name) for spec in model.inputs)}
    facts["outputs"] = {name: given[name]["name"] for name in model.outputs}
    return facts


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    return TypeAdapter(dict[str, JsonValue]).validate_python(value)


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # sums in a fixed order
    import tensorflow

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    return tensorflow


def _tools(*names: str) -> dict[str, JsonValue]:
    tools: dict[str, JsonValue] = {name: version(name) for name in (*names, "keras")}
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return tools | {"tensorflow": version(name)}
        except PackageNotFoundError:
            continue
    return tools


def load(path: Path, options: Options) -> _Model:
    """Load a Keras file or a SavedModel.

    Raises:
        ConversionError: It cannot be loaded, or holds code that nobody trusts.
    """
    source = Source.model_validate(options.get("source") or {"path": str(path)})
    tf = _tensorflow()  # before Keras, which starts it with its own settings
    if path.is_dir():
        return _load_saved_model(path)
    import keras

    vendor: Any = keras
    try:
        net = vendor.saving.load_model(path, compile=False, safe_mode=not source.trust)
    except Exception as error:
        if not source.trust and re.search(r"safe_mode|deserializ|lambda", str(error), re.IGNORECASE):
            raise ConversionError(
                f"model {path} holds code, which runs when it is loaded: {brief(error)}",
                do="If you know who made it, pass --trust-source",
            ) from error
        raise ConversionError(
            f"model {path} cannot be loaded: {brief(error)}",
            expected="a whole model in a .keras or .h5 file, of this version of Keras or an earlier one",
            do="Save it again with model.save()",
        ) from error
    if not getattr(net, "inputs", None):
        raise ConversionError(
            f"model {path} does not say what it takes", expected="a built model", do="Call it once, then save"
        )
    names = tuple(getattr(net, "output_names", None) or [f"output_{i}" for i in range(len(net.outputs))])

    def call(*tensors: Any) -> Sequence[Any]:
        given = net(tensors[0] if len(net.inputs) == 1 else list(tensors), training=False)
        return tf.nest.flatten(given)

    specs = [tf.TensorSpec(value.shape, value.dtype, _bare(value.name)) for value in net.inputs]
    return _Model(call, specs, names, [variable.value for variable in net.variables])


def _load_saved_model(path: Path) -> _Model:
    tf = _tensorflow()
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise ConversionError(
            f"SavedModel {path} cannot be loaded: {brief(error)}",
            do="Copy the whole folder, variables included",
        ) from error
    signature = loaded.signatures.get(_SIGNATURE)
    if signature is None:
        raise ConversionError(
            f"SavedModel {path}",
            expected=f"a signature '{_SIGNATURE}'",
            got=", ".join(loaded.signatures) or "none",
            do="Export it with model.export(), or with that signature",
        )
    taken: Any = signature.structured_input_signature
    specs = list(taken[1].values())
    outputs = tuple(sorted(signature.structured_outputs))

    def call(*tensors: Any) -> Sequence[Any]:
        given = signature(**{spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)})
        return [given[name] for name in outputs]

    return _Model(call, specs, outputs, loaded)


def specs_of(model: _Model, options: Options, *, fixed: bool) -> list[Any]:
    """Give the inputs the size that was asked for, and a batch of 1 where everything is to be fixed."""
    tf = _tensorflow()
    image, size = image_of(options), options.get("size")
    told = None if size is None else TypeAdapter(tuple[int, int]).validate_python(size)
    wanted = told or (image.size if image else None)
    first = 2 if image is not None and image.layout == "nchw" else 1
    specs: list[Any] = []
    for spec in model.inputs:
        shape: list[int | None] = list(spec.shape)
        if fixed and shape and shape[0] is None:
            shape[0] = 1
        if wanted is not None and len(shape) == 4:
            for axis, length in zip((first, first + 1), wanted, strict=True):
                if shape[axis] not in {None, length} and told is not None:
                    raise ConversionError(
                        f"input '{spec.name}' cannot have the size {wanted[0]}x{wanted[1]}",
                        expected=format_shape(shape),
                        do="Leave out `size`, or save the model with free height and width",
                    )
                shape[axis] = shape[axis] or length
        if fixed and None in shape:
            raise ConversionError(
                f"input '{spec.name}' has no fixed shape, and this format takes no other",
                got=format_shape(shape),
                do="Say `size: [height, width]` in the recipe",
            )
        specs.append(tf.TensorSpec(shape, spec.dtype, spec.name))
    return specs


def _folded(
    model: _Model, specs: Sequence[Any], image: ImageInput, options: Options
) -> tuple[_Model, list[Any], ImageInput]:
    """Put normalisation in front: `(pixel * scale - mean) / std`, channels turned where asked."""
    tf = _tensorflow()
    if len(specs) != 1 or len(specs[0].shape) != 4 or image.layout != "nhwc":
        raise ConversionError(
            "preprocessing cannot be folded into this model",
            expected="one input (1, height, width, 3)",
            got=", ".join(f"{spec.name} {format_shape(spec.shape)}" for spec in specs),
            do="Leave out `fold`",
        )
    colour = colour_of(options) or image.colour
    plain = ImageInput(layout="nhwc", colour=colour)
    changes = plain.model_dump(include={"colour", "scale", "mean", "std"})

    def call(pixels: Any) -> Sequence[Any]:
        value = tf.cast(pixels, specs[0].dtype)
        if colour != image.colour:
            value = tf.reverse(value, [-1])
        gain = [image.scale / std for std in image.std]
        shift = [-mean / std for mean, std in zip(image.mean, image.std, strict=True)]
        return model.call(value * gain + shift)

    spec = tf.TensorSpec(specs[0].shape, tf.uint8, specs[0].name)
    folded = _Model(call, [spec], model.outputs, model.keep)
    return folded, [spec], image.model_copy(update=changes)


def _require_known(proto: "ModelProto") -> None:
    """Name what tf2onnx left as it was: it copies what it does not know, and says so in its log only."""
    from onnx import defs

    for node in proto.graph.node:
        if not node.domain and not defs.has(node.op_type):
            raise ConversionError(
                f"tf2onnx cannot translate operator {node.op_type} of layer '{node.name}'",
                operator=node.op_type,
                layer=node.name,
                do="Replace the layer by standard ones, or leave this format out",
            )


def _rename_outputs(proto: Any, names: Sequence[str]) -> None:
    from converters.export import onnx_graph

    for value, name in zip(proto.graph.output, names, strict=True):
        if value.name == name:
            continue
        if name in onnx_graph.value_names(proto.graph):
            free = onnx_graph.fresh(name, onnx_graph.value_names(proto.graph))
            onnx_graph.rename_value(proto.graph, name, free)
        onnx_graph.rename_value(proto.graph, value.name, name)
        value.name = name


def _bare(name: str) -> str:
    """`serving_default_image:0` and `image:0` are `image`."""
    return name.removeprefix(f"{_SIGNATURE}_").partition(":")[0]


def refusal(tool: str, error: Exception) -> ConversionError:
    """Make the error for what a converter does not translate; names the operator where its words do."""
    text = str(error)
    patterns = (r"'tf\.(\w+)' op", r"\b([A-Z]\w+): \{[^}]*?'?([\w/.]+)", r"ops? \[?'?(?:tf\.)?([A-Z]\w+)")
    found = next((match for pattern in patterns if (match := re.search(pattern, text))), None)
    operator = found[1] if found else None
    layer = re.search(r'loc\(.*?"([\w/.:]+)"', text)
    return ConversionError(
        f"{tool} cannot translate {f'operator {operator}' if operator else 'the model'}: {brief(error)}",
        operator=operator,
        layer=layer[1] if layer else None,
        do="Replace the layer by standard ones, or leave this format out",
    )
