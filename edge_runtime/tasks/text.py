"""From a text to the input tensors of a model, by the bundle's own `tokenizer.json`. Runs no model.

A text that is longer than the model takes is cut, looked at in overlapping windows, or refused, as the
declaration says; what became of it stands in `Tokens`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import BundleError, InputError, TooLargeError
from edge_runtime.contract.task import TextInput
from edge_runtime.contract.tensors import Array, TensorSpec
from edge_runtime.tasks.names import plain_name
from edge_runtime.tasks.tokenizer import load_tokenizer, require_text

IDS = "input_ids"
MASK = "attention_mask"
TYPES = "token_type_ids"
_DTYPES = ("int32", "int64")
CHARACTERS_A_TOKEN = 64
"""No text is tokenized beyond so many for each token it may have: some ten times what languages need."""
_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")
"""What the makers of common tokenizers call it, where `tokenizer.json` declares no padding."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What became of a text. Windows are rows; a text that fits is one row.

    Args:
        text: The text.
        mask: (windows, length) bool, where the tensor holds tokens and not padding.
        inside: (windows, length) bool, where these tokens are of the text, and not special ones.
        offsets: (windows, length, 2) int32, the first character of each token and the one after its last.
        words: (windows, length) int32, the word of the text, by the tokenizer's count, -1 for none.
        overlap: Tokens that two neighbouring windows share.
        truncated: Whether the text was longer than the model takes, and its end is missing.
    """

    text: str
    mask: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    offsets: NDArray[np.int32]
    words: NDArray[np.int32]
    overlap: int
    truncated: bool

    @property
    def count(self) -> int:
        """Tokens the model saw, each counted once, special ones of the first window included."""
        return int(self.mask[0].sum()) + int(self.fresh[1:].sum())

    @property
    def fresh(self) -> NDArray[np.int64]:
        """(windows,) int64: tokens of the text that no window before this one had."""
        counts = self.inside.sum(axis=1)
        counts[1:] -= self.overlap
        return counts

    @property
    def weights(self) -> NDArray[np.float32]:
        """(windows,) float32, sum 1: what each window counts in a mean, by the tokens it adds."""
        if len(self.mask) == 1:
            return np.ones(1, np.float32)
        return (self.fresh / self.fresh.sum()).astype(np.float32)


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
        self._spec = spec
        self._overlap = spec.overlap if spec.overflow == "window" else 0
        self._tokenizer, self._pad_id, self._pad_left = _load(tokenizer, spec, self._overlap)
        special = int(self._tokenizer.num_special_tokens_to_add(False))
        more = spec.max_windows - 1 if spec.overflow == "window" else 0
        self._most = spec.max_length + more * (spec.max_length - special - self._overlap)

    def fill(self, text: str) -> tuple[dict[str, Array], Tokens]:
        """Make the tensors.

        Args:
            text: Any length where the declaration cuts it; otherwise as long as it allows.

        Returns:
            Each (windows, length), int32 or int64 as the model takes it; one window for a text that fits.

        Raises:
            InputError: It is no text, or a text without tokens.
            TooLargeError: It is longer than the model takes, and the declaration refuses such texts; or it
                needs more windows than declared.
        """
        whole, most = require_text(text), CHARACTERS_A_TOKEN * self._most
        if len(whole) > most and self._spec.overflow != "truncate":
            raise self._too_long(f"{len(whole)} characters")
        found = self._tokenizer.encode(whole[:most])
        if not len(found.ids):
            raise InputError("text", expected="at least one token", got=repr(text[:40]))
        rest = found.overflowing
        allowed = {"refuse": 1, "window": self._spec.max_windows}.get(self._spec.overflow)
        if allowed is not None and len(rest) >= allowed:
            raise self._too_long(f"{self._count([found, *rest])} tokens")
        windows = [found, *rest] if self._spec.overflow == "window" else [found]
        length = self._length or len(found.ids)  # no window is longer than the first one
        spots = [self._spot(len(window.ids), length) for window in windows]
        tensors = {
            tensor.name: self._filled(windows, spots, role, length, tensor.dtype)
            for role, tensor in self._inputs.items()
        }
        truncated = self._spec.overflow == "truncate" and (bool(rest) or len(whole) > most)
        return tensors, _tokens(
            text, windows, spots, length=length, overlap=self._overlap, truncated=truncated
        )

    def _spot(self, count: int, length: int) -> slice:
        return slice(length - count, length) if self._pad_left else slice(0, count)

    def _filled(
        self, windows: Sequence[Any], spots: Sequence[slice], role: str, length: int, dtype: str
    ) -> Array:
        filled = np.full((len(windows), length), self._pad_id if role == IDS else 0, dtype)
        for row, spot, window in zip(filled, spots, windows, strict=True):
            row[spot] = getattr(window, _ENCODED[role])
        return filled

    def _count(self, windows: Sequence[Any]) -> int:
        special = sum(windows[0].special_tokens_mask)
        texts = sum(len(window.ids) - sum(window.special_tokens_mask) for window in windows)
        return special + texts - self._overlap * (len(windows) - 1)

    def _too_long(self, got: str) -> TooLargeError:
        windows = self._spec.overflow == "window"
        expected = f"at most {self._most} tokens"
        return TooLargeError(
            "text",
            expected=f"{expected} ({self._spec.max_windows} windows)" if windows else expected,
            got=got,
            do="Shorten it, or ask about its parts one by one"
            if windows
            else "Shorten it, or declare `overflow: window` in the model's task",
        )


_ENCODED = {IDS: "ids", MASK: "attention_mask", TYPES: "type_ids"}
"""What the library calls each of the tensors."""


def _tokens(
    text: str, windows: Sequence[Any], spots: Sequence[slice], *, length: int, overlap: int, truncated: bool
) -> Tokens:
    shape = len(windows), length
    mask, inside = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    offsets, words = np.zeros((*shape, 2), np.int32), np.full(shape, -1, np.int32)
    for at, (window, spot) in enumerate(zip(windows, spots, strict=True)):
        mask[at, spot] = window.attention_mask
        inside[at, spot] = np.equal(window.special_tokens_mask, 0)
        offsets[at, spot] = window.offsets
        words[at, spot] = [-1 if word is None else word for word in window.word_ids]
    return Tokens(text, mask, inside, offsets, words, overlap, truncated)


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


def _load(file: Path, spec: TextInput, overlap: int) -> tuple[Any, int, bool]:
    """Open a tokenizer: itself, the id of its padding, and whether it pads on the left."""
    tokenizer = load_tokenizer(file)
    special = int(tokenizer.num_special_tokens_to_add(False))
    if spec.max_length <= special:
        raise BundleError(
            "task.input.max_length",
            expected=f"more than the tokenizer's {special} special tokens",
            got=str(spec.max_length),
            do="Declare the length the model was made for, 128 or more for most",
        )
    if overlap >= spec.max_length - special:
        raise BundleError(
            "overlap of windows",
            expected=f"less than the {spec.max_length - special} tokens of a text that a window holds",
            got=str(overlap),
        )
    declared: dict[str, Any] = tokenizer.padding or {}
    pad_id = declared.get("pad_id")
    if pad_id is None:
        ids = (tokenizer.token_to_id(token) for token in _PAD_TOKENS)
        pad_id = next((known for known in ids if known is not None), 0)
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.max_length, stride=overlap)
    return tokenizer, int(pad_id), declared.get("direction") == "left"
