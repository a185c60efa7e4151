"""Accuracy of answers by the kind of task. `accuracy` has the measures; this says which goes with which."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from converters.verify.accuracy import of_boxes, of_classes, of_pairs, of_values
from converters.verify.parity import first_class
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    ImageEmbeddingSpec,
    TaskSpec,
    TextClassificationSpec,
)
from edge_runtime.contract.tensors import Array


def measured(
    task: TaskSpec, labels: Sequence[Array], pairs: Sequence[Array], answers: Sequence[Any]
) -> dict[str, float]:
    """Measure answers with the labels there are.

    Args:
        task: What they answer.
        labels: One a sample, in the order of the answers; empty: there are none.
        pairs: Of an embedding task.
        answers: To the first so many samples: those after them were not asked.

    Returns:
        As the measures of `accuracy`; empty where there are no labels.
    """
    known = labels[: len(answers)]
    match task:
        case EmbeddingSpec() | ImageEmbeddingSpec():
            return of_pairs(np.stack(list(pairs)), answers) if pairs else {}
        case DetectionSpec():
            return of_boxes(known, answers) if known else {}
        case ClassificationSpec() | TextClassificationSpec():
            ranked = [(int(label), answer.classes.tolist()) for label, answer in _labelled(known, answers)]
            return of_classes(*zip(*ranked, strict=True)) if ranked else {}
        case _:
            return _of_tensors(_labelled(known, answers))


def _of_tensors(known: Sequence[tuple[Array, Any]]) -> dict[str, float]:
    if not known:
        return {}
    classes = [first_class(answer) for _, answer in known]
    right = [float(label) for label, _ in known]
    if None not in classes:
        return of_classes([int(label) for label in right], [[cast("int", one)] for one in classes])
    return of_values(right, [next(iter(answer.tensors.values())) for _, answer in known])


def _labelled(labels: Sequence[Array], answers: Sequence[Any]) -> list[tuple[Array, Any]]:
    both = zip(labels, answers, strict=True) if labels else ()
    return [(label, answer) for label, answer in both if label.dtype.kind == "f" or int(label) >= 0]
