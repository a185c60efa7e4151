"""Steps that act as exporters do, on empty models."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from converters.step import SAMPLES_FILE, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError


def make(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Leave an empty model, and the options it was given."""
    (out / "options.json").write_text(json.dumps(dict(options)))
    (out / str(options.get("model", "nothing"))).touch()
    return {}


def turn(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """As `make`, for a model that takes pictures with channels last."""
    return {**make(inputs, out, options, tell), "input": {"layout": "nhwc"}}


def refuse_layer(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Refuse an operator, as targets do."""
    raise ConversionError(
        "the target has no GridSample",
        operator="GridSample",
        layer="/neck/warp",
        expected="opset 20",
        got="opset 17",
        do="Take another target",
    )


def find_disk_full(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Fail as any write does on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def give_samples(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Leave samples with the names that it is told."""
    names = cast("list[str]", options["names"])
    arrays: Any = {name: np.zeros((2, 3), np.float32) for name in names}
    np.savez(out / SAMPLES_FILE, **arrays)
    return {}


def give_source(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Leave an empty model with the inputs that it is told."""
    return {**make(inputs, out, options, tell), "inputs": options["inputs"]}
