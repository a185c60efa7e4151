"""Parity: how alike a variant answers, output by output, on inputs its source was given. Judges nothing.

Both go through the device's own pre- and postprocessing. What a receipt's `parity` then holds, by key:

    cosine.NAME         median over the samples; NAME is an output of the source. An output that holds boxes
                        and scores counts as two, NAME.boxes and NAME.scores, so that large boxes cannot hide
                        scores that are all zero. `cosine.embedding` is that of the finished vectors
    max_abs.NAME        largest absolute difference, over all samples
    sqnr_db.NAME        signal to quantization noise, median over the samples, decibels
    agreement.top1      share of the samples with the same first class
    agreement.boxes     share of the source's boxes that the variant found again at IoU 0.5 (boxes_90: at 0.9)
    agreement.boxes_own share of the variant's boxes that the source has as well
    agreement.answered  share of the samples that the variant answered at all; only where that is not all
    agreement.pairs     rank correlation of how alike the embeddings of any two samples are
    score_difference    of boxes found again, the largest
    export.rel          see `gate.EXPORT`
    samples             how many there were

Outputs that were suppressed inside the model are not compared number by number: the slightest difference
reorders their rows. Their boxes are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.verify.accuracy import likenesses, spearman
from converters.verify.average_precision import iou
from converters.verify.gate import AGREEMENT, COSINE
from converters.verify.runners import Subject
from edge_runtime.contract.result import (
    Classification,
    Detections,
    Embedding,
    Entities,
    TextClassification,
    Values,
)
from edge_runtime.contract.task import (
    DetectionSpec,
    EmbeddingSpec,
    NmsHead,
    SsdHead,
    TaskSpec,
    TokenClassificationSpec,
    YoloHead,
)
from edge_runtime.contract.tensors import Array, Tensors
from edge_runtime.predict import run_rows
from edge_runtime.tasks.likeness import cosine, max_abs, sqnr_db
from edge_runtime.tasks.names import plain_name
from edge_runtime.tasks.outputs import Output

LENIENT = 0.5
"""A box that one of the two gives with its full score may have this share of it in the other and count as
found: what is just over the threshold must not be called lost for being just under it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model said to one input.

    Args:
        outputs: Real numbers by the model's own names.
        answer: What its task makes of them.
        tokens: (windows, length) bool, of a tagger: which of its tokens are of the text; None: it is none.
    """

    outputs: Tensors
    answer: Any
    tokens: NDArray[np.bool_] | None = None


def read(subject: Subject, raw: Any) -> Reading:
    """Ask a model.

    Args:
        subject: The model.
        raw: What its task takes.

    Raises:
        EdgeRuntimeError: It cannot answer.
    """
    tensors, undo = subject.task.preprocess(raw)
    stored = run_rows(subject.session, tensors)
    real = {spec.name: Output("output", spec).read(stored) for spec in subject.session.outputs}
    # Engines may give views of memory that the next run overwrites.
    outputs = {name: array.copy() for name, array in real.items()}
    tokens = undo.inside if isinstance(subject.spec, TokenClassificationSpec) else None
    return Reading(outputs, subject.task.postprocess(stored, undo), tokens)


def name_outputs(source: Subject, variant: Subject, told: Mapping[str, str]) -> dict[str, str]:
    """Find, for each output of the source, the variant's.

    Args:
        source: The source model.
        variant: The variant.
        told: What the export step said of it: name in the source -> name in the variant.

    Returns:
        Only those that have a counterpart: told, of the same name, or the only one of both.
    """
    theirs = {plain_name(spec.name): spec.name for spec in variant.session.outputs}
    mine = [spec.name for spec in source.session.outputs]
    found: dict[str, str] = {}
    for name in mine:
        other = theirs.get(plain_name(told.get(name, name)))
        if other is not None:
            found[name] = other
    if not found and len(mine) == len(theirs) == 1:
        found[mine[0]] = next(iter(theirs.values()))
    return found


@dataclass(slots=True)
class Parity:
    """Gathers the likeness of a variant, sample by sample.

    Args:
        source: The task as the source model has it.
        variant: The task as the variant has it.
        names: Of `name_outputs`.
    """

    source: TaskSpec
    variant: TaskSpec
    names: Mapping[str, str]
    parts: dict[str, list[tuple[float, float, float]]] = field(
        default_factory=dict[str, list[tuple[float, float, float]]]
    )
    same: list[bool] = field(default_factory=list[bool])
    boxes: list["BoxMatch"] = field(default_factory=list["BoxMatch"])
    vectors: list[tuple[Array, Array]] = field(default_factory=list[tuple[Array, Array]])
    samples: int = 0
    answered: int = 0

    def add(self, source: Reading, variant: Reading | None) -> dict[str, float]:
        """Take one sample.

        Args:
            source: What the source said.
            variant: What the variant said; None: it had no answer.

        Returns:
            What it measured alone, for a table of samples.
        """
        self.samples += 1
        if variant is None:
            return {"answered": 0.0}
        self.answered += 1
        row: dict[str, float] = {}
        for name, (mine, theirs) in self._parts(source, variant).items():
            numbers = cosine(mine, theirs), max_abs(mine, theirs), sqnr_db(mine, theirs)
            self.parts.setdefault(name, []).append(numbers)
            row[COSINE + name] = numbers[0]
        match source.answer:
            case Detections():
                match = match_boxes(source.answer, variant.answer, _min_score(self.source))
                self.boxes.append(match)
                row |= {"boxes": match.mine, "found": match.found}
            case Classification() | TextClassification() if len(source.answer.classes) and len(
                variant.answer.classes
            ):
                self.same.append(bool(source.answer.classes[0] == variant.answer.classes[0]))
                row["same"] = float(self.same[-1])
            case Embedding():
                self.vectors.append((source.answer.vector, variant.answer.vector))
            case Entities():
                self.same.append(_spans(source.answer) == _spans(variant.answer))
                row["same"] = float(self.same[-1])
            case Values() if self.source.kind == "tensors":
                first = first_class(source.answer), first_class(variant.answer)
                if None not in first:
                    self.same.append(first[0] == first[1])
                    row["same"] = float(self.same[-1])
            case _:
                pass
        return row

    def numbers(self) -> dict[str, float]:
        """Sum up, with the keys that the module names."""
        summed: dict[str, float] = {}
        for name, rows in self.parts.items():
            table = np.array(rows)
            summed[COSINE + name] = float(np.median(table[:, 0]))
            summed[f"max_abs.{name}"] = float(table[:, 1].max())
            summed[f"sqnr_db.{name}"] = float(np.median(table[:, 2]))
        if self.same:
            summed[AGREEMENT + "top1"] = float(np.mean(self.same))
        summed |= sum_boxes(self.boxes)
        if self.answered < self.samples:
            summed[AGREEMENT + "answered"] = self.answered / self.samples
        if len(self.vectors) > 2:
            mine, theirs = (likenesses([pair[side] for pair in self.vectors]) for side in (0, 1))
            agreement = spearman(mine, theirs)
            if agreement is not None:
                summed[AGREEMENT + "pairs"] = agreement
        return {**dict(sorted(summed.items())), "samples": float(self.samples)}

    def _parts(self, source: Reading, variant: Reading) -> dict[str, tuple[Array, Array]]:
        if isinstance(self.source, EmbeddingSpec):
            # Vectors of padding are nobody's business, and one of the two may have more of them.
            return {"embedding": (source.answer.vector, variant.answer.vector)}
        if _suppressed(self.source) or _suppressed(self.variant):
            return {}
        found: dict[str, tuple[Array, Array]] = {}
        for name, other in self.names.items():
            # A tagger's answers at padding are nobody's business either.
            mine = _of_text(source.outputs[name], source.tokens)
            theirs = aligned(mine, _of_text(variant.outputs[other], variant.tokens))
            if theirs is None:
                continue
            if isinstance(self.source, DetectionSpec) and isinstance(self.source.head, YoloHead):
                found |= _split(name, mine, theirs, self.source, self.source.head)
            else:
                found[name] = mine, theirs
        return found


def _of_text(output: Array, tokens: NDArray[np.bool_] | None) -> Array:
    """Give a tagger's rows for the tokens of the text; any other output as it is."""
    return output if tokens is None or output.shape[:2] != tokens.shape else output[tokens]


