"""What a program asks with, and the request that is made of it. Answers nothing."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Request, Value
from edge_runtime.contract.route import DataClass
from edge_runtime.contract.tensors import Tensors
from edge_runtime.tasks.picture_file import read_picture

Asked = Value | Path | NDArray[np.uint8]
"""What `predict` takes: besides a request's values a picture's file, or its pixels `(h, w, 3)` uint8 BGR."""


def ask(
    model: str,
    value: Asked,
    *,
    timeout_s: float | None = None,
    data: Collection[DataClass | str] = (),
    request_id: str = "",
) -> Request:
    """Make a request of what a program has at hand.

    Args:
        model: Which model.
        value: As for `Runtime.predict`.
        timeout_s: As for `Runtime.predict`.
        data: As for `Runtime.predict`.
        request_id: As for `Runtime.predict`.

    Raises:
        InputError: A picture's file cannot be read, or it is no such value.
    """
    asked: Value | Tensors
    if isinstance(value, Path):
        asked = Picture.from_bgr(read_picture(value))
    elif isinstance(value, np.ndarray):
        asked = Picture.from_bgr(value)
    elif isinstance(value, str | Prompt | Picture) or _are_tensors(value):
        asked = value
    else:
        raise InputError(
            f"model '{model}'",
            expected="a text, a Prompt, a Picture, pixels, a picture's pathlib.Path, or arrays by name",
            got=type(value).__name__,
        )
    classes = frozenset(DataClass(one) for one in data)
    return Request(request_id or uuid4().hex, model, asked, data=classes, timeout_s=timeout_s)


def _are_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(one, np.ndarray) for one in cast("Mapping[str, object]", value).values()
    )
