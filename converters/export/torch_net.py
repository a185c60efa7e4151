"""Net: a torch module ready for any exporter, with names, example inputs and what it says of pictures.

Loads nothing: `torch_source` and `hugging_face` make nets, the exporters take them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from converters.step import Facts, Options
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import ImageInput, TaskSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

_INNER = "inner"
"""Where every wrapper of `torch_modules` keeps what it wraps."""


@dataclass(frozen=True, slots=True)
class Net:
    """A module that takes its tensors by place or by name, and gives a dictionary of tensors; in eval mode.

    Args:
        module: It.
        examples: Name -> a tensor it takes, in order; no two are one object, which exporters would merge.
        outputs: Names of what it gives, in order.
        dynamic: Name of an input -> its axes that may have any length.
        picture: The input that is a picture; None where there is none.
        image: How the picture becomes that input; None where there is none.
        folded: Whether it takes pixels as they are and normalises them itself.
        warnings: One line each, for a person.
    """

    module: "nn.Module"
    examples: "Mapping[str, Tensor]"
    outputs: tuple[str, ...]
    dynamic: Mapping[str, tuple[int, ...]]
    picture: str | None = None
    image: ImageInput | None = None
    folded: bool = False
    warnings: tuple[str, ...] = ()

    def facts(self, tools: Mapping[str, str]) -> Facts:
        """Say what every exporter says of a net: names, layout, warnings, and the ImageInput it now has."""
        facts: Facts = {
            "tools": dict(tools),
            "warnings": list(self.warnings),
            "inputs": {name: name for name in self.examples},
            "outputs": {name: name for name in self.outputs},
        }
        if self.image is not None:
            facts |= {
                "layout": self.image.layout,
                "folded": self.folded,
                "input": self.image.model_dump(mode="json"),
            }
        return facts


def layer_path(path: str) -> str:
    """Give a module's path as the source knows it, without the wrappers around it; empty for itself."""
    parts = path.split(".")
    while parts and parts[0] == _INNER:
        parts.pop(0)
    return ".".join(parts)


def image_of(options: Options) -> ImageInput | None:
    """Give the ImageInput that the options name: `input`, or that of `task`; None where it is no picture."""
    told = options.get("input")
    if told is not None:
        return ImageInput.model_validate(told)
    task = options.get("task")
    if task is None:
        return None
    found = getattr(TypeAdapter[TaskSpec](TaskSpec).validate_python(task), "input", None)
    return found if isinstance(found, ImageInput) else None


def colour_of(options: Options) -> Literal["rgb", "bgr"] | None:
    """Give the channel order that the options name for pictures; None: that of the model."""
    return TypeAdapter[Literal["rgb", "bgr"] | None](Literal["rgb", "bgr"] | None).validate_python(
        options.get("colour")
    )


def with_pictures(
    net: Net,
    *,
    fold: bool,
    layout: Literal["nhwc", "nchw"] | None = None,
    colour: Literal["rgb", "bgr"] | None = None,
    pixels: Literal["uint8", "float32"] = "uint8",
) -> Net:
    """Let a net take pictures the way a device or a format likes them.

    Args:
        net: Any.
        fold: Take pixels 0–255 with channels last, and normalise inside.
        layout: Without `fold`: the layout that the format likes; None: as it is.
        colour: With `fold`: order of the channels that go in; None: that of the net.
        pixels: With `fold`: dtype of the pixels.

    Returns:
        The same net where nothing changes.

    Raises:
        ConversionError: There is nothing to fold into.
    """
    from converters.export.torch_modules import Pictures

    image, name = net.image, net.picture
    if image is None or name is None:
        if fold:
            raise _unfoldable(net)
        return net
    planar = image.layout == "nchw" and (fold or layout == "nhwc")
    if not fold and not planar:
        return net
    example = net.examples[name]
    if fold and not example.is_floating_point():
        raise _unfoldable(net)
    if planar:
        example = example.permute(0, 2, 3, 1).contiguous()
    module = Pictures(
        net.module,
        tuple(net.examples),
        name,
        planar=planar,
        reverse=fold and colour not in {None, image.colour},
        gain=tuple(image.scale / std for std in image.std) if fold else None,
        shift=tuple(-mean / std for mean, std in zip(image.mean, image.std, strict=True)) if fold else (),
    )
    changes: dict[str, object] = {"layout": "nhwc"}
    if fold:
        plain = ImageInput(layout="nhwc", colour=colour or image.colour)
        changes = plain.model_dump(include={"layout", "colour", "scale", "mean", "std"})
        example = _pixels(example, pixels)
    axes = {1: 3, 2: 1, 3: 2} if planar else {}
    return replace(
        net,
        module=module,
        examples=dict(net.examples) | {name: example},
        dynamic=dict(net.dynamic) | {name: tuple(axes.get(axis, axis) for axis in net.dynamic.get(name, ()))},
        image=ImageInput.model_validate(image.model_dump() | changes),
        folded=fold,
    )


def _unfoldable(net: Net) -> ConversionError:
    return ConversionError(
        "preprocessing cannot be folded into this model",
        expected="a float input (1, 3, height, width) or (1, height, width, 3)",
        got=", ".join(
            f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            for name, tensor in net.examples.items()
        ),
        do="Leave out `fold`",
    )


def _pixels(like: "Tensor", dtype: str) -> "Tensor":
    import torch

    made = torch.randint(0, 256, like.shape, generator=torch.Generator().manual_seed(0))
    return made.to(getattr(torch, dtype))
