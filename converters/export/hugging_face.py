"""From a Hugging Face folder to what devices take: encoders and classifiers of texts and pictures.

Reads local files only, runs no code of the folder, and takes safetensors only, unless it is trusted. Takes no
decoder that writes text. Token vectors go out as they are: the task pools them.
"""

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from converters.export import torch_coreai, torch_coreml, torch_litert, torch_onnx
from converters.export.fixed_shapes import FixedShapes
from converters.export.torch_capture import hushed
from converters.export.torch_net import Net, colour_of, image_of, with_pictures
from converters.export.torch_source import make_net
from converters.export.torch_weights import check_numbers
from converters.recipe import Source
from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import TaskSpec, TextInput
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from torch import Tensor, nn

_HEADS = {
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "logits"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "logits"),
    "ForImageClassification": ("AutoModelForImageClassification", "logits"),
    "ForMaskedLM": ("AutoModel", "last_hidden_state"),
    "ForPreTraining": ("AutoModel", "last_hidden_state"),
    "Model": ("AutoModel", "last_hidden_state"),
}
"""End of an architecture's name -> the class that loads it, and what of its answer goes out."""
_UNUSED = ("pooler.",)
"""Layers whose answer does not go out; a checkpoint may lack them."""
_TRACED_LENGTH = 16
_TEXTS = ("input_ids", "attention_mask", "token_type_ids")


