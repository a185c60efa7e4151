"""Accuracy on labelled samples: how right answers are, not how alike. Judges nothing."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from converters.verify.average_precision import Found, Truth, average_precision
from edge_runtime.contract.result import Detections, Embedding
from edge_runtime.contract.tensors import Array
from edge_runtime.tasks.likeness import cosine

Floats = NDArray[np.float64]


def of_classes(labels: Sequence[int], ranked: Sequence[Sequence[int]]) -> dict[str, float]:
    """Measure a classifier.

    Args:
        labels: The right class of each sample.
        ranked: The classes that the model named for each, best first; one or more.

    Returns:
        `top1`, `macro_f1`, and `top5` where five or more were named.
    """
    right = np.asarray(labels)
    first = np.array([classes[0] for classes in ranked])
    measured = {"top1": float((first == right).mean()), "macro_f1": macro_f1(right, first)}
    if min(map(len, ranked)) >= 5:
        hits = [label in classes[:5] for label, classes in zip(labels, ranked, strict=True)]
        measured["top5"] = float(np.mean(hits))
    return measured


def macro_f1(labels: Array, predicted: Array) -> float:
    """Give the mean F1 of the classes that are a label or a prediction.

    Args:
        labels: (n,) integers.
        predicted: (n,) integers.
    """
    scores: list[float] = []
    for number in np.union1d(labels, predicted):
        hits = int(((labels == number) & (predicted == number)).sum())
        scores.append(2 * hits / int((labels == number).sum() + (predicted == number).sum()))
    return float(np.mean(scores))


def of_boxes(labels: Sequence[Array], answers: Sequence[Detections]) -> dict[str, float]:
    """Measure a detector.

    Args:
        labels: (k, 6) for each picture: x1 y1 x2 y2, class, crowd.
        answers: What it found, down to low scores.

    Returns:
        `ap` and `ap50`; empty where no picture has an object.
    """
    truths = [
        Truth(row[:, :4].astype(np.float32), row[:, 4].astype(np.int32), row[:, 5] > 0) for row in labels
    ]
    found = [Found(one.boxes, one.scores, one.classes) for one in answers]
    both = average_precision(truths, found)
    return {} if both is None else {"ap": both[0], "ap50": both[1]}


def of_pairs(pairs: Array, answers: Sequence[Embedding]) -> dict[str, float]:
    """Measure an embedding against what people find alike.

    Args:
        pairs: (m, 3): index of the first text, of the second, and how alike they are.
        answers: One vector a text.

    Returns:
        `spearman`; empty where the scores or the vectors are all alike.
    """
    likeness = [cosine(answers[int(a)].vector, answers[int(b)].vector) for a, b, _ in pairs]
    found = spearman(np.asarray(pairs[:, 2], np.float64), np.array(likeness))
    return {} if found is None else {"spearman": found}


def of_values(labels: Sequence[float], answers: Sequence[Array]) -> dict[str, float]:
    """Measure a regression of one number.

    Args:
        labels: The right number of each sample.
        answers: The model's first output for each.

    Returns:
        `r2`, the share of the variance that is explained; empty where an answer is more than one number, or
        the labels do not vary.
    """
    right = np.asarray(labels, np.float64)
    if any(answer.size != 1 for answer in answers) or not np.ptp(right):
        return {}
    wrong = right - np.array([float(answer.flat[0]) for answer in answers])
    return {"r2": float(1 - (wrong @ wrong) / np.square(right - right.mean()).sum())}


def spearman(a: Floats, b: Floats) -> float | None:
    """Give the rank correlation of two series, equals sharing the mean of their ranks.

    Args:
        a: (n,).
        b: (n,).

    Returns:
        In [-1, 1]; None where one of them does not vary.
    """
    first, second = (_ranks(one) - (len(one) - 1) / 2 for one in (a, b))
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(np.clip(first @ second / size, -1, 1)) if size else None


def likenesses(vectors: Sequence[Array]) -> Floats:
    """Give the cosine of each pair of vectors.

    Args:
        vectors: n of them, (size,); one that is all zero is like nothing.

    Returns:
        (n (n - 1) / 2,), in the order of pairs 0 1, 0 2, …, 1 2, …
    """
    stacked = np.stack(vectors).astype(np.float64)
    stacked /= np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)
    return (stacked @ stacked.T)[np.triu_indices(len(stacked), 1)]


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2)[place]


def with_source(measured: Mapping[str, float], source: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Put both side by side, as `Receipt.accuracy` has them."""
    return {**measured, **{prefix + name: value for name, value in source.items()}}
