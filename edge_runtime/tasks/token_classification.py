"""Token classification: a text in, labelled spans out, as the model's declaration says. Runs no model.

Spans by IOB2 are in `spans`; here tokens of several windows become one row of labelled words.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.result import Entities
from edge_runtime.contract.task import TokenClassificationSpec
from edge_runtime.contract.tensors import Tensors
from edge_runtime.tasks.activation import softmax
from edge_runtime.tasks.spans import Word, continues, join
from edge_runtime.tasks.text import Tokens
from edge_runtime.tasks.text_task import TextTask


class TokenClassificationTask(TextTask[TokenClassificationSpec]):
    """A tagger of texts, by declaration.

    A word has the label of its first token: taggers are trained on that one. A token that two windows have
    counts where it is farther from the window's edge.
    """

    def postprocess(self, y: Tensors, undo: Tokens) -> Entities:
        """Make spans of the model's output; see `Task.postprocess`."""
        logits = self._output.read(y)
        self._check(logits.shape, undo.mask.shape)
        self._output.finite(logits)
        found = join(undo.text, self._words(softmax(logits), undo), self._spec.outside)
        sure = tuple(entity for entity in found if entity.score >= self._spec.min_score)
        return Entities(sure, undo.count, undo.truncated, len(undo.mask))

    def _check(self, shape: Sequence[int | None], rows: tuple[int, int | None]) -> None:
        self._output.require(shape, (*rows, len(self._spec.labels)))

    def _words(self, scores: NDArray[np.float32], undo: Tokens) -> Iterator[Word]:
        word: Word | None = None
        before = -1
        for window, at in _in_order(undo):
            start, end = (int(side) for side in undo.offsets[window, at])
            number = int(undo.words[window, at])
            if word is not None and continues(undo.text, word.end, start, same=number == before):
                word = Word(word.label, word.score, word.start, max(end, word.end))
            else:
                if word is not None:
                    yield word
                best = int(scores[window, at].argmax())
                word = Word(self._spec.labels[best], float(scores[window, at, best]), start, end)
            before = number
        if word is not None:
            yield word


def _in_order(undo: Tokens) -> Iterator[tuple[int, int]]:
    """Give (window, place) of each token of the text once, in the text's order."""
    places = [np.flatnonzero(row) for row in undo.inside]
    # Of the tokens that two windows share, the first half is farther from the edge in the earlier one.
    late, early = undo.overlap // 2, undo.overlap - undo.overlap // 2
    for window, row in enumerate(places):
        first = early if window else 0
        last = len(row) - (late if window < len(places) - 1 else 0)
        for at in row[first:last]:
            yield window, int(at)