def export_onnx(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the ONNX model of a folder.

    Args:
        inputs: `source`: the folder with `config.json` and safetensors.
        out: Gets `model.onnx`.
        options: As for `torch_onnx:export`; of `source` only `trust` and `outputs` count. `dynamic` is true
            where it is absent: texts in any batch, of any length.
        tell: Progress.

    Returns:
        As `torch_onnx:export`, and `labels` where the model knows its classes.

    Raises:
        ConversionError: The folder is incomplete or no encoder, or cannot be captured or translated.
    """
    dynamic = bool(options.get("dynamic", True))
    net, more = _load(inputs["source"], options, tell, dynamic=dynamic)
    net = with_pictures(net, fold=bool(options.get("fold")), colour=colour_of(options))
    return torch_onnx.write(net, out, options, tell, dynamic=dynamic) | more


def export_litert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the TFLite model of a folder, of one length: `max_length` of the task's input.

    Args:
        inputs: As for `export_onnx`.
        out: Gets `model.tflite`.
        options: As for `torch_litert:export`; `task`, or `max_length`.
        tell: Progress.

    Returns:
        As `torch_litert:export`, and `labels` where the model knows its classes.

    Raises:
        ConversionError: As for `export_onnx`.
    """
    return _export(torch_litert.TARGET, inputs, out, options, tell)


def export_coreml(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the Core ML model of a folder, of one length: `max_length` of the task's input.

    Args:
        inputs: As for `export_onnx`.
        out: Gets `model.mlpackage`.
        options: As for `torch_coreml:export`; `task`, or `max_length`.
        tell: Progress.

    Returns:
        As `torch_coreml:export`, and `labels` where the model knows its classes.

    Raises:
        ConversionError: As for `export_onnx`.
    """
    return _export(torch_coreml.TARGET, inputs, out, options, tell)


def export_coreai(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the Core AI asset of a folder, of one length; as `export_coreml`, without options of its own."""
    return _export(torch_coreai.TARGET, inputs, out, options, tell)


def load(folder: Path, options: Options, *, dynamic: bool) -> Net:
    """Make the net of a folder.

    Args:
        folder: With `config.json` and safetensors.
        options: As for the exports.
        dynamic: Any batch and length of texts.

    Returns:
        A net that takes `input_ids`, `attention_mask` and, where the model tells sentences apart,
        `token_type_ids`, each (n, length) int64; or `pixel_values` (n, 3, height, width) float32. It gives
        `last_hidden_state` (n, length, size) or `logits`.

    Raises:
        ConversionError: The folder is incomplete or no encoder, or the model does not run.
    """
    return _load(folder, options, lambda share, what: None, dynamic=dynamic)[0]


def _export(
    target: FixedShapes, inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell
) -> Facts:
    net, more = _load(inputs["source"], options, tell, dynamic=False)
    return target.of_net(net, out, options, tell) | more


def _load(folder: Path, options: Options, tell: Tell, *, dynamic: bool) -> tuple[Net, Facts]:
    tell(0.0, f"loading {folder.name}")
    os.environ["HF_HUB_OFFLINE"] = "1"
    source = Source.model_validate(options.get("source") or {"path": folder})
    config = _config(folder)
    loader, output, warnings = _loader(config, folder)
    module = _module(folder, loader, trust=source.trust)
    check_numbers(module)
    labels: Facts = {"labels": _labels(config)} if output == "logits" else {}
    outputs = source.outputs or (output,)
    if module.main_input_name != "input_ids":
        image = image_of(options)
        side = options.get("size") or (image and image.size) or _side(config)
        size = TypeAdapter(tuple[int, int]).validate_python(side)
        picture = {"pixel_values": _ones(1, 3, *size).float() / 2}
        wrapped = _reader(module, ("pixel_values",), output, four_axes=False)
        return make_net(wrapped, picture, outputs=outputs, image=image, warnings=warnings), labels
    length = _length(options, config)
    shape = (2, min(_TRACED_LENGTH, length)) if dynamic else (1, length)
    names = _TEXTS if _tells_sentences_apart(module, config) else _TEXTS[:2]
    examples = {name: _ones(*shape) for name in names}
    net = make_net(
        _text_reader(module, names, output),
        examples,
        outputs=outputs,
        dynamic=dict.fromkeys(names, (0, 1)) if dynamic else {},
        warnings=warnings,
    )
    return net, labels


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        found: object = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"folder {folder}",
            expected="a readable config.json",
            got=brief(error),
            do="Copy the whole folder",
        ) from error
    if not isinstance(found, dict) or "model_type" not in found:
        raise ConversionError(
            f"{file}", expected="a model's configuration with `model_type`", got="another file"
        )
    return cast("dict[str, Any]", found)


def _loader(config: Mapping[str, Any], folder: Path) -> tuple[str, str, list[str]]:
    architecture = str((config.get("architectures") or ["Model"])[0])
    kind = next((_HEADS[end] for end in _HEADS if architecture.endswith(end)), None)
    model_type = str(config["model_type"])
    foreign = "auto_map" in config and _is_foreign(model_type)
    if kind is None or foreign or _writes(config, model_type):
        raise ConversionError(
            f"{architecture} of {folder} cannot be converted",
            expected=f"an encoder known to transformers, one of *{', *'.join(_HEADS)}",
            got=architecture,
            do="Export it with its maker's own tools, and convert the ONNX model",
        )
    dropped = architecture.endswith(("ForMaskedLM", "ForPreTraining"))
    return *kind, [f"the head of {architecture} is left out: token vectors go out"] if dropped else []


def _writes(config: Mapping[str, Any], model_type: str) -> bool:
    from transformers.models.auto import modeling_auto

    names: Any = modeling_auto
    decoder = (
        model_type in names.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and model_type not in names.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    return decoder or bool(config.get("is_decoder") or config.get("is_encoder_decoder"))


def _is_foreign(model_type: str) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type not in cast("Any", CONFIG_MAPPING)


def _module(folder: Path, loader: str, *, trust: bool) -> Any:
    if not trust and not any(folder.glob("*.safetensors")):
        raise ConversionError(
            f"folder {folder}",
            expected="model.safetensors",
            got=", ".join(sorted(file.name for file in folder.iterdir() if file.is_file()))[:200]
            or "nothing",
            do="Save the model with safetensors; or, if you know who made it, pass --trust-source",
        )
    with hushed():
        import torch
        import transformers

        vendor: Any = transformers
        vendor.logging.set_verbosity_error()
        try:
            module, told = getattr(vendor, loader).from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=None if trust else True,
                dtype=torch.float32,
                # Plain matrix products and softmax, which every target has.
                attn_implementation="eager",
                output_loading_info=True,
            )
        except Exception as error:
            raise ConversionError(
                f"transformers cannot load {folder}: {brief(error)}", do="Copy the whole folder again"
            ) from error
    missing = sorted(
        key for key in told["missing_keys"] if not key.startswith(_UNUSED) and "pooler" not in key
    )
    if missing or told["mismatched_keys"]:
        keys = missing or sorted(str(key) for key in told["mismatched_keys"])
        raise ConversionError(
            f"the weights of {folder} do not belong to its config.json",
            expected="all keys of the model",
            got=f"{len(keys)} missing or of another shape ({', '.join(keys[:5])})",
            do="Copy the whole folder again",
        )
    return module.eval()


def _text_reader(module: Any, names: tuple[str, ...], output: str) -> "nn.Module":
    """Wrap an encoder, with a mask of four axes where it takes one: Core ML lacks what it does to another."""
    import torch

    plain, simple = (_reader(module, names, output, four_axes=four) for four in (False, True))
    ids = torch.arange(1, 9).reshape(2, 4)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    given = (ids, mask, *(torch.zeros_like(ids) for _ in names[2:]))
    with torch.no_grad():
        try:
            one, other = plain(*given), simple(*given)
        except Exception:  # noqa: BLE001 - a model that takes no such mask refuses it in a way of its own
            return plain
    if one.shape[:2] == mask.shape:
        one, other = one[mask.bool()], other[mask.bool()]
    return simple if torch.allclose(one, other, atol=1e-5) else plain


def _reader(module: Any, names: tuple[str, ...], output: str, *, four_axes: bool) -> "nn.Module":
    from converters.export.torch_modules import Transformer

    return Transformer(module, names, output, four_axes=four_axes)


def _tells_sentences_apart(module: Any, config: Mapping[str, Any]) -> bool:
    known = "token_type_ids" in inspect.signature(module.forward).parameters
    return known and int(config.get("type_vocab_size") or 0) > 1


def _length(options: Options, config: Mapping[str, Any]) -> int:
    told = options.get("max_length")
    task = options.get("task")
    if told is None and task is not None:
        text = getattr(TypeAdapter[TaskSpec](TaskSpec).validate_python(task), "input", None)
        told = text.max_length if isinstance(text, TextInput) else None
    most = TypeAdapter(int).validate_python(config.get("max_position_embeddings") or 1_000_000)
    if told is None:
        return min(TextInput().max_length, most)
    length = TypeAdapter(int).validate_python(told)
    if length > most:
        raise ConversionError("max_length", expected=f"at most {most} tokens", got=str(length))
    return length


def _side(config: Mapping[str, Any]) -> tuple[int, int]:
    side = config.get("image_size") or 224
    return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))


def _labels(config: Mapping[str, Any]) -> list[Any]:
    told: dict[str, str] = config.get("id2label") or {}
    return [told[key] for key in sorted(told, key=int)]


def _ones(*shape: int) -> "Tensor":
    import torch

    return torch.ones(*shape, dtype=torch.int64)
