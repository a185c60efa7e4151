"""Smaller TFLite models by the AI Edge Quantizer: fp16, dynamic int8, static int8 and int16x8, mixed.

A detector's last layers and its box arithmetic stay float: quantized whole, every score becomes zero.
Measures no speed: the gate does.
"""

import re
import warnings
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import JsonValue

from converters.quantize.give_back import Mixture, give_back
from converters.quantize.judge import Verdict
from converters.quantize.litert_graph import Graph, open_graph
from converters.quantize.litert_ranges import measure
from converters.quantize.trial import Trial, judged, open_trial, read_budget, read_precision
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import TextSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.engines.vendor import brief

PRECISIONS = ("fp16", "int8-dynamic", "int8", "int16x8", "mixed")
_BETWEEN = "operators without weights"
"""The one part of a model that is no layer: what runs between layers, tail excluded."""
_ACTIVATION_BITS: Mapping[str, int] = {"int8": 8, "mixed": 8, "int16x8": 16}
_EVERYTHING = ".*"


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make a smaller model.

    Args:
        inputs: `model` (folder with the float TFLite model); for static precisions `samples` (folder), and
            `tokenizer` (file) of a text model.
        out: Gets `model.tflite`.
        options: `precision`: `fp16`, `int8-dynamic`, `int8`, `int16x8` or `mixed` (int8 within a budget).
            Static ones: `task`; `calibration` (64 samples); `io` (`float`, or `int8`: inputs and outputs are
            integers, but for a detector's outputs); `accuracy_drop`: layers are given back their float until
            no more is lost; 0.01 for `mixed`, no limit for the others where it is absent.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs` and `outputs` (names in the float model -> here), `precision` (`mixed`
        where a layer stayed float), `judged`, and `layers` where layers were searched.

    Raises:
        ConversionError: An option is wrong, the model is none that can be quantized, samples are missing or
            unfit, or no layer keeps the budget.
    """
    precision = read_precision(options, PRECISIONS)
    whole_numbers = _read_io(options)
    tell(0.0, "reading the model")
    graph = open_graph(inputs["model"])
    file = out / MODEL_FILES["tflite"]
    if precision not in _ACTIVATION_BITS:
        tell(0.2, "quantizing weights")
        content = _quantize(graph, _weights_recipe(precision), None)
        file.write_bytes(content)
        return {"tools": _tools(), "precision": precision, **_names(inputs["model"], file)}
    if graph.open_axes:
        raise ConversionError(
            f"input '{graph.open_axes[0]}' takes any length",
            expected="a fixed shape, for static quantization",
            do="Export the model with one size, or take int8-dynamic",
        )
    trial = open_trial(inputs, "tflite", options)
    bench = _Bench(graph, trial, _ACTIVATION_BITS[precision])
    tell(0.1, "measuring ranges")
    bench.calibrate()
    limited = precision == "mixed" or "accuracy_drop" in options
    mixture = bench.search(read_budget(options) if limited else inf, tell)
    file.write_bytes(bench.content(mixture.quantized, whole_numbers=whole_numbers))
    tell(1.0, "done")
    return {
        "tools": _tools(),
        "warnings": _warnings(trial, wide=precision != "int16x8" and graph.wide),
        "precision": _became(precision, bench, mixture),
        "judged": judged(mixture.verdict),
        "layers": bench.report(mixture),
        **_names(inputs["model"], file),
    }


class _Bench:
    """Makes candidates of a model and has them judged."""

    def __init__(self, graph: Graph, trial: Trial, bits: int) -> None:
        self._graph = graph
        self._trial = trial
        self._bits = bits
        self._ranges: Any = None
        self._spared = graph.spared if trial.detects else frozenset[str]()
        layers = {name: count for name, count in graph.layers.items() if name not in self._spared}
        if not layers:
            raise ConversionError(
                "the detector has no layer before its last ones", do="Ship it in float, or in fp16"
            )
        self.parts = {**layers, _BETWEEN: 0}

    def calibrate(self) -> None:
        """Run the float model on the samples and note the range of every tensor."""
        rows = [sample.tensors for sample in self._trial.calibration]
        with _quiet():
            self._ranges = measure(self._graph, rows, _static([(_EVERYTHING, "*")], self._bits), self._bits)

    def search(self, budget: float, tell: Tell) -> Mixture:
        """Quantize what the budget allows.

        Raises:
            ConversionError: Nothing.
        """
        with TemporaryDirectory() as folder:
            candidate = Path(folder) / MODEL_FILES["tflite"]

            def judge(parts: frozenset[str], samples: int | None) -> Verdict:
                candidate.write_bytes(self.content(parts))
                return self._trial.verdict(candidate, *(() if samples is None else (samples,)))

            found = give_back(self.parts, judge, budget, lambda share, what: tell(0.2 + 0.75 * share, what))
        if not found.quantized - {_BETWEEN}:
            raise ConversionError(
                f"no layer can be in integers with an accuracy_drop of {budget:g}",
                do="Allow more, give more samples, or ship the model in float",
            )
        return found

    def content(self, parts: frozenset[str], *, whole_numbers: bool = False) -> bytes:
        """Write the model with these parts quantized, and its inputs and outputs if `whole_numbers`."""
        layers = [name for name in self._graph.layers if name in parts]
        if not parts:
            return self._graph.content
        if _BETWEEN in parts:
            kept = self._spared | (frozenset(self._graph.layers) - parts)
            recipe = [
                *_static([(_EVERYTHING, "*")], self._bits),
                *_float([(_exactly(kept), "*")] if kept else []),
            ]
        else:
            recipe = _static([(_exactly(layers), "*")], self._bits)
        ends = ["OUTPUT"] if self._trial.detects else []
        if whole_numbers:
            recipe += _static([(_EVERYTHING, "INPUT"), (_EVERYTHING, "OUTPUT")], self._bits)
        else:
            ends = ["INPUT", "OUTPUT"]
        return _quantize(self._graph, [*recipe, *_float([(_EVERYTHING, end) for end in ends])], self._ranges)

    def report(self, mixture: Mixture) -> list[JsonValue]:
        """Say of every layer, in the order they run, what it became; and its error alone, if measured."""
        report: list[JsonValue] = []
        for name in (*self._graph.layers, _BETWEEN):
            told: dict[str, JsonValue] = {
                "name": _short(name),
                "precision": ("int16x8" if self._bits == 16 else "int8")
                if name in mixture.quantized
                else "fp32",
            }
            if name in mixture.alone:
                told |= {"error": mixture.alone[name].error, **mixture.alone[name].parts}
            report.append(told)
        return report

    def whole(self, mixture: Mixture) -> bool:
        """Tell whether every layer of the model is quantized."""
        return frozenset(self._graph.layers) <= mixture.quantized


def _became(precision: str, bench: _Bench, mixture: Mixture) -> str:
    if not bench.whole(mixture):
        return "mixed"
    return "int8" if precision == "mixed" else precision


def _static(scopes: Sequence[tuple[str, str]], bits: int) -> list[dict[str, Any]]:
    """Recipe: activations of 8 or 16 bits, weights of 8 by channel; the later of two entries wins."""
    from ai_edge_quantizer import qtyping, recipe_manager

    vendor: Any = recipe_manager
    made = vendor.RecipeManager()
    for scope, operator in scopes:
        kind: Any = qtyping.TFLOperationName
        made.add_static_config(scope, kind(operator), bits, 8)
    return list(made.get_quantization_recipe())


def _float(scopes: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Recipe: not quantized."""
    return [
        {"regex": scope, "operation": operator, "algorithm_key": "no_quantize", "op_config": {}}
        for scope, operator in scopes
    ]


def _weights_recipe(precision: str) -> list[dict[str, Any]]:
    from ai_edge_quantizer import qtyping, recipe_manager

    vendor: Any = recipe_manager
    everything: Any = qtyping.TFLOperationName
    made = vendor.RecipeManager()
    if precision == "fp16":
        made.add_weight_only_config(
            _EVERYTHING, everything.ALL_SUPPORTED, 16, algorithm_key=vendor.AlgorithmName.FLOAT_CASTING
        )
    else:
        made.add_dynamic_config(_EVERYTHING, everything.ALL_SUPPORTED, 8)
    return list(made.get_quantization_recipe())


def _exactly(scopes: Collection[str]) -> str:
    return f"^(?:{'|'.join(re.escape(scope) for scope in sorted(scopes))})$"


def _quantize(graph: Graph, recipe: Sequence[Mapping[str, Any]], ranges: Any) -> bytes:
    from ai_edge_quantizer import quantizer

    vendor: Any = quantizer
    with _quiet():
        try:
            worker = vendor.Quantizer(graph.content, list(recipe))
            made = worker.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        except Exception as error:
            raise _failure(error) from error
    return bytes(made.quantized_model)


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the tool's warnings about its own use of memory to itself; errors are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _failure(error: Exception) -> ConversionError:
    return ConversionError(
        f"AI Edge Quantizer failed: {brief(error)}", do="Take another precision, or leave this format out"
    )


def _read_io(options: Options) -> bool:
    told = options.get("io", "float")
    if told not in {"float", "int8"}:
        raise ConversionError("option 'io'", expected="float or int8", got=repr(told))
    return told == "int8"


def _names(before: Path, after: Path) -> dict[str, JsonValue]:
    """Say what became of the names of inputs and outputs: the quantizer appends to those it converts."""
    engine = load_engine("litert")
    old = engine.open(before / MODEL_FILES["tflite"], options=EngineOptions())
    new = engine.open(after, options=EngineOptions())
    try:
        return {
            "inputs": {mine.name: theirs.name for mine, theirs in zip(old.inputs, new.inputs, strict=True)},
            "outputs": {
                mine.name: theirs.name for mine, theirs in zip(old.outputs, new.outputs, strict=True)
            },
        }
    finally:
        old.close()
        new.close()


def _short(name: str) -> str:
    """The last word of a scope that lists a module's whole ancestry."""
    return re.split(r"[;/]+", name.rstrip(";"))[-1] or name


def _warnings(trial: Trial, *, wide: bool) -> list[JsonValue]:
    found: list[JsonValue] = [*trial.warnings]
    if isinstance(trial.task, TextSpec):
        found.append("static integers were measured to spoil text encoders in TFLite: compare int8-dynamic")
    elif wide:
        found.append(
            "static int8 was measured to spoil attention and normalizing of each sample in TFLite:"
            " compare int8-dynamic"
        )
    return found


def _tools() -> dict[str, JsonValue]:
    return {name: version(name) for name in ("ai-edge-litert", "ai-edge-quantizer", "numpy")}
