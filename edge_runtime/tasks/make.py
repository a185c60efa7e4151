"""From a declaration to the task that follows it. Opens no model and reads no file."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import BundleError, ConfigError
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
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.tasks.base import Task, VisionTask
from edge_runtime.tasks.classification import ClassificationTask
from edge_runtime.tasks.detection import DetectionTask
from edge_runtime.tasks.embedding import EmbeddingTask
from edge_runtime.tasks.image_embedding import ImageEmbeddingTask
from edge_runtime.tasks.tensors_task import TensorsTask
from edge_runtime.tasks.text_classification import TextClassificationTask
from edge_runtime.tasks.token_classification import TokenClassificationTask


def make_task(
    spec: TaskSpec,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    min_score: float | None = None,
    keep: Collection[str] = (),
) -> VisionTask:
    """Bind the declaration of a model that looks at pictures.

    Args:
        spec: What the bundle declares.
        inputs: What the session takes.
        outputs: What the session gives.
        min_score: Answers below are left out; None: as declared.
        keep: Labels of interest of a detector; empty: all.

    Raises:
        BundleError: Declaration and model do not belong together, as far as shapes tell.
        ConfigError: A label to keep is none of the model's, or there are some and it is no detector, or the
            model takes no pictures.
    """
    match spec:
        case DetectionSpec():
            return DetectionTask(spec, inputs, outputs, min_score=min_score, keep=keep)
        case ClassificationSpec():
            if keep:
                raise ConfigError(
                    "labels to keep", expected="none for a classifier", got=", ".join(sorted(keep))
                )
            return ClassificationTask(spec, inputs, outputs, min_score=min_score)
        case ImageEmbeddingSpec():
            if keep:
                raise ConfigError(
                    "labels to keep", expected="none for an encoder", got=", ".join(sorted(keep))
                )
            return ImageEmbeddingTask(spec, inputs, outputs)
        case _:
            raise ConfigError(
                "a model for pictures",
                expected="a detection, classification or image-embedding model",
                got=f"a model of kind '{spec.kind}'",
                do="Use a model that takes pictures",
            )


def make_any_task(
    spec: TaskSpec,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    tokenizer: Path | None = None,
    *,
    min_score: float | None = None,
) -> Task[Any, Any]:
    """Bind the declaration of any model.

    Args:
        spec: What the bundle declares.
        inputs: What the session takes.
        outputs: What the session gives.
        tokenizer: The bundle's `tokenizer.json`; only text models need it.
        min_score: Answers of a vision model below are left out; None: as declared.

    Returns:
        Takes a `Picture`, a `str`, or tensors by name, as the kind says.

    Raises:
        BundleError: Declaration and model do not belong together, or a text model has no tokenizer.
        ConfigError: The model generates texts: tensors in and tensors out are no answer of it.
        EngineError: A text model, and the library `tokenizers` is missing.
    """
    match spec:
        case TextClassificationSpec():
            return TextClassificationTask(spec, inputs, outputs, require_tokenizer(tokenizer))
        case TokenClassificationSpec():
            return TokenClassificationTask(spec, inputs, outputs, require_tokenizer(tokenizer))
        case EmbeddingSpec():
            return EmbeddingTask(spec, inputs, outputs, require_tokenizer(tokenizer))
        case TensorsSpec():
            return TensorsTask(spec, inputs, outputs)
        case DetectionSpec() | ClassificationSpec() | ImageEmbeddingSpec():
            return make_task(spec, inputs, outputs, min_score=min_score)
        case GenerationSpec():
            raise ConfigError(
                "a model that answers in one run",
                expected="any other kind",
                got=f"a model of kind '{spec.kind}'",
                do="Ask it with `edge-runtime predict` or a runtime",
            )


def require_tokenizer(tokenizer: Path | None) -> Path:
    """Refuse a text model without its tokenizer.

    Raises:
        BundleError: There is none.
    """
    if tokenizer is None:
        raise BundleError(
            "a text model",
            expected="a tokenizer",
            got="none",
            do="Build the bundle with its tokenizer.json",
        )
    return tokenizer
