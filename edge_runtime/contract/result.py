"""What a model or the tracker found, and the answer that a caller gets.

Nothing here computes; arrays are written once by their maker and read-only by agreement.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.route import Decision
from edge_runtime.contract.tensors import Tensors

Boxes: TypeAlias = NDArray[np.float32]
Scores: TypeAlias = NDArray[np.float32]
ClassIds: TypeAlias = NDArray[np.int32]
TrackIds: TypeAlias = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects of one picture, best score first.

    Args:
        boxes: (n, 4) float32 xyxy, source pixels, inside the picture.
        scores: (n,) float32 in [0, 1].
        classes: (n,) int32, indices into `labels`.
        labels: The names of all classes of the model.
    """

    boxes: Boxes
    scores: Scores
    classes: ClassIds
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, labels: tuple[str, ...]) -> "Detections":
        """No objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32), labels)


@dataclass(frozen=True, slots=True)
class Tracks:
    """Confirmed objects that were seen in this frame, with identities.

    Args:
        ids: (n,) int64, unique and never reused within a camera.
        boxes: (n, 4) float32 xyxy, source pixels.
        scores: (n,) float32, of the matched detections.
        classes: (n,) int32, indices into `labels`.
        labels: The names of all classes of the model.
    """

    ids: TrackIds
    boxes: Boxes
    scores: Scores
    classes: ClassIds
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls, labels: tuple[str, ...]) -> "Tracks":
        """No objects."""
        return cls(
            np.empty(0, np.int64),
            np.empty((0, 4), np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int32),
            labels,
        )


@dataclass(frozen=True, slots=True)
class Classification:
    """The best classes of one picture.

    Args:
        classes: (k,) int32, best first.
        scores: (k,) float32.
        labels: The names of all classes of the model.
    """

    classes: ClassIds
    scores: Scores
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextClassification:
    """The best classes of one text.

    Args:
        classes: (k,) int32, best first.
        scores: (k,) float32.
        labels: The names of all classes of the model.
        tokens: How many the model saw, special ones included.
        truncated: Whether the text was longer than the model takes, so that its end does not count.
        windows: Parts of the text that the model looked at one by one.
    """

    classes: ClassIds
    scores: Scores
    labels: tuple[str, ...]
    tokens: int
    truncated: bool
    windows: int = 1


@dataclass(frozen=True, slots=True)
class Entity:
    """A labelled part of a text.

    Args:
        label: What it is.
        start: First character, from 0.
        end: The character after the last one.
        text: Those characters.
        score: In [0, 1], the mean of its tokens.
    """

    label: str
    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Entities:
    """All labelled parts of one text, in the order of the text.

    Args:
        entities: The parts; they do not overlap.
        tokens: How many the model saw, special ones included.
        truncated: Whether the text was longer than the model takes, so that its end was not looked at.
        windows: Parts of the text that the model looked at one by one.
    """

    entities: tuple[Entity, ...]
    tokens: int
    truncated: bool
    windows: int = 1


class Finish(StrEnum):
    """Why a generated text ends."""

    STOP = "stop"
    """The model ended it, or a stop sequence came."""
    LENGTH = "length"
    """The number of tokens asked for, or the model's context, is used up."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A generated text.

    Args:
        text: Without the prompt and without the stop sequence that ended it.
        finish: Why it ends.
        prompt_tokens: Tokens of the prompt.
        tokens: Tokens of the answer, the one that ends it left out.
        probability: The mean of its tokens' probabilities, as the model saw them; 1 where nobody counted.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    tokens: int
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of one text.

    Args:
        vector: (size,) float32.
        tokens: How many the model saw, special ones included.
        truncated: Whether the text was longer than the model takes, so that its end does not count.
    """

    vector: NDArray[np.float32]
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Values:
    """What a model of no particular task gave.

    Args:
        tensors: Real numbers by the model's own names, batch axis included.
        labels: Names of the columns of the first one; empty where it has none.
    """

    tensors: Tensors
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A result and where it came from.

    Args:
        value: Detections, Classification, …
        decision: The route taken and its reason.
        model: Name of the bundle.
        version: Version of the bundle.
        variant: Id of the variant that ran.
        latency_ms: From the call to the answer.
        confidence: In [0, 1], as the task defines it; the best score of a detection or classification.
    """

    value: T
    decision: Decision
    model: str
    version: str
    variant: str
    latency_ms: float
    confidence: float
