"""Do the device's answer and the cloud's say the same? For audits of what was kept, and for calibration.

Compares documents of `edge_runtime.protocol.answers`; runs no model.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

_ALIKE = 0.95
"""Cosine of two vectors that say the same."""
_FAR = 0.01
"""Of a tensor's greatest magnitude, how much two that say the same may differ."""


def agree(here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Say whether two results of one kind say the same.

    The best class of a classification; the labels of a detection, each as often; the labelled spans of a
    text; the direction of a vector; a generated text, spaces aside; tensors that are close. Results of two
    kinds never agree.

    Args:
        here: `result` of the device's answer.
        there: `result` of the cloud's.
    """
    kind = here.get("kind")
    if kind != there.get("kind"):
        return False
    match kind:
        case "classification" | "text-classification":
            return _best(here) == _best(there)
        case "detection":
            return _labels(here) == _labels(there)
        case "token-classification":
            return _spans(here) == _spans(there)
        case "embedding":
            return _cosine(here["vector"], there["vector"]) >= _ALIKE
        case "generation":
            return str(here["text"]).split() == str(there["text"]).split()
        case "tensors":
            return _close(here["tensors"], there["tensors"])
        case _:
            return here == there


def _best(result: Mapping[str, Any]) -> object:
    classes = result["classes"]
    return classes[0]["label"] if classes else None


def _labels(result: Mapping[str, Any]) -> Counter[str]:
    return Counter(str(one["label"]) for one in result["objects"])


def _spans(result: Mapping[str, Any]) -> set[tuple[str, int, int]]:
    return {(str(one["label"]), int(one["start"]), int(one["end"])) for one in result["entities"]}


def _close(here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    if here.keys() != there.keys():
        return False
    for name, tensor in here.items():
        ours, theirs = tensor["data"], there[name]["data"]
        if tensor["shape"] != there[name]["shape"]:
            return False
        if not all(isinstance(value, int | float) for value in (*ours, *theirs)):
            return ours == theirs
        bound = _FAR * max((abs(value) for value in theirs), default=0.0)
        if any(abs(a - b) > bound for a, b in zip(ours, theirs, strict=True)):
            return False
    return True


def _cosine(a: list[float], b: list[float]) -> float:
    if len(a) != len(b):
        return 0.0
    norm = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0
