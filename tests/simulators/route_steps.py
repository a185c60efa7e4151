"""Steps that act as exporters do, on empty models."""

import json
from collections.abc import Mapping
from pathlib import Path

from converters.step import Facts, Options, Tell


def make(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Leave an empty model, and the options it was given."""
    (out / "options.json").write_text(json.dumps(dict(options)))
    (out / str(options.get("model", "nothing"))).touch()
    return {}


def turn(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """As `make`, for a model that takes pictures with channels last."""
    return {**make(inputs, out, options, tell), "input": {"layout": "nhwc"}}