def aligned(mine: Array, theirs: Array) -> Array | None:
    """Bring an array into the axes of another: exporters drop axes of 1, and turn layouts.

    Args:
        mine: The source's.
        theirs: The variant's.

    Returns:
        `theirs` in the shape of `mine`; None where it cannot be, or could be in more than one way.
    """
    if mine.shape == theirs.shape:
        return theirs
    if [axis for axis in mine.shape if axis != 1] == [axis for axis in theirs.shape if axis != 1]:
        return theirs.reshape(mine.shape)
    if mine.ndim != theirs.ndim:
        return None
    ways = [
        order
        for order in permutations(range(mine.ndim))
        if order[0] == 0 and tuple(theirs.shape[axis] for axis in order) == mine.shape
    ]
    turned = (0, mine.ndim - 1, *range(1, mine.ndim - 1))
    back = (0, *range(2, mine.ndim), 1)
    best = next((order for order in (turned, back) if order in ways), ways[0] if len(ways) == 1 else None)
    return None if best is None else theirs.transpose(best)


@dataclass(frozen=True, slots=True)
class BoxMatch:
    """How the boxes of one picture fit.

    Args:
        mine: Boxes of the source, with its full score.
        found: Of those, found again at IoU 0.5.
        found_90: At IoU 0.9.
        theirs: Boxes of the variant, with the full score.
        known: Of those, the source has.
        difference: Of scores of boxes found again, the largest.
    """

    mine: int
    found: int
    found_90: int
    theirs: int
    known: int
    difference: float


