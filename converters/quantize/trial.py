"""A float model on trial: its samples, its own answers, and the engine that devices run candidates with.

Quantizes nothing and chooses nothing. `onnx_subject` is the same for graphs that are candidates in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from converters.quantize import calibration
from converters.quantize.calibration import Sample, spread
from converters.quantize.judge import Judge, Verdict, make_judge
from converters.step import MODEL_FILES, SAMPLES_FILE, Options
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError
from edge_runtime.contract.task import ClassificationSpec, DetectionSpec, TaskSpec
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.rows import LABELS, read_rows

DROP = 0.01
"""Accuracy budget where the options name none; as `recipe.Budgets`."""
JUDGED = 32
"""Samples that a candidate is judged with."""
_CALIBRATION = 64
"""As for ONNX models: more samples bring more outliers."""
_ENGINES: Mapping[str, str] = {"tflite": "litert", "openvino": "openvino"}


@dataclass(frozen=True, slots=True)
class Trial:
    """See the module.

    Args:
        format: A key of `MODEL_FILES`.
        task: What the model does.
        inputs: What the float model takes.
        outputs: What it gives.
        calibration: What ranges are measured with.
        samples: What candidates are judged with.
        judge: Knows the float model's answers to them.
        warnings: What speaks against the samples.
    """

    format: str
    task: TaskSpec
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    calibration: Sequence[Sample]
    samples: Sequence[Sample]
    judge: Judge
    warnings: Sequence[str]

    @property
    def detects(self) -> bool:
        """Whether what the model does with its last layers' predictions must stay float."""
        return isinstance(self.task, DetectionSpec)

    def verdict(self, candidate: Path, samples: int = JUDGED) -> Verdict:
        """Judge a candidate with the float model's inputs and outputs in its order, whatever their names.

        Args:
            candidate: A model file.
            samples: With at most so many.

        Raises:
            ConversionError: The engine cannot run it.
        """
        chosen = spread(len(self.samples), samples)
        session = _open(candidate, self.format)
        try:
            answers = [self._answer(session, self.samples[index]) for index in chosen]
        except EdgeRuntimeError as error:
            raise _unrunnable(error) from error
        finally:
            session.close()
        return self.judge.judge(dict(zip(chosen, answers, strict=True)))

    def _answer(self, session: Session, sample: Sample) -> Tensors:
        given = {
            theirs.name: sample.tensors[mine.name]
            for mine, theirs in zip(self.inputs, session.inputs, strict=True)
        }
        found = session.run(given)
        return {
            mine.name: found[theirs.name] for mine, theirs in zip(self.outputs, session.outputs, strict=True)
        }


def open_trial(inputs: Mapping[str, Path], format_: str, options: Options) -> Trial:
    """Read a step's inputs and run the float model on the samples.

    Args:
        inputs: `model`, `samples`, and `tokenizer` for a text model.
        format_: `tflite` or `openvino`.
        options: `task`, and `calibration` where it is not 64.

    Raises:
        ConversionError: Samples are missing or show nothing, or do not belong to model and task.
    """
    if "samples" not in inputs:
        raise ConversionError(
            "static quantization without samples",
            expected="samples of the model's inputs, to measure its ranges with",
            got="none",
            do="Name some in the recipe, or take fp16 or int8-dynamic",
        )
    task, tokenizer = calibration.read_task(options), inputs.get("tokenizer")
    path = inputs["samples"] / SAMPLES_FILE
    rows = calibration.raw_samples(path, task)[: int(str(options.get("calibration", _CALIBRATION)))]
    for_ranges, for_judge = calibration.split(len(rows), JUDGED)
    session = _open(inputs["model"] / MODEL_FILES[format_], format_)
    try:
        specs = session.inputs, session.outputs
        chosen = [rows[index] for index in for_ranges]
        measured = calibration.prepare(chosen, task, specs[0], tokenizer)
        _require_variety(measured)
        samples = calibration.prepare([rows[index] for index in for_judge], task, specs[0], tokenizer)
        answers = [session.run(sample.tensors) for sample in samples]
        judge = make_judge(task, specs, samples, answers, _labels(path, task, for_judge), tokenizer)
    except ConversionError:
        raise
    except EdgeRuntimeError as error:
        raise _unrunnable(error) from error
    finally:
        session.close()
    doubts = calibration.doubts(chosen, measured, task)
    return Trial(format_, task, *specs, measured, samples, judge, doubts)


def read_budget(options: Options) -> float:
    """Read `accuracy_drop`.

    Raises:
        ConversionError: It is no number from 0 to 1.
    """
    told = options.get("accuracy_drop", DROP)
    if not isinstance(told, int | float) or isinstance(told, bool) or not 0 <= told <= 1:
        raise ConversionError("option 'accuracy_drop'", expected="a number from 0 to 1", got=repr(told))
    return float(told)


def read_precision(options: Options, known: Sequence[str]) -> str:
    """Read `precision`.

    Raises:
        ConversionError: It is none of those known.
    """
    told = options.get("precision")
    if not isinstance(told, str) or told not in known:
        raise ConversionError("option 'precision'", expected=" or ".join(known), got=repr(told))
    return told


def judged(verdict: Verdict) -> dict[str, JsonValue]:
    """Write a verdict as facts."""
    return {"loss": verdict.loss, "error": verdict.error, **verdict.parts}


def _open(model: Path, format_: str) -> Session:
    try:
        return load_engine(_ENGINES[format_]).open(model, options=EngineOptions())
    except EdgeRuntimeError as error:
        raise _unrunnable(error) from error


def _unrunnable(error: EdgeRuntimeError) -> ConversionError:
    return ConversionError(error.problem, expected=error.expected, got=error.got, do=error.do)


def _require_variety(samples: Sequence[Sample]) -> None:
    if all(array.min() == array.max() for sample in samples for array in sample.tensors.values()):
        raise ConversionError(
            "calibration samples",
            expected="real inputs of the model",
            got=f"{len(samples)} of one constant value each",
            do="Give pictures, texts or rows like those the device will see",
        )


def _labels(path: Path, task: TaskSpec, chosen: Sequence[int]) -> list[int] | None:
    """True classes, where the samples have them; -1 where one has none."""
    if not isinstance(task, ClassificationSpec):
        return None
    labels = read_rows(path).get(LABELS)
    if labels is None or any(label.shape or label.dtype.kind not in "iu" for label in labels):
        return None
    return [int(labels[index]) for index in chosen]
