"""From a text to the input tensors of a model, by the bundle's own `tokenizer.json`. Runs no model.

Needs the library `tokenizers`, imported when the first text model is opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import BundleError, EngineError, InputError
from edge_runtime.contract.task import TextInput
from edge_runtime.contract.tensors import Array, TensorSpec
from edge_runtime.tasks.names import plain_name

IDS = "input_ids"
MASK = "attention_mask"
TYPES = "token_type_ids"
_DTYPES = ("int32", "int64")
_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")
"""What the makers of common tokenizers call it, where `tokenizer.json` declares no padding."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What became of a text.

    Args:
        mask: (length,) bool, where the tensor holds tokens and not padding.
        truncated: Whether the text was longer than the model takes, and its end is missing.
    """

    mask: NDArray[np.bool_]
    truncated: bool


class TextTensors:
    """Makes the input tensors of one text model. Safe to share between threads."""

    def __init__(self, spec: TextInput, inputs: Sequence[TensorSpec], tokenizer: Path) -> None:
        """Bind a declaration and a tokenizer to the inputs of a model.

        Args:
            spec: How a text becomes tokens.
            inputs: What the model takes: `input_ids`; `attention_mask` and `token_type_ids` if it wants them.
            tokenizer: A `tokenizer.json` of the library `tokenizers`.

        Raises:
            BundleError: Declaration, tokenizer and model do not belong together.
            EngineError: The library `tokenizers` is missing.
        """
        self._inputs = _by_role(inputs)
        self._length = _fixed_length(spec, self._inputs)
        if self._length is None and spec.pad == "max_length":
            self._length = spec.max_length
        self._max_length = spec.max_length
        self._tokenizer, self._pad_id, self._pad_left = _load(tokenizer, spec.max_length)

    def fill(self, text: str) -> tuple[dict[str, Array], Tokens]:
        """Make the tensors.

        Args:
            text: Any length; what is over `max_length` tokens is cut, and said so.

        Returns:
            Each (1, length), int32 or int64 as the model takes it.

        Raises:
            InputError: It is no text, or a text without tokens.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers read JSON
            raise InputError("text", expected="a string", got=type(text).__name__)
        found = self._tokenizer.encode(text)
        count = len(found.ids)
        if not count:
            raise InputError("text", expected="at least one token", got=repr(text[:40]))
        length = count if self._length is None else self._length
        spot = slice(length - count, length) if self._pad_left else slice(0, count)
        tensors: dict[str, Array] = {}
        for role, values, pad in (
            (IDS, found.ids, self._pad_id),
            (MASK, found.attention_mask, 0),
            (TYPES, found.type_ids, 0),
        ):
            if role in self._inputs:
                tensor = np.full((1, length), pad, self._inputs[role].dtype)
                tensor[0, spot] = values
                tensors[self._inputs[role].name] = tensor
        mask = np.zeros(length, np.bool_)
        mask[spot] = found.attention_mask
        return tensors, Tokens(mask, bool(found.overflowing))


def _by_role(inputs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    roles: dict[str, TensorSpec] = {}
    for tensor in inputs:
        name = plain_name(tensor.name)
        fits = name in {IDS, MASK, TYPES} and tensor.dtype in _DTYPES and len(tensor.shape) == 2
        if not fits or tensor.shape[0] not in {1, None}:
            raise BundleError(
                f"input '{tensor.name}' of a text model",
                expected=f"{IDS}, {MASK} or {TYPES}, int32 or int64, (1, length)",
                got=str(tensor),
                do="Export the model with these inputs",
            )
        roles[name] = tensor
    if IDS not in roles:
        raise BundleError(
            "inputs of a text model", expected=IDS, got=", ".join(map(str, inputs)) or "none",
            do="Export the model with these inputs",
        )  # fmt: skip
    return roles


def _fixed_length(spec: TextInput, inputs: dict[str, TensorSpec]) -> int | None:
    """The one length that the model takes; None where it takes any."""
    lengths = {tensor.shape[1] for tensor in inputs.values()} - {None}
    if not lengths:
        return None
    if len(lengths) > 1 or spec.max_length > (length := min(filter(None, lengths))):
        raise BundleError(
            "the declared max_length and the model do not belong together",
            expected=f"at most {' or '.join(map(str, sorted(filter(None, lengths))))} tokens",
            got=f"max_length {spec.max_length}",
            do="Declare the length the model was exported with",
        )
    return length


def _load(file: Path, max_length: int) -> tuple[Any, int, bool]:
    """Open a tokenizer: itself, the id of its padding, and whether it pads on the left."""
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra, imported when it is asked for
    except ImportError as error:
        raise EngineError(
            f"text models need the library 'tokenizers' ({error})",
            do="Install it: pip install 'edge-runtime[text]'",
        ) from error
    try:
        tokenizer: Any = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(
            f"tokenizer {file}", expected="a tokenizer.json of Hugging Face tokenizers", got=str(error)[:200]
        ) from error
    special = int(tokenizer.num_special_tokens_to_add(False))
    if max_length <= special:
        raise BundleError(
            "max_length", expected=f"more than the tokenizer's {special} special tokens", got=str(max_length)
        )
    declared: dict[str, Any] = tokenizer.padding or {}
    pad_id = declared.get("pad_id")
    if pad_id is None:
        ids = (tokenizer.token_to_id(token) for token in _PAD_TOKENS)
        pad_id = next((known for known in ids if known is not None), 0)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer, int(pad_id), declared.get("direction") == "left"
