"""Golden inputs and outputs: a few inputs with what the source model says to them, for devices to try.

A step (see `converters.step`); judges nothing. Its inputs: `source_model`, `samples`, and `tokenizer` where
the task is one of texts (the `tokenizer.json` itself). Its options:

    task           TaskSpec as the source model has it
    source_format  of `source_model`; absent: `onnx`
    count          rows, at most 8; absent: 4

It leaves `golden-inputs.npz` and `golden-outputs.npz`, as `contract.bundle.Golden` has them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from converters.step import SAMPLES_FILE, Facts, Options, Tell
from converters.verify.options import integer, task_of, text
from converters.verify.reference import open_source
from edge_runtime.contract.tensors import Array
from edge_runtime.predict import run_rows
from edge_runtime.tasks.rows import LABELS, PAIRS, PICTURES, raw_inputs, read_rows, write_rows

INPUTS = "golden-inputs.npz"
OUTPUTS = "golden-outputs.npz"
MOST = 8
_COUNT = 4
_LONGEST_PX = 640
"""Golden pictures travel in every bundle: no side is longer than this."""


def make(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make them; see the module.

    Raises:
        EdgeRuntimeError: The source model does not run.
    """
    spec = task_of(options)
    count = min(integer(options, "count", _COUNT), MOST)
    stored = read_rows(inputs["samples"] / SAMPLES_FILE)
    rows = {name: some[-count:] for name, some in stored.items() if name not in {LABELS, PAIRS}}
    if PICTURES in rows:
        rows[PICTURES] = [_shrunk(picture) for picture in rows[PICTURES]]
    source = open_source(inputs, text(options, "source_format", "onnx"), spec)
    answers: dict[str, list[Array]] = {tensor.name: [] for tensor in source.session.outputs}
    try:
        raws = raw_inputs(rows, spec)
        for at, raw in enumerate(raws):
            tell(at / len(raws), f"golden input {at + 1} of {len(raws)}")
            tensors, _ = source.task.preprocess(raw)
            for name, array in run_rows(source.session, tensors).items():
                answers[name].append(np.array(array))
    finally:
        source.session.close()
    write_rows(out / INPUTS, rows, compress=True)
    write_rows(out / OUTPUTS, answers, compress=True)
    return {"rows": len(raws)}


def _shrunk(picture: Array) -> Array:
    longest: Any = max(picture.shape[:2])
    if longest <= _LONGEST_PX:
        return picture
    height, width = (max(1, round(side * _LONGEST_PX / longest)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
