"""What a request holds, for the rule of what may never leave: as its maker says, and what it plainly is.

Looks at no pixel and reads no text.
"""

from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.route import DataClass

_VIDEO = frozenset({DataClass.VIDEO})
_PICTURE = frozenset({DataClass.VIDEO, DataClass.FACES})
_TEXT = frozenset({DataClass.TEXT})
_TENSORS = frozenset({DataClass.TENSORS})
_ANYTHING = frozenset(DataClass)
_PICTURE_KINDS = frozenset({"detection", "classification"})
_TEXT_KINDS = frozenset({"text-classification", "token-classification", "embedding", "generation"})


def contents(request: Request, kind: str | None) -> frozenset[DataClass]:
    """Say what a request holds.

    A picture is video whatever its sender calls it, and shows faces unless its sender says what it holds.
    Tensors are what the model takes: pixels of a vision model are a picture still.

    Args:
        request: The caller's.
        kind: The task of the model; None: not known here, so that undeclared tensors may hold anything.
    """
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
