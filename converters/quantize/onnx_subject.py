"""The float model of a step with its samples and a judge: what candidates are made of and tried with.

Chooses no layers: `onnx_static` takes all, `onnx_mixed` searches.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from pydantic import JsonValue

from converters.quantize import calibration
from converters.quantize.calibration import Sample, spread
from converters.quantize.judge import Judge, Verdict, make_judge
from converters.quantize.onnx_graph import Network, open_network
from converters.quantize.onnx_qdq import quantize, ranged_tensors
from converters.quantize.onnx_ranges import Method, observe, open_session, ranges
from converters.quantize.onnx_tables import shrink_tables
from converters.quantize.scheme import Range, Scheme
from converters.step import MODEL_FILES, SAMPLES_FILE, Options
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError
from edge_runtime.contract.task import ClassificationSpec, DetectionSpec, TaskSpec
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.rows import LABELS, read_rows

JUDGED = 32
"""Samples that candidates are judged with."""
CALIBRATION = 64
"""MinMax with 200 samples was measured worse than with 64 on a detector: more samples bring more outliers."""


@dataclass(frozen=True, slots=True)
class Subject:
    """See the module.

    Args:
        network: The float model.
        task: What it does.
        calibration: What ranges are measured with.
        samples: What candidates are judged with.
        judge: Knows the float model's answers to them.
        scheme: How numbers become 8 bits.
        warnings: What speaks against the samples.
    """

    network: Network
    task: TaskSpec
    calibration: Sequence[Sample]
    samples: Sequence[Sample]
    judge: Judge
    scheme: Scheme
    warnings: list[str]

    @property
    def layers(self) -> list[str]:
        """What can be quantized: all layers, but a detector's last ones and those that would only be slower.

        What a detector predicts mixes pixels, exponents and probabilities, and does not share 8 bits.
        """
        spared = self.network.last_layers() if isinstance(self.task, DetectionSpec) else frozenset[str]()
        return [
            layer
            for layer in self.network.layers
            if layer not in spared and not self.network.slow_in_integers(layer)
        ]

    def ranges(self, method: Method) -> dict[str, Range]:
        """Run the float model on the calibration samples and choose the range of every tensor."""
        names = ranged_tensors(self.network, self.network.layers)
        seen = observe(self.network, names, (each.tensors for each in self.calibration))
        return ranges(self.network, seen, method)

    def write(self, layers: Collection[str], spans: Mapping[str, Range]) -> Any:
        """Make a candidate: these layers, and large lookup tables, in 8 bits."""
        return shrink_tables(Network(quantize(self.network, layers, spans, self.scheme)))[0]

    def verdict(self, candidate: Any, samples: int = JUDGED) -> Verdict:
        """Judge a candidate.

        Args:
            candidate: An `onnx.ModelProto`.
            samples: With at most so many.
        """
        chosen = spread(len(self.samples), samples)
        outputs = run(candidate, [self.samples[index] for index in chosen])
        return self.judge.judge(dict(zip(chosen, outputs, strict=True)))


def open_subject(inputs: Mapping[str, Path], options: Options) -> Subject:
    """Read a step's inputs and run the float model on the samples.

    Args:
        inputs: `model`, `samples`, and `tokenizer` for a text model.
        options: `task`; `calibration`, `activation`, `symmetric`, `reduce_range` where they differ from the
            defaults.

    Raises:
        ConversionError: Model, task and samples do not belong together.
    """
    network, task = open_network(inputs["model"]), calibration.read_task(options)
    if not network.layers:
        raise ConversionError(
            "the model has no convolution or matrix product with float32 weights",
            do="Ship it in float: there is nothing to quantize",
        )
    specs = signature(inputs["model"])
    path = inputs["samples"] / SAMPLES_FILE
    rows = calibration.raw_samples(path, task)[: int(str(options.get("calibration", CALIBRATION)))]
    for_ranges, for_judge = calibration.split(len(rows), JUDGED)
    tokenizer = inputs.get("tokenizer")
    chosen = [rows[index] for index in for_ranges]
    measured = calibration.prepare(chosen, task, specs[0], tokenizer)
    samples = calibration.prepare([rows[index] for index in for_judge], task, specs[0], tokenizer)
    try:
        judge = make_judge(
            task,
            specs,
            samples,
            run(network.model, samples),
            _labels(path, task, for_judge),
            tokenizer,
        )
    except EdgeRuntimeError as error:
        raise ConversionError(str(error)) from error
    return Subject(
        network,
        task,
        measured,
        samples,
        judge,
        read_scheme(options),
        calibration.doubts(chosen, measured, task),
    )


def signature(folder: Path) -> tuple[Any, Any]:
    """Give inputs and outputs of the model in a step's folder as the device's engine sees them.

    Raises:
        ConversionError: The engine cannot open it.
    """
    try:
        session = load_engine("onnxruntime").open(folder / MODEL_FILES["onnx"], options=EngineOptions())
    except EdgeRuntimeError as error:
        raise ConversionError(error.problem, expected=error.expected, got=error.got, do=error.do) from error
    try:
        return session.inputs, session.outputs
    finally:
        session.close()


def read_scheme(options: Options) -> Scheme:
    """Read how numbers become 8 bits.

    Raises:
        ConversionError: `activation` is neither `uint8` nor `int8`, or `uint8` is to be symmetric.
    """
    activation = options.get("activation", "uint8")
    symmetric = bool(options.get("symmetric", False))
    if activation not in {"uint8", "int8"} or (symmetric and activation == "uint8"):
        raise ConversionError(
            "option 'activation'",
            expected="int8, or uint8 without symmetric",
            got=f"{activation}{' symmetric' if symmetric else ''}",
        )
    return Scheme(
        "int8" if activation == "int8" else "uint8", symmetric, bool(options.get("reduce_range", False))
    )


def read_method(options: Options) -> Method:
    """Read how ranges are chosen.

    Raises:
        ConversionError: There is no such method.
    """
    method = options.get("ranges", "mse")
    for known in get_args(Method):
        if method == known:
            return known
    raise ConversionError("option 'ranges'", expected=", ".join(get_args(Method)), got=str(method))


def run(model: Any, samples: Sequence[Sample]) -> list[Tensors]:
    """Run a model on samples in onnxruntime, with one thread."""
    session = open_session(model)
    names = [value.name for value in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(each.tensors)), strict=True)) for each in samples]


def tools() -> dict[str, JsonValue]:
    """Versions of what made the model."""
    return {name: version(name) for name in ("numpy", "onnx", "onnxruntime", "onnxslim")}


def _labels(path: Path, task: TaskSpec, chosen: Sequence[int]) -> list[int] | None:
    """True classes, where the samples have them; -1 where one has none."""
    if not isinstance(task, ClassificationSpec):
        return None
    labels = read_rows(path).get(LABELS)
    if labels is None or any(label.shape or label.dtype.kind not in "iu" for label in labels):
        return None
    return [int(labels[index]) for index in chosen]
