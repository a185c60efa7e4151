"""Automatic mixed precision: 8 bits for as many layers as the accuracy budget allows, float for the others.

Quantizes as `onnx_static` does; measures how much each layer alone disturbs the task's answers, then gives
layers back their precision, most sensitive first, until the budget holds. Measures no speed: the gate does,
and what is fast on one machine is not on another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from converters.quantize.judge import Verdict
from converters.quantize.onnx_graph import save
from converters.quantize.onnx_static import judged
from converters.quantize.onnx_subject import Subject, open_subject, read_method, tools
from converters.quantize.scheme import Range
from converters.quantize.search import fewest
from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError

DROP = 0.01
"""Accuracy budget where the options name none; as `recipe.Budgets`."""
_SAMPLES = 8
"""Samples a single layer is judged with: its place in the order is wanted, not a figure."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a layer does to the answers when it alone is quantized.

    Args:
        layer: Its node.
        verdict: Of the model with this layer in 8 bits and all others in float.
    """

    layer: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Mix:
    """A mixed model.

    Args:
        model: The `onnx.ModelProto`.
        quantized: Its layers in 8 bits.
        verdict: On all samples.
        tried: Candidates judged on all samples.
    """

    model: Any
    quantized: frozenset[str]
    verdict: Verdict
    tried: int


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Quantize as much of a model as its accuracy budget allows.

    Args:
        inputs: As for `onnx_static.convert`.
        out: Gets `model.onnx`.
        options: As for `onnx_static.convert`, and `accuracy_drop` (0.01): what the task's measure may lose
            against the float model's answers (average precision at IoU 0.5 of a detector, the expected share
            of right answers of a classifier, one less the mean cosine of anything else).
        tell: Progress.

    Returns:
        Facts: `precision` is `int8` when every layer could be quantized, `mixed` otherwise; `layers` says for
            each
        its error alone and its precision.

    Raises:
        ConversionError: Model, task and samples do not belong together, or no layer may be in 8 bits.
    """
    method, budget = read_method(options), float(str(options.get("accuracy_drop", DROP)))
    tell(0.0, "reading model and samples")
    subject = open_subject(inputs, options)
    tell(0.05, "measuring ranges")
    spans = subject.ranges(method)
    order = sensitivities(subject, spans, lambda share, what: tell(0.1 + 0.7 * share, what))
    mix = search(subject, spans, order, budget, lambda what: tell(0.85, what))
    if not mix.quantized:
        raise ConversionError(
            f"no layer can be in 8 bits with an accuracy_drop of {budget:g}",
            do="Allow more, give more samples, or ship the model in float",
        )
    save(mix.model, out)
    tell(1.0, "done")
    whole = mix.quantized == frozenset(subject.network.layers)
    return {
        "tools": tools(),
        "warnings": list[JsonValue](subject.warnings),
        "precision": "int8" if whole else "mixed",
        "ranges": method,
        "judged": judged(mix.verdict),
        "tried": mix.tried,
        "layers": _report(subject, order, mix.quantized),
    }


def sensitivities(subject: Subject, spans: Mapping[str, Range], tell: Tell) -> list[Sensitivity]:
    """Measure every layer alone.

    Args:
        subject: The model.
        spans: Ranges of its tensors.
        tell: Progress.

    Returns:
        Most sensitive first; of equals, the one with fewer weights first: giving it back costs less.
    """
    found: list[Sensitivity] = []
    for index, layer in enumerate(subject.layers):
        tell(index / len(subject.layers), f"sensitivity of {layer}")
        found.append(Sensitivity(layer, subject.verdict(subject.write([layer], spans), _SAMPLES)))
    count = subject.network.weight_count
    return sorted(found, key=lambda each: (-each.verdict.error, count(each.layer), each.layer))


def search(
    subject: Subject,
    spans: Mapping[str, Range],
    order: Sequence[Sensitivity],
    budget: float,
    tell: Callable[[str], None],
) -> Mix:
    """Find the fewest layers to give back, by bisection over the order.

    Args:
        subject: The model.
        spans: Ranges of its tensors.
        order: Of `sensitivities`.
        budget: The most that may be lost.
        tell: Told what is tried.

    Returns:
        A model within the budget; with no layer in 8 bits at worst.
    """
    tried: dict[int, Mix] = {}

    def attempt(kept: int) -> Mix:
        if kept not in tried:
            tell(f"{kept} of {len(order)} layers in float")
            quantized = frozenset(each.layer for each in order[kept:])
            model = subject.write(quantized, spans)
            tried[kept] = Mix(model, quantized, subject.verdict(model), 0)
        return tried[kept]

    best = attempt(fewest(len(order), lambda kept: attempt(kept).verdict.loss <= budget))
    return Mix(best.model, best.quantized, best.verdict, len(tried))


def _report(subject: Subject, order: Sequence[Sensitivity], quantized: frozenset[str]) -> list[JsonValue]:
    """Say of every layer, in the order they run, its error alone and what it became."""
    errors = {each.layer: each.verdict for each in order}
    report: list[JsonValue] = []
    for layer in subject.network.layers:
        told: dict[str, JsonValue] = {"name": layer, "precision": "int8" if layer in quantized else "fp32"}
        if layer in errors:
            told |= {"error": errors[layer].error, **errors[layer].parts}
        report.append(told)
    return report
