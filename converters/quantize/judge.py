"""Judges a quantized model by its answers after the device's postprocessing, next to the float model's.

Runs no model and decides nothing. A whole-tensor error would not do: a detector whose scores are all zero
still has nearly the right numbers in nearly all places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from converters.quantize.calibration import Sample
from converters.verify.accuracy import likenesses, spearman
from converters.verify.average_precision import area, iou
from edge_runtime.contract.errors import BundleError, EdgeRuntimeError
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import (
    ClassificationSpec,
    DetectionSpec,
    EmbeddingSpec,
    GenerationSpec,
    ImageEmbeddingSpec,
    TaskSpec,
    TensorsSpec,
    TextClassificationSpec,
    TokenClassificationSpec,
)
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.tasks.activation import sigmoid, softmax
from edge_runtime.tasks.classification import ClassificationTask
from edge_runtime.tasks.detection import DetectionTask
from edge_runtime.tasks.embedding import EmbeddingTask
from edge_runtime.tasks.image_embedding import ImageEmbeddingTask
from edge_runtime.tasks.likeness import cosine

_IOU = 0.5
_PAIRABLE = 4
"""Fewer vectors make too few pairs to rank."""
_DOUBTFUL = 0.5
"""Below this share of the task's `min_score` a detection counts for nothing; between the two it is neither
right nor wrong, so that a score of 0.251 that became 0.249 is no loss."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far answers are from the float model's.

    Args:
        loss: Of the task's own measure, in [0, 1]; what `accuracy_drop` limits.
        error: Finer than `loss`: tells two models apart that lose nothing.
        parts: What `error` is made of, by name.
    """

    loss: float
    error: float
    parts: dict[str, float]


class Judge(Protocol):
    """Knows the float model's answers."""

    def judge(self, outputs: Mapping[int, Tensors]) -> Verdict:
        """Compare.

        Args:
            outputs: Of the other model, by the index of the sample.
        """
        ...


def make_judge(
    task: TaskSpec,
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    samples: Sequence[Sample],
    reference: Sequence[Tensors],
    labels: Sequence[int] | None = None,
    tokenizer: Path | None = None,
) -> Judge:
    """Choose the judge for a task.

    Args:
        task: What the model does.
        specs: Inputs and outputs of the model.
        samples: What is judged with.
        reference: The float model's outputs for them.
        labels: True classes of a classifier, one a sample; where it is None or negative, the float model's
            own answers are the truth.
        tokenizer: Of a text model.

    Raises:
        BundleError: Task and outputs do not belong together.
        EngineError: The float model's outputs are no numbers.
    """
    match task:
        case DetectionSpec():
            return _Detector(task, specs, samples, reference)
        case ClassificationSpec():
            ClassificationTask(task, *specs)  # refuses outputs that are not the task's
            return _Classifier(task, specs[1], reference, labels)
        case TextClassificationSpec():
            return _Classifier(task, specs[1], reference, labels)
        case TokenClassificationSpec():
            return _Tagger(task, specs[1], samples, reference)
        case EmbeddingSpec():
            if tokenizer is None:
                raise BundleError("a text model", expected="its tokenizer.json", got="none")
            return _Embedder(EmbeddingTask(task, *specs, tokenizer), samples, reference)
        case ImageEmbeddingSpec():
            return _Embedder(ImageEmbeddingTask(task, *specs), samples, reference)
        case TensorsSpec():
            return _Values(reference)
        case GenerationSpec():
            raise BundleError(
                "a task of generation", expected="a model that answers in one run", got="a decoder"
            )


class _Detector:
    """Average precision at IoU 0.5 against the float model's detections; boxes and scores apart."""

    def __init__(
        self,
        task: DetectionSpec,
        specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
        samples: Sequence[Sample],
        reference: Sequence[Tensors],
    ) -> None:
        self._task = DetectionTask(task, *specs, min_score=task.min_score * _DOUBTFUL)
        self._sure = task.min_score
        self._samples = samples
        self._reference = [self._answer(*pair) for pair in zip(reference, samples, strict=True)]

    def _answer(self, outputs: Tensors, sample: Sample) -> Detections:
        try:
            return self._task.postprocess(outputs, sample.undo)
        except EdgeRuntimeError:  # a broken candidate (NaN, scores out of range) found nothing of use
            return Detections.empty(("",))

    def judge(self, outputs: Mapping[int, Tensors]) -> Verdict:
        boxes: list[float] = []
        scores: list[float] = []
        ranked: list[tuple[float, bool]] = []
        for index, output in outputs.items():
            truth, found = self._reference[index], self._answer(output, self._samples[index])
            sure = truth.scores >= self._sure
            overlap = np.zeros(len(truth), np.float64)
            difference = truth.scores.astype(np.float64)
            for score, (theirs, shared) in zip(
                found.scores.astype(np.float64), _matches(found, truth), strict=True
            ):
                if theirs >= 0:
                    overlap[theirs] = shared
                    difference[theirs] = abs(difference[theirs] - score)
                    if sure[theirs]:
                        ranked.append((float(score), True))
                elif score >= self._sure:
                    ranked.append((float(score), False))
                    scores.append(float(score))
            boxes += list(1 - overlap[sure])
            scores += list(difference[sure])
        count = sum(int((self._reference[index].scores >= self._sure).sum()) for index in outputs)
        parts = {"boxes": _mean(boxes), "scores": _mean(scores)}
        return Verdict(1 - _average_precision(ranked, count), parts["boxes"] + parts["scores"], parts)


