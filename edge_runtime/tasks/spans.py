"""From labelled words to labelled spans of a text. Pure; knows no tokenizer and no model.

IOB2 (Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999): `B-X` begins a span of `X`, `I-X` goes on
with it. As conlleval does, an `I-X` after anything else begins one, too.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge_runtime.contract.result import Entity


@dataclass(frozen=True, slots=True)
class Word:
    """A part of a text with one label.

    Args:
        label: As the model has it.
        score: In [0, 1].
        start: First character.
        end: The character after the last one.
    """

    label: str
    score: float
    start: int
    end: int


def continues(text: str, end: int, start: int, *, same: bool) -> bool:
    """Tell whether a token belongs to the word before it.

    Args:
        text: The whole text.
        end: The character after that word.
        start: The first character of the token.
        same: Whether the tokenizer counts both to one word. Some count a comma to the word before it, so that
            letters have to meet.
    """
    if start < end:  # two parts of one character
        return True
    if start > end or not same or not 0 < start < len(text):
        return False
    return _letter(text[end - 1]) and _letter(text[start])


def _letter(character: str) -> bool:
    """A letter or digit of a script that writes words apart; wide characters are words of their own."""
    return character.isalnum() and unicodedata.east_asian_width(character) not in {"W", "F"}


def join(text: str, words: Iterable[Word], outside: str) -> Iterator[Entity]:
    """Join words to spans.

    Args:
        text: The whole text.
        words: In the order of the text.
        outside: The label of words that belong to no span.

    Yields:
        The spans, in order, without blanks at their ends; empty ones are left out.
    """
    some: list[Word] = []
    name = ""
    for word in words:
        begins, kind = _split(word.label)
        if some and (begins or word.label == outside or kind != name):
            yield from _entity(text, name, some)
            some = []
        if word.label != outside:
            some.append(word)
            name = kind
    if some:
        yield from _entity(text, name, some)


def _split(label: str) -> tuple[bool, str]:
    """Whether a label begins a span whatever was before, and what the span is called."""
    if label[:2] in {"B-", "I-"}:
        return label[0] == "B", label[2:]
    return False, label


def _entity(text: str, name: str, words: list[Word]) -> Iterator[Entity]:
    start, end = words[0].start, words[-1].end
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    part = part.strip()
    if part:
        yield Entity(name, start, start + len(part), part, sum(word.score for word in words) / len(words))
