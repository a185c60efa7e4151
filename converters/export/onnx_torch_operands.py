"""What an operator of an ONNX graph is given when it runs in torch: attributes, constants, shapes, tensors.

Runs no operator; `onnx_torch_layers` and `onnx_torch_ops` do.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Array

if TYPE_CHECKING:
    from onnx import NodeProto

Tensor: TypeAlias = torch.Tensor
Outputs: TypeAlias = Tensor | tuple[Tensor, ...]

_REMEDY = "Export the model with other operators, or leave this format out"

# ONNX specification, TensorProto.DataType. Half and double become float: targets choose their own precision.
_DTYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float32,
    11: torch.float32,
}


def dtype_of(element: int) -> torch.dtype:
    """Give the type of a network's tensors for a type of ONNX.

    Raises:
        ConversionError: Networks do not calculate in this type.
    """
    if element not in _DTYPES:
        raise ConversionError("a tensor type", expected="float, integer or bool", got=f"ONNX type {element}")
    return _DTYPES[element]


def as_tensor(array: Array) -> Tensor:
    """Copy a constant, half and double as float."""
    if array.dtype.kind not in "biu" or array.dtype in {np.dtype("uint32"), np.dtype("uint64")}:
        array = array.astype(np.float32 if array.dtype.kind not in "biu" else np.int64)
    return torch.from_numpy(np.array(array, order="C"))


class Operands:
    """One operator of the graph, without its tensors."""

    def __init__(
        self,
        node: "NodeProto",
        opset: int,
        known: Sequence[Array | None],
        shapes: Sequence[tuple[int, ...]],
    ) -> None:
        """Keep what is fixed.

        Args:
            node: The operator.
            opset: Version of the standard operators.
            known: Its inputs, where they are constants.
            shapes: Of its inputs; () for one left out.
        """
        from onnx import helper

        self.operator: str = node.op_type
        self.layer: str = node.name or node.output[0]
        self.opset = opset
        self.outputs = len(node.output)
        self.shapes = tuple(shapes)
        self._names = tuple(node.input)
        self._known = tuple(known)
        self._attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def attribute(self, name: str, default: Any = None) -> Any:
        """Give an attribute; texts as str."""
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def known(self, index: int) -> Array | None:
        """Give an input that is a constant; None where it is none, or left out."""
        return self._known[index] if index < len(self._known) else None

    def numbers(self, index: int) -> list[int] | None:
        """Give an input that must be a constant list of integers; None where it is left out.

        Raises:
            ConversionError: It depends on what goes into the network.
        """
        array = self.known(index)
        if array is not None:
            return [int(value) for value in array.reshape(-1)]
        if index < len(self._names) and self._names[index]:
            raise self.failure("its shape depends on the input's content", expected="fixed shapes")
        return None

    def failure(self, why: str, expected: str | None = None, do: str = _REMEDY) -> ConversionError:
        """Make the error for an operator that this network cannot run."""
        return ConversionError(
            f"operator {self.operator} of layer '{self.layer}': {why}",
            operator=self.operator,
            layer=self.layer,
            expected=expected,
            do=do,
        )


class Inputs:
    """The tensors of one operator, fetched when it asks: constants read as numbers never become any."""

    def __init__(self, fetch: Callable[[str], Tensor], names: Sequence[str]) -> None:
        self._fetch, self._names = fetch, names

    def __getitem__(self, index: int) -> Tensor:
        return self._fetch(self._names[index])

    def __len__(self) -> int:
        return len(self._names)

    def get(self, index: int) -> Tensor | None:
        """Give an input, None where it is left out."""
        there = index < len(self._names) and self._names[index]
        return self._fetch(self._names[index]) if there else None

    def all(self) -> list[Tensor]:
        """Give them all, of an operator that takes any number."""
        return [self[index] for index in range(len(self))]


Handler: TypeAlias = Callable[[Operands, Inputs], Outputs]
"""Runs one operator in torch."""