class _Classifier:
    """The probability, as the float model sees it, that other choices lose; with labels, right answers."""

    def __init__(
        self,
        task: ClassificationSpec | TextClassificationSpec,
        outputs: Sequence[TensorSpec],
        reference: Sequence[Tensors],
        labels: Sequence[int] | None,
    ) -> None:
        self._name = task.output or outputs[0].name
        self._activation = task.activation
        self._reference = [self._scores(outputs) for outputs in reference]
        self._labels = labels or [-1] * len(reference)

    def _scores(self, outputs: Tensors) -> NDArray[np.float32]:
        flat = np.asarray(outputs[self._name], np.float32).reshape(-1)
        if self._activation == "softmax":
            return softmax(flat)
        return sigmoid(flat) if self._activation == "sigmoid" else flat

    def judge(self, outputs: Mapping[int, Tensors]) -> Verdict:
        lost: list[float] = []
        errors: list[float] = []
        changed: list[bool] = []
        for index, output in outputs.items():
            own, theirs = self._reference[index], np.nan_to_num(self._scores(output), nan=0.0)
            mine, other = int(own.argmax()), int(theirs.argmax())
            if self._labels[index] < 0:
                lost.append(float(own[mine] - own[other]))
            else:
                lost.append(float(mine == self._labels[index]) - float(other == self._labels[index]))
            errors.append(float(np.abs(own - theirs).sum() / 2))
            changed.append(mine != other)
        parts = {"scores": _mean(errors), "disagreement": float(np.mean(changed))}
        return Verdict(max(_mean(lost), 0.0), parts["scores"], parts)


class _Tagger:
    """The share of tokens that other labels are the likeliest for; padding and special tokens left out."""

    def __init__(
        self,
        task: TokenClassificationSpec,
        outputs: Sequence[TensorSpec],
        samples: Sequence[Sample],
        reference: Sequence[Tensors],
    ) -> None:
        self._name = task.output or outputs[0].name
        self._samples = samples
        self._reference = [self._scores(at, outputs) for at, outputs in enumerate(reference)]

    def _scores(self, index: int, outputs: Tensors) -> NDArray[np.float32]:
        logits = np.asarray(outputs[self._name], np.float32)
        return softmax(np.nan_to_num(logits[self._samples[index].undo.inside]))

    def judge(self, outputs: Mapping[int, Tensors]) -> Verdict:
        changed: list[float] = []
        errors: list[float] = []
        for index, output in outputs.items():
            own, theirs = self._reference[index], self._scores(index, output)
            changed += list((own.argmax(axis=-1) != theirs.argmax(axis=-1)).astype(float))
            errors += list(np.abs(own - theirs).sum(axis=-1) / 2)
        return Verdict(_mean(changed), _mean(errors), {"scores": _mean(errors)})


class _Embedder:
    """One less Spearman's correlation of the likenesses of all pairs: what vectors are compared for."""

    def __init__(
        self,
        task: EmbeddingTask | ImageEmbeddingTask,
        samples: Sequence[Sample],
        reference: Sequence[Tensors],
    ) -> None:
        self._task = task
        self._samples = samples
        self._reference = [
            task.postprocess(outputs, sample.undo).vector
            for outputs, sample in zip(reference, samples, strict=True)
        ]

    def judge(self, outputs: Mapping[int, Tensors]) -> Verdict:
        own: list[NDArray[np.float32]] = []
        theirs: list[NDArray[np.float32]] = []
        for index, output in outputs.items():
            own.append(self._reference[index])
            try:
                theirs.append(self._task.postprocess(output, self._samples[index].undo).vector)
            except EdgeRuntimeError:  # NaN: like nothing
                theirs.append(np.zeros_like(own[-1]))
        error = _mean([1 - cosine(a, b) for a, b in zip(own, theirs, strict=True)])
        if len(own) < _PAIRABLE:
            return Verdict(error, error, {"vectors": error})
        ranked = spearman(likenesses(own), likenesses(theirs))
        return Verdict(1 - (ranked or 0.0), error, {"vectors": error})


class _Values:
    """One less the mean cosine of the worst output."""

    def __init__(self, reference: Sequence[Tensors]) -> None:
        self._reference = reference

    def judge(self, outputs: Mapping[int, Tensors]) -> Verdict:
        parts = {
            name: _mean([1 - cosine(self._reference[at][name], other[name]) for at, other in outputs.items()])
            for name in self._reference[0]
        }
        worst = max(parts.values())
        return Verdict(worst, worst, parts)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _matches(found: Detections, truth: Detections) -> list[tuple[int, float]]:
    """Give each found object, best first, the free true one of its class it overlaps most: index and IoU.

    Index -1 where none overlaps enough. `found` is sorted already, by `Detections`.
    """
    overlap = iou(found.boxes, truth.boxes) * (found.classes[:, None] == truth.classes[None])
    free = np.ones(len(truth), bool)
    matches: list[tuple[int, float]] = []
    for row in overlap:
        best = int(np.argmax(row * free)) if len(truth) else -1
        if best < 0 or not free[best] or row[best] < _IOU:
            matches.append((-1, 0.0))
        else:
            free[best] = False
            matches.append((best, float(row[best])))
    return matches


def _average_precision(ranked: Sequence[tuple[float, bool]], count: int) -> float:
    """Give the average precision at one overlap; where nothing is to be found, 1 if nothing was."""
    if not count:
        return 0.0 if any(not right for _, right in ranked) else 1.0
    order = sorted(ranked, key=lambda entry: -entry[0])
    return area(np.array([hit for _, hit in order], np.bool_), count)
