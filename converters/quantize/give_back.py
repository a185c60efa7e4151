"""Mixed precision: which parts of a model get their float back, so that its answers stay within a budget.

Knows parts by name only; the caller makes a candidate of any set of them and has it judged. `onnx_mixed` does
the same for graphs in memory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from converters.quantize.judge import Verdict
from converters.quantize.search import fewest
from converters.step import Tell

_FEW = 8
"""Samples a part alone is judged with: its place in the order is wanted, not a figure."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the search found.

    Args:
        quantized: The parts in few bits.
        verdict: On all samples.
        alone: What each part did to the answers when it alone was quantized; empty where nothing had to be
            given back.
        tried: Candidates judged on all samples.
    """

    quantized: frozenset[str]
    verdict: Verdict
    alone: Mapping[str, Verdict]
    tried: int


def give_back(
    parts: Mapping[str, int],
    judge: Callable[[frozenset[str], int | None], Verdict],
    budget: float,
    tell: Tell,
) -> Mixture:
    """Quantize as many parts as the budget allows.

    Args:
        parts: Name -> how many weights it has: of parts that disturb alike, the smaller is given back first.
        judge: Judges the model with these parts quantized, on so many samples; None: all.
        budget: The most `Verdict.loss` may be.
        tell: Progress.

    Returns:
        Within the budget; with nothing quantized at worst.
    """
    tell(0.0, "all layers quantized")
    whole = judge(frozenset(parts), None)
    if whole.loss <= budget:
        return Mixture(frozenset(parts), whole, {}, 1)
    alone: dict[str, Verdict] = {}
    for index, part in enumerate(parts):
        tell(0.1 + 0.6 * index / len(parts), f"sensitivity of {part[-60:]}")
        alone[part] = judge(frozenset({part}), _FEW)
    order = sorted(parts, key=lambda part: (-alone[part].error, parts[part], part))
    tried: dict[int, Verdict] = {0: whole}

    def holds(kept: int) -> bool:
        if kept not in tried:
            tell(0.7, f"{kept} of {len(order)} layers in float")
            tried[kept] = judge(frozenset(order[kept:]), None)
        return tried[kept].loss <= budget

    kept = fewest(len(order), holds)
    verdict = tried[kept] if kept in tried else Verdict(0.0, 0.0, {})
    return Mixture(frozenset(order[kept:]), verdict, alone, len(tried))
