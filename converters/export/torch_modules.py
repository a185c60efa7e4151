"""Modules put around a source's own one: named tensors in and out, pictures as a device has them.

Reads no file and runs nothing by itself. Imports torch, so it is imported when a step runs.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from edge_runtime.contract.errors import ConversionError

_HIDDEN = -10000.0
"""What a score gets that must not count: nothing after softmax, and a number in float16 too."""


def flatten(found: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Go through all tensors that a module gave, whatever they are packed in.

    Args:
        found: A tensor, or mappings, sequences, named tuples and dataclasses of such; None counts as nothing.
        name: What to call it; a part of something is `name_key`, or `name_0` where it has no key.

    Raises:
        ConversionError: There is something else in it.
    """
    if found is None:
        return
    if isinstance(found, Tensor):
        yield name or "output", found
        return
    for key, part in _parts(found, name):
        yield from flatten(part, f"{name}_{key}" if name else key)


def _parts(found: Any, name: str) -> list[tuple[str, object]]:
    if isinstance(found, Mapping):
        return [(str(key), part) for key, part in cast("Mapping[object, object]", found).items()]
    if dataclasses.is_dataclass(found):
        return [(field.name, getattr(found, field.name)) for field in dataclasses.fields(found)]
    if isinstance(found, list | tuple):
        parts = cast("Sequence[object]", found)
        keys: Sequence[str] | None = getattr(parts, "_fields", None)  # of a named tuple
        return list(zip(keys or _numbers(len(parts), name), parts, strict=True))
    raise ConversionError(
        f"the module's output '{name or 'output'}'",
        expected="tensors, alone or in dicts, tuples and dataclasses",
        got=type(found).__name__,
        do="Let `forward` return tensors only",
    )


def _numbers(count: int, name: str) -> list[str]:
    return [str(i) if name else f"output_{i}" for i in range(count)]


class _Wrapper(nn.Module):
    """In eval mode from the start: what it wraps is so already, and an exported program cannot be told."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.training = False
        self.inner = inner


class Named(_Wrapper):
    """Gives a dictionary of tensors, whatever the module inside packs its answer in.

    Args:
        inner: The module.
        inputs: Names of what it takes, in order.
        outputs: Names of what it gives, in order.
    """

    def __init__(self, inner: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__(inner)
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)

    def forward(self, *tensors: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Run the module; tensors by place or by name."""
        given = tensors or tuple(named[name] for name in self._inputs)
        found = [tensor for _, tensor in flatten(self.inner(*given))]
        # A tensor given twice, or handed through, is one value to an exporter and would lose a name.
        seen = {id(tensor) for tensor in given}
        alone: list[Tensor] = []
        for tensor in found:
            alone.append(tensor.clone() if id(tensor) in seen else tensor)
            seen.add(id(tensor))
        return dict(zip(self._outputs, alone, strict=True))


class Pictures(_Wrapper):
    """Turns one input from a picture as a device has it to what the module inside takes.

    Args:
        inner: A module of named tensors.
        inputs: Names of what it takes, in order.
        picture: The input that is a picture.
        planar: Whether the module inside takes channels first; the picture comes with channels last.
        reverse: Whether the channels come the other way round.
        gain: One value a channel of the module inside; absent: nothing is normalised.
        shift: One value a channel, added afterwards.
    """

    def __init__(
        self,
        inner: nn.Module,
        inputs: Sequence[str],
        picture: str,
        *,
        planar: bool,
        reverse: bool = False,
        gain: Sequence[float] | None = None,
        shift: Sequence[float] = (),
    ) -> None:
        super().__init__(inner)
        self._inputs = tuple(inputs)
        self._picture = picture
        self._planar = planar
        self._reverse = reverse
        shape = (3, 1, 1) if planar else (3,)
        self._normalise = gain is not None
        self._scaled = any(value != 1 for value in gain or ())
        self._shifted = any(value != 0 for value in shift)
        # A buffer that is not persistent is a constant of the graph and no weight of the model.
        for name, values in (("_gain", gain or (1.0,) * 3), ("_shift", shift or (0.0,) * 3)):
            self.register_buffer(name, torch.tensor(values).reshape(shape), persistent=False)

    def forward(self, *tensors: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Run the module; tensors by place or by name, the picture `(n, height, width, 3)`."""
        given = tensors or tuple(named[name] for name in self._inputs)
        return self.inner(
            *(
                self._prepared(tensor) if name == self._picture else tensor
                for name, tensor in zip(self._inputs, given, strict=True)
            )
        )

    def _prepared(self, picture: Tensor) -> Tensor:
        if self._planar:
            picture = picture.permute(0, 3, 1, 2)
        if not self._normalise:
            return picture
        if self._reverse:
            picture = picture.flip(1 if self._planar else 3)
        real = picture.to(torch.float32)
        if self._scaled:
            real = real * self.get_buffer("_gain")
        return real + self.get_buffer("_shift") if self._shifted else real


class Transformer(_Wrapper):
    """Calls a Hugging Face model by names and gives one part of its answer.

    Args:
        inner: The model.
        names: What it takes, in order.
        part: What of its answer goes out.
        four_axes: Give it an additive mask (n, 1, 1, length) instead of one of ones and zeros.
    """

    def __init__(self, inner: nn.Module, names: Sequence[str], part: str, *, four_axes: bool) -> None:
        super().__init__(inner)
        self._names = tuple(names)
        self._part = part
        self._four_axes = four_axes

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the model."""
        given = dict(zip(self._names, tensors, strict=True))
        if self._four_axes:
            mask = given["attention_mask"][:, None, None, :].to(torch.float32)
            given["attention_mask"] = (1.0 - mask) * _HIDDEN
        return getattr(self.inner(**given), self._part)
