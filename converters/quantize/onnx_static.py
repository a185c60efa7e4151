"""Static int8: every layer in 8 bits, with ranges measured on samples. Judges, but gives no layer back."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from converters.quantize.judge import Verdict
from converters.quantize.onnx_graph import save
from converters.quantize.onnx_subject import open_subject, read_method, tools
from converters.step import Facts, Options, Tell


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Quantize a model whole, but for the last layers of a detector and what follows them.

    Args:
        inputs: `model` (folder with the float ONNX model), `samples` (folder), `tokenizer` (file, text only).
        out: Gets `model.onnx`.
        options: `task`; where they differ from the defaults: `calibration` (64 samples), `activation`
            (`uint8`, or `int8` for Arm and TensorRT), `symmetric`, `reduce_range`, `ranges` (`mse`,
            `percentile`, `entropy`, `minmax`).
        tell: Progress.

    Returns:
        Facts, with what the judge found.

    Raises:
        ConversionError: Model, task and samples do not belong together.
    """
    method = read_method(options)
    tell(0.0, "reading model and samples")
    subject = open_subject(inputs, options)
    tell(0.2, "measuring ranges")
    model = subject.write(subject.layers, subject.ranges(method))
    tell(0.8, "comparing answers")
    verdict = subject.verdict(model)
    save(model, out)
    tell(1.0, "done")
    return {
        "tools": tools(),
        "warnings": list[JsonValue](subject.warnings),
        "precision": "int8",
        "ranges": method,
        "judged": judged(verdict),
    }


def judged(verdict: Verdict) -> dict[str, JsonValue]:
    """Write a verdict as facts."""
    return {"loss": verdict.loss, "error": verdict.error, **verdict.parts}
