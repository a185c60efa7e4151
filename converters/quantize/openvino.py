"""Smaller and faster OpenVINO models by NNCF: fp16 weights, int8, or as much int8 as a budget allows.

What a detector does with its predictions stays float, found by structure. Measures no speed: the gate does.
Keeps NNCF from reporting its use over the network.
"""

import logging
import warnings
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from converters.export.onnx_openvino import load, make_reproducible
from converters.quantize.judge import Verdict
from converters.quantize.tail import Node, tail
from converters.quantize.trial import Trial, judged, open_trial, read_budget, read_precision
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import TextSpec
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.vendor import brief

PRECISIONS = ("fp16", "int8", "mixed")
_WEIGHTED = frozenset(
    {
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "MatMul",
    }
)
_UNPACKING = frozenset({"Convert", "FakeQuantize", "Multiply", "Reshape", "Subtract", "Transpose"})
"""What may lie between stored weights and the layer that uses them."""
_NO_WORK = frozenset({"Constant", "Parameter", "Result"})


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make a smaller model.

    Args:
        inputs: `model` (folder with a float IR); but for fp16 `samples` (folder), and `tokenizer` (file) of a
            text model.
        out: Gets `model.xml` and `model.bin`.
        options: `precision`: `fp16`, `int8` or `mixed`. But for fp16: `task`; `calibration` (64 samples);
            `accuracy_drop` (0.01): what `mixed` may lose.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`, `precision` (`mixed` where a layer stayed float), `judged`,
        `layers`.

    Raises:
        ConversionError: An option is wrong, the model is no float IR, samples are missing or unfit, NNCF
            fails, or no layer keeps the budget.
    """
    precision = read_precision(options, PRECISIONS)
    tell(0.0, "reading the model")
    vendor = load()
    model = _read(vendor, inputs["model"] / MODEL_FILES["openvino"])
    names = {
        "inputs": {port.any_name: port.any_name for port in model.inputs},
        "outputs": {port.any_name: port.any_name for port in model.outputs},
    }
    if precision == "fp16":
        _save(vendor, model, out, _layer_names(model), half=True)
        return {"tools": _tools("openvino"), "precision": precision, **names}
    budget = read_budget(options) if precision == "mixed" else inf
    subject = _Subject(model, open_trial(inputs, "openvino", options))
    tell(0.1, "quantizing")
    verdict = subject.write(vendor, subject.quantized(), out)
    if verdict.loss > budget:
        tell(0.4, "giving layers back")
        verdict = subject.write(vendor, subject.restored(budget), out)
        if verdict.loss > budget:
            raise ConversionError(
                f"no layer can be in integers with an accuracy_drop of {budget:g}",
                do="Allow more, give more samples, or ship the model in float",
            )
    layers = _layers(_read(vendor, out / MODEL_FILES["openvino"], quantized=True))
    if "int8" not in layers.values():
        raise ConversionError("NNCF left every layer in float", do="Ship the model in float")
    tell(1.0, "done")
    return {
        "tools": _tools("nncf", "numpy", "openvino"),
        "warnings": list[JsonValue](subject.trial.warnings),
        "precision": "int8" if set(layers.values()) == {"int8"} else "mixed",
        "judged": judged(verdict),
        "layers": [{"name": name, "precision": kind} for name, kind in layers.items()],
        **names,
    }


class _Subject:
    """A float model that NNCF makes candidates of."""

    def __init__(self, model: Any, trial: Trial) -> None:
        self._model = model
        self.trial = trial
        self._before = _layer_names(model)
        self._spared = sorted(tail(_nodes(model))) if trial.detects else []

    def quantized(self) -> Any:
        """Quantize all that may be."""
        nncf = _nncf()
        with _quiet():
            try:
                return nncf.quantize(self._model, self._dataset(nncf), **self._how(nncf))
            except Exception as error:
                raise _failure(error) from error

    def restored(self, budget: float) -> Any:
        """Quantize, and give back layers in the order of NNCF's own ranking until the judge is content."""
        nncf, trial = _nncf(), self.trial

        def tensors(index: int) -> dict[str, Any]:
            return dict(trial.samples[index].tensors)

        def validate(compiled: Any, indices: Iterable[int]) -> tuple[float, None]:
            answers = {index: self._answer(compiled, tensors(index)) for index in indices}
            return 1 - trial.judge.judge(answers).loss, None

        judged_with = nncf.Dataset(list(range(len(trial.samples))), tensors)
        with _quiet():
            try:
                return nncf.quantize_with_accuracy_control(
                    self._model,
                    self._dataset(nncf),
                    judged_with,
                    validate,
                    max_drop=budget,
                    drop_type=nncf.DropType.ABSOLUTE,
                    **self._how(nncf),
                )
            except Exception as error:
                raise _failure(error) from error

    def write(self, vendor: Any, model: Any, out: Path) -> Verdict:
        """Save a candidate and judge it as it is saved."""
        _save(vendor, model, out, self._before, half=False)
        return self.trial.verdict(out / MODEL_FILES["openvino"])

    def _answer(self, compiled: Any, tensors: Tensors) -> Tensors:
        found = compiled(tensors)
        return {spec.name: found[place] for place, spec in enumerate(self.trial.outputs)}

    def _dataset(self, nncf: Any) -> Any:
        return nncf.Dataset([dict(sample.tensors) for sample in self.trial.calibration])

    def _how(self, nncf: Any) -> dict[str, Any]:
        # Activations of SiLU and its like are not symmetric about zero; MIXED does not treat them so.
        text = isinstance(self.trial.task, TextSpec)
        return {
            "preset": nncf.QuantizationPreset.MIXED,
            "subset_size": len(self.trial.calibration),
            "model_type": nncf.ModelType.TRANSFORMER if text else None,
            "ignored_scope": nncf.IgnoredScope(names=self._spared) if self._spared else None,
        }


def _nncf() -> Any:
    load()  # first, for it keeps the telemetry that NNCF shares with OpenVINO from being imported
    import nncf

    vendor: Any = nncf
    vendor.set_log_level(logging.ERROR)
    return vendor


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the tool's warnings about its own dependencies to itself; errors are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _failure(error: Exception) -> ConversionError:
    return ConversionError(f"NNCF failed: {brief(error)}", do="Take fp16, or leave this format out")


def _read(vendor: Any, file: Path, *, quantized: bool = False) -> Any:
    core = vendor.Core()
    # Weights mapped from the file would hold it open while it is written again.
    core.set_property({"ENABLE_MMAP": False})
    try:
        model = core.read_model(file)
    except RuntimeError as error:
        raise ConversionError(f"model {file}: {brief(error)}", do="Export it again") from error
    layers = _layers(model)
    if not layers:
        raise ConversionError(
            "the model has no convolution or matrix product with weights",
            do="Ship it in float: there is nothing to quantize",
        )
    if not quantized and "int8" in layers.values():
        raise ConversionError(
            f"model {file} is quantized already",
            expected="float weights",
            got="integers",
            do="Give the float model it was made from, or ship it as it is",
        )
    return model


def _save(vendor: Any, model: Any, out: Path, names: Collection[str], *, half: bool) -> None:
    file = out / MODEL_FILES["openvino"]
    vendor.save_model(model, file, compress_to_fp16=half)
    make_reproducible(file, names)


def _layer_names(model: Any) -> set[str]:
    return {str(operation.get_friendly_name()) for operation in model.get_ordered_ops()}


def _layers(model: Any) -> dict[str, str]:
    """Name of a layer -> `fp32`, `fp16` or `int8`, as its weights are stored; in the order they run."""
    found: dict[str, str] = {}
    for operation in model.get_ordered_ops():
        stored = _stored(operation)
        if stored is not None:
            found[str(operation.get_friendly_name())] = stored
    return found


def _stored(operation: Any) -> str | None:
    if operation.get_type_name() not in _WEIGHTED:
        return None
    maker = operation.input_value(1).get_node()
    packed = False
    while maker.get_type_name() in _UNPACKING:
        packed = packed or maker.get_type_name() == "FakeQuantize"
        maker = maker.input_value(0).get_node()
    if maker.get_type_name() != "Constant":
        return None
    kind = str(maker.get_element_type().get_type_name())
    return "int8" if packed or kind in {"i8", "u8", "i4", "u4"} else f"fp{kind[1:]}"


def _nodes(model: Any) -> list[Node]:
    """The operators that calculate, in the order they run; a tensor is named by what makes it."""
    found: list[Node] = []
    for operation in model.get_ordered_ops():
        if operation.get_type_name() in _NO_WORK:
            continue
        name = str(operation.get_friendly_name())
        makers = tuple(str(port.get_node().get_friendly_name()) for port in operation.input_values())
        found.append(Node(name, makers, (name,), _stored(operation) is not None))
    return found


def _tools(*names: str) -> dict[str, JsonValue]:
    return {name: version(name) for name in names}
