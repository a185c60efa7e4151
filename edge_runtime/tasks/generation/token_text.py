"""From tokens that come one by one to text. Pure; decodes with what it is given.

A token may be a part of a character's UTF-8, and tokenizers drop or add blanks at the beginning of what they
decode. So tokens are decoded after some that are known already, and what ends in an incomplete character is
held back.
"""

from collections.abc import Callable, Sequence

_INCOMPLETE = "\ufffd"
"""What decoders write for bytes that are no UTF-8 (yet)."""
_CONTEXT = 8
"""Tokens of the prompt that are decoded along; more than any tokenizer looks back."""


class TokenText:
    """Text of tokens, as soon as it is certain."""

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> None:
        """Begin an answer.

        Args:
            decode: Makes text of tokens.
            prompt: What the answer follows.
        """
        self._decode = decode
        self._known = list(prompt[-_CONTEXT:])
        self._new: list[int] = []

    def push(self, token: int) -> str:
        """Take a token and give the characters that are complete with it."""
        self._new.append(token)
        text = self._text()
        if text.endswith(_INCOMPLETE):
            return ""
        self._known, self._new = self._new, []
        return text

    def flush(self) -> str:
        """Give what was held back, with U+FFFD for what is no character."""
        text = self._text() if self._new else ""
        self._new = []
        return text

    def _text(self) -> str:
        return self._decode([*self._known, *self._new])[len(self._decode(self._known)) :]
