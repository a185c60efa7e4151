"""Step: one piece of work of a conversion, as data; and what a step's function is given and gives.

Runs nothing: `runner` starts steps in processes of their own, `store` keeps what they made.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue

Options: TypeAlias = Mapping[str, JsonValue]
Facts: TypeAlias = dict[str, JsonValue]
"""What a step says of its result; kept as `facts.json` beside it. Keys that mean the same everywhere:

    tools       {"onnx": "1.23.2", …}, the versions that made it
    warnings    ["…"], one line each for a person
    layout      "nchw" | "nhwc" of a picture input
    folded      true where uint8 NHWC pictures go in and normalisation is inside
    outputs     {"name in the source": "name in this model"}, in the source's order
    inputs      the same for inputs
    precision   what the model became, where that differs from what was asked ("mixed")
    layers      [{"name": …, "error": …, "precision": …}], where sensitivity was measured
"""
Tell: TypeAlias = Callable[[float, str], None]
"""Progress of a step: a share in [0, 1], and what it is doing."""
StepFunction: TypeAlias = Callable[[Mapping[str, Path], Path, Options, Tell], Facts]
"""`(inputs, out, options, tell)`: folders that earlier steps filled by the name in `Step.needs`, the empty
folder to fill, the step's options, and where to tell progress. Raises `ConversionError` for what a person can
act on."""

MODEL_FILES: Mapping[str, str] = {
    "onnx": "model.onnx",
    "ort": "model.ort",
    "tflite": "model.tflite",
    "openvino": "model.xml",
    "coreml": "model.mlpackage",
    "tfjs": "tfjs",
    "aimodel": "model.aimodel",
}
"""What the model in a step's folder is called, by format. External data lies beside it."""
SAMPLES_FILE = "samples.npz"
"""What the samples step leaves: rows of the task's raw input as `contract.bundle.Golden` has them; read them
with `edge_runtime.tasks.rows.read_rows` and `raw_inputs`. The rows for calibration come first, those for
verification last; where there are too few for both they overlap. Of labelled samples it has one of these as
well:

    labels      classes, int64, or other numbers a row; -1: none
                of a detection task: (k, 6) float32 a row: x1 y1 x2 y2 in pixels of the picture, class, crowd
                (0 or 1)
    pairs       (m, 3) float64, of an embedding task: first row, second row, how alike a person finds them
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work.

    Args:
        id: Unique in the plan, readable: `onnx-int8`.
        function: `module:function` of a `StepFunction`.
        tool: The row of `toolchain.TOOLS` whose environment it runs in.
        options: JSON; part of the step's digest.
        needs: Name of an input -> id of the step that makes it.
        files: Name of an input -> path outside the plan (the source, its samples), whose content is part of
            the step's digest.
        timeout_s: It is killed after this long.
        memory_bytes: Address space it may take; None: no limit.
    """

    id: str
    function: str
    tool: str
    options: Options = field(default_factory=dict[str, JsonValue])
    needs: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    timeout_s: float = 1800.0
    memory_bytes: int | None = None


def fingerprint(step: Step, inputs: Mapping[str, str], tool: str) -> str:
    """Name a step's result by everything it depends on.

    Args:
        step: The step.
        inputs: Name of an input -> fingerprint of the step that makes it, or digest of the file.
        tool: What the tool's environment is: its row's requirements as installed.

    Returns:
        SHA-256 in hexadecimal.
    """
    known = {
        "function": step.function,
        "options": dict(step.options),
        "inputs": dict(inputs),
        "tool": tool,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
