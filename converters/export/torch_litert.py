"""From torch to TensorFlow Lite, by litert-torch; runs in that tool's own environment.

Float32 only: `quantize.litert` makes smaller ones of it. Fixed shapes only.
"""

import os
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from converters.export.fixed_shapes import FixedShapes
from converters.export.torch_capture import capture, hushed, unsupported
from converters.export.torch_net import Net
from converters.export.torch_parity import relative_error
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.litert import LiteRt

_LIMIT_BYTES = 2**31 - 1
"""A FlatBuffers file addresses its content with 31 bits."""
_SIGNATURE = "serving_default"
_NOT_BROADCAST = "don't have broadcast-compatible shapes"
_EXPANSIONS = frozenset({"aten.expand.default", "aten.expand_as.default"})
_STRETCHING = frozenset(f"aten.{name}.Tensor" for name in ("add", "div", "mul", "sub"))
"""Operators that stretch their operands to one shape."""


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the TFLite model of a torch source; see `FixedShapes.of_torch`.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`, `parity` with the module's own answers; for pictures
        `layout`, `folded` and `input`, the ImageInput of this model. They come with channels last.
    """
    return TARGET.of_torch(inputs, out, options, tell)


def write(net: Net, out: Path, options: Options, tell: Tell) -> Facts:
    """Write a net as TFLite; see `export`. It has no options of its own."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.module.parameters())
    if size > _LIMIT_BYTES:
        raise ConversionError(
            "the weights do not fit into a TFLite file",
            expected=f"at most {_LIMIT_BYTES} bytes",
            got=f"{size} bytes",
            do="Leave this format out (`want.formats`)",
        )
    pool_as_a_whole(net)
    tell(0.1, "translating to TFLite")
    content = _convert(net)
    tell(0.9, "comparing with torch")
    file = out / MODEL_FILES["tflite"]
    file.write_bytes(content)
    return _facts(net, file)


def _convert(net: Net) -> bytes:
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    with hushed():
        import litert_torch  # pyright: ignore[reportMissingImports] - in the tool's own environment

        vendor: Any = litert_torch

        def translated(module: Any) -> bytes:
            # By name, so that the file has the names as they were asked for.
            return vendor.convert(module, sample_kwargs=dict(net.examples)).model_content()

        try:
            return translated(net.module)
        except Exception as error:
            # It captures the module itself; where that is what failed, capturing again says so better.
            program = capture(net)
            if _NOT_BROADCAST not in str(error):
                raise unsupported("litert-torch", error, program) from error
        try:
            return translated(without_expansions(net))
        except Exception as error:
            raise unsupported("litert-torch", error, program) from error


def pool_as_a_whole(net: Net) -> None:
    """Make poolings whose window is larger than the picture means of the picture, which is what they are.

    litert-torch pads the picture to the window instead: from 2 × 2 to 640 × 640 in transformers'
    EfficientNet, 1 GB of zeros, beside which 8 bits have nothing left for the pixels.

    Args:
        net: Its module is changed in place, its answers are not.
    """
    import torch

    large: dict[Any, bool] = {}

    def look(pool: Any, given: tuple[Any, ...]) -> None:
        size: Any = pool.kernel_size
        window = cast("tuple[int, ...]", size if isinstance(size, tuple) else (size, size))
        sides = tuple(given[0].shape[2:])
        fits = pool.ceil_mode and pool.padding in {0, (0, 0)} and pool.divisor_override is None
        covered = fits and all(side <= length for side, length in zip(sides, window, strict=True))
        large[pool] = large.get(pool, True) and covered and sides != window

    pools = [part for part in net.module.modules() if isinstance(part, torch.nn.AvgPool2d)]
    hooks = [pool.register_forward_pre_hook(look) for pool in pools]
    if pools:
        with torch.no_grad():
            net.module(*net.examples.values())
    for hook in hooks:
        hook.remove()
    for parent in list(net.module.modules()):
        for name, part in parent.named_children():
            if large.get(part):
                setattr(parent, name, torch.nn.AdaptiveAvgPool2d(1))


def without_expansions(net: Net) -> Any:
    """Capture a net, and take out what stretches a tensor only for an operator that stretches it by itself.

    Of a tensor stretched along its last axis for a product, litert-torch 0.10 makes a product that its
    own checks refuse.

    Args:
        net: Any.

    Returns:
        A module with the same inputs by name, and the same answers.
    """
    import torch

    module: Any = torch.export.export(net.module, (), dict(net.examples)).module()
    for node in list(module.graph.nodes):
        if str(node.target) in _EXPANSIONS and all(_stretches(user, node) for user in node.users):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.recompile()
    return module


def _stretches(user: Any, expanded: Any) -> bool:
    """Whether an operator has another operand of the shape that a tensor was stretched to."""
    shape = expanded.meta["val"].shape
    others = [one for one in user.all_input_nodes if one is not expanded and "val" in one.meta]
    return str(user.target) in _STRETCHING and any(one.meta["val"].shape == shape for one in others)


def _facts(net: Net, file: Path) -> Facts:
    from ai_edge_litert.interpreter import Interpreter

    runner: Any = cast("Any", Interpreter)(str(file)).get_signature_runner(_SIGNATURE)
    facts = net.facts(
        {name: version(name) for name in ("ai-edge-litert", "litert-converter", "litert-torch", "torch")}
    )
    given, taken = runner.get_output_details(), runner.get_input_details()
    inputs = {name: str(taken[name]["name"]) for name in net.examples}
    outputs = {name: str(given[name]["name"]) for name in net.outputs}
    with closing(LiteRt().open(file, options=EngineOptions())) as session:
        rel = relative_error(net, session, inputs, outputs)
    facts |= {"inputs": dict(inputs), "outputs": dict(outputs), "parity": {"rel": rel}}
    narrowed = [name for name, tensor in net.examples.items() if str(tensor.dtype) == "torch.int64"]
    if narrowed:
        facts["warnings"] = [*net.warnings, f"int64 became int32: {', '.join(narrowed)}"]
    return facts


TARGET = FixedShapes("TFLite", write, layout="nhwc")