def match_boxes(mine: Detections, theirs: Detections, min_score: float) -> BoxMatch:
    """Compare what two models found in one picture; boxes of one class only.

    Args:
        mine: The source's, down to `LENIENT` of `min_score` at least.
        theirs: The variant's, likewise.
        min_score: From which score on a box counts.
    """
    found = _pairs(mine, theirs, 0.5, min_score)
    differences = [abs(float(mine.scores[a]) - float(theirs.scores[b])) for a, b in found]
    return BoxMatch(
        mine=int((mine.scores >= min_score).sum()),
        found=len(found),
        found_90=len(_pairs(mine, theirs, 0.9, min_score)),
        theirs=int((theirs.scores >= min_score).sum()),
        known=len(_pairs(theirs, mine, 0.5, min_score)),
        difference=max(differences, default=0.0),
    )


def sum_boxes(matches: Sequence[BoxMatch]) -> dict[str, float]:
    """Sum up over pictures; a share of no boxes at all is left out."""
    summed: dict[str, float] = {}
    mine, theirs = sum(one.mine for one in matches), sum(one.theirs for one in matches)
    if mine:
        summed[AGREEMENT + "boxes"] = sum(one.found for one in matches) / mine
        summed["boxes_90"] = sum(one.found_90 for one in matches) / mine
        summed["score_difference"] = max(one.difference for one in matches)
    if theirs:
        summed[AGREEMENT + "boxes_own"] = sum(one.known for one in matches) / theirs
    return summed


def _pairs(mine: Detections, theirs: Detections, least: float, min_score: float) -> list[tuple[int, int]]:
    """Give each box with its full score, best first, the free box of the other that it overlaps most."""
    sure = np.flatnonzero(mine.scores >= min_score)
    able = np.flatnonzero(theirs.scores >= min_score * LENIENT)
    overlaps = iou(mine.boxes[sure], theirs.boxes[able])
    overlaps[mine.classes[sure][:, None] != theirs.classes[able][None]] = 0
    pairs: list[tuple[int, int]] = []
    for row, overlap in zip(sure, overlaps, strict=True):
        best = int(overlap.argmax()) if len(overlap) else -1
        if best >= 0 and overlap[best] >= least:
            pairs.append((int(row), int(able[best])))
            overlaps[:, best] = 0
    return pairs


def _split(name: str, mine: Array, theirs: Array, spec: DetectionSpec, head: YoloHead) -> dict[str, Any]:
    """Take boxes and scores of a raw prediction apart, whichever axis they are on."""
    wide = len(spec.labels) + (5 if head.objectness else 4)
    axis = next((at for at in (1, 2) if mine.ndim == 3 and mine.shape[at] == wide), None)
    if axis is None:
        return {name: (mine, theirs)}
    boxes, scores = (
        tuple(np.take(array, range(*ends), axis) for array in (mine, theirs)) for ends in ((0, 4), (4, wide))
    )
    return {f"{name}.boxes": boxes, f"{name}.scores": scores}


def _suppressed(spec: TaskSpec) -> bool:
    return isinstance(spec, DetectionSpec) and isinstance(spec.head, SsdHead | NmsHead)


def _min_score(spec: TaskSpec) -> float:
    return spec.min_score if isinstance(spec, DetectionSpec) else 0.0


def first_class(answer: Values) -> int | None:
    """Give the class that a table model names: an integer label, or the best of several labelled columns."""
    first = next(iter(answer.tensors.values()))
    if first.size == 1 and first.dtype.kind in "iu":
        return int(first.flat[0])
    return int(first.reshape(-1).argmax()) if answer.labels and first.size == len(answer.labels) else None


def _spans(answer: Entities) -> list[tuple[str, int, int]]:
    return [(one.label, one.start, one.end) for one in answer.entities]
