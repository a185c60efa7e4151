"""Capturing a net as a `torch.export` program, and what the exporters' errors mean.

Writes no file. Every exporter goes through here, so that a module that cannot be captured is told so the same
way.
"""

import re
import traceback
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from converters.export.torch_net import Net, layer_path
from converters.export.torch_source import failing_layer
from edge_runtime.contract.errors import ConversionError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_REMEDIES = (
    (r"torchvision.*nms|(^|\W)nms", "Leave suppression outside of the model (`nms: outside`)"),
    (r"nonzero|masked_select|unique|index_put", "Use torch.where with a mask: its result has a fixed shape"),
    (r"fft|stft|complex|view_as_real", "Compute the spectrum with convolutions, or before the model"),
    (r"grid_sampl|upsample_bicubic|affine_grid", "Use bilinear interpolation in the module"),
    (r"sort|topk|argsort", "Sort after the model, on the device"),
    (r"bernoulli|rand|multinomial|dropout", "Take chance out of `forward`: the module must be in eval mode"),
)
_DEFAULT_REMEDY = "Write the layer with other operators, or leave this format out (`want.formats`)"
_OPERATOR = re.compile(
    r"(?:OpOverload\(op='|call_function\[target=torch\.ops\.|Lowering not found: |Unsupported fx node |"
    r"for op '?)([\w.]+\w)"
)
"""How torch's ONNX exporter, litert-torch and coremltools name what they do not know."""


def capture(net: Net, *, dynamic: bool = False) -> "ExportedProgram":
    """Capture a net's computation.

    Args:
        net: Any.
        dynamic: Keep its open axes open.

    Raises:
        ConversionError: The module decides by values, an axis is not free, or something else torch cannot
            capture; names the layer.
    """
    import torch

    module: Any = net.module
    shapes = None
    if dynamic:
        free = torch.export.Dim.DYNAMIC
        axes = tuple(dict.fromkeys(net.dynamic.get(name, ()), free) for name in net.examples)
        shapes = {"tensors": axes}
    try:
        with torch.no_grad():
            return torch.export.export(module, tuple(net.examples.values()), dynamic_shapes=shapes)
    except Exception as error:
        layer, kind = failing_layer(error, net.module)
        where = f" at layer '{layer}' ({kind})" if layer else ""
        expected, do = _meaning(str(error), net)
        raise ConversionError(
            f"torch cannot capture the module{where}: {_first_sentence(error)}",
            layer=layer or None,
            expected=expected,
            do=do,
        ) from error


@contextmanager
def hushed() -> Generator[None]:
    """Keep the warnings of torch and its exporters about each other to themselves; errors are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def unsupported(tool: str, error: Exception, program: "ExportedProgram") -> ConversionError:
    """Make the error for what an exporter could not translate.

    Args:
        tool: The exporter, for a person.
        error: What it raised; its causes are searched too.
        program: What it was given.
    """
    chain = _chain(error)
    said = _first_sentence(chain[-1])
    told = next((found[1] for one in reversed(chain) for found in _OPERATOR.finditer(str(one))), None)
    for one in chain:
        # Half a converted model and its folders hang on the traceback.
        traceback.clear_frames(one.__traceback__)
    if told is None:
        return ConversionError(f"{tool} failed: {said}", do=_DEFAULT_REMEDY)
    operator, layer = _in_program(program, told) or (told, "")
    return ConversionError(
        f"{tool} cannot translate operator '{operator}'" + (f" of layer '{layer}'" if layer else ""),
        operator=operator,
        layer=layer or None,
        got=said,
        do=next((do for pattern, do in _REMEDIES if re.search(pattern, operator)), _DEFAULT_REMEDY),
    )


def layers(program: "ExportedProgram") -> Mapping[str, str]:
    """Give the path of the source's module for each node of a program, by the node's name."""
    found: dict[str, str] = {}
    for node in program.graph.nodes:
        stack: list[tuple[str, str]] = [*cast("Any", node.meta.get("nn_module_stack") or {}).values()]
        found[node.name] = layer_path(_plain_path(stack[-1][0])) if stack else ""
    return found


def _plain_path(path: str) -> str:
    # Strict capture writes L['self'].features; the other one writes features.
    return re.sub(r"^L\['self'\]\.?|^L__self___?", "", path)


def _chain(error: BaseException) -> list[Exception]:
    chain: list[Exception] = []
    while isinstance(error, Exception):
        chain.append(error)
        following = error.__cause__ or error.__context__
        if following is None:
            break
        error = following
    return chain


def _in_program(program: "ExportedProgram", told: str) -> tuple[str, str] | None:
    """Find the first operator of a program that a tool calls `told`, and its layer.

    Tools name `aten.special_bessel_j0.default` in full, by its last name, or by what they first made of it,
    `prims.bessel_j0`.
    """
    paths = layers(program)
    calls = [
        (str(node.target).removeprefix("torch.ops."), paths[node.name])
        for node in program.graph.nodes
        if node.op == "call_function"
    ]
    last = told.removesuffix(".default").rpartition(".")[2]
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: told in {name, name.rpartition(".")[0]},
        lambda name: last in name.split("."),
        lambda name: any(part.endswith(f"_{last}") for part in name.split(".")),
    )
    return next((call for test in tests for call in calls if test(call[0])), None)


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _meaning(text: str, net: Net) -> tuple[str | None, str]:
    if "data-dependent" in text or "data dependent" in text:
        return (
            "a computation that does not depend on the values in tensors",
            "Replace `if` and `while` on tensor values by torch.where, and take .item() out of `forward`",
        )
    if "specialized" in text or "Constraints violated" in text or "marked" in text:
        axes = "; ".join(f"{name}: {', '.join(map(str, axes))}" for name, axes in net.dynamic.items())
        return f"free axes ({axes})", "The module fixes this axis: take it out of `dynamic` in the recipe"
    return None, "Check the module with torch.export.export(module, example_inputs)"
