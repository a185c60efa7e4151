"""What a request or an answer holds, for the rule of what may never leave: what is said and what plainly is.

Looks at no pixel and reads no text. Whatever can carry a text counts as one: tensors of strings, parameters,
and names that nobody here has checked.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import (
    Classification,
    Detections,
    Embedding,
    Entities,
    Generation,
    TextClassification,
)
from edge_runtime.contract.route import DataClass

_VIDEO = frozenset({DataClass.VIDEO})
_PICTURE = frozenset({DataClass.VIDEO, DataClass.FACES})
_TEXT = frozenset({DataClass.TEXT})
_TENSORS = frozenset({DataClass.TENSORS})
_ANYTHING = frozenset(DataClass)
_PICTURE_KINDS = frozenset({"detection", "classification", "image-embedding"})
_LONGEST_NAME = 64
_STRINGS = frozenset("OSU")
"""Kinds of numpy dtypes: objects, as texts come over the wire, bytes and text."""
_TEXT_KINDS = frozenset({"text-classification", "token-classification", "embedding", "generation"})


def contents(
    request: Request, kind: str | None, outputs: Sequence[str] | None = None
) -> frozenset[DataClass]:
    """Say what a request holds.

    A picture is video whatever its sender calls it, and shows faces unless its sender says what it holds.
    Tensors are what the model takes: pixels of a vision model are a picture still. Beside all of these, a
    request holds a text when a tensor is of strings, when a parameter is one (the key of sticky traffic among
    them), or when a name is more than a name: longer than 64 characters, or of several words.

    Args:
        request: The caller's.
        kind: The task of the model; None: not known here, so that undeclared tensors may hold anything.
        outputs: Names of those that are wanted of a model on tensors; None: all.
    """
    held = _value(request, kind)
    return held if DataClass.TEXT in held or not _carries_text(request, outputs) else held | _TEXT


def answer_contents(value: object, request_id: str) -> frozenset[DataClass]:
    """Say what an answer holds.

    Labels and boxes are none of the classes of data, the vector of a text is an `embedding`, and tensors of a
    model that nobody here knows may be anything that went in. An id that is more than a name is a text.

    Args:
        value: What the model found.
        request_id: Of the request, as it would be told along.
    """
    if isinstance(value, Detections | Classification | TextClassification):
        held = frozenset[DataClass]()
    elif isinstance(value, Generation | Entities):
        held = _TEXT
    else:
        held = frozenset({DataClass.EMBEDDING}) if isinstance(value, Embedding) else _ANYTHING
    return held | _TEXT if _is_text(request_id) else held


def _value(request: Request, kind: str | None) -> frozenset[DataClass]:
    value, said = request.value, request.data
    if isinstance(value, Picture):
        return said | _VIDEO if said else _PICTURE
    if isinstance(value, str | Prompt):
        return said | _TEXT if said else _TEXT
    if kind in _PICTURE_KINDS:
        return _TENSORS | (said | _VIDEO if said else _PICTURE)
    if kind in _TEXT_KINDS:
        return said | _TENSORS | _TEXT
    if kind is None:
        return said | _TENSORS if said else _ANYTHING
    return said | _TENSORS


def _carries_text(request: Request, outputs: Sequence[str] | None) -> bool:
    if any(isinstance(value, str) for value in request.parameters.values()):
        return True
    names = [request.id, request.version or "", *request.parameters, *(outputs or ())]
    if isinstance(request.value, Mapping):
        if any(np.asarray(tensor).dtype.kind in _STRINGS for tensor in request.value.values()):
            return True
        names.extend(request.value)
    return any(_is_text(name) for name in names)


def _is_text(name: str) -> bool:
    return len(name) > _LONGEST_NAME or any(letter.isspace() for letter in name)
