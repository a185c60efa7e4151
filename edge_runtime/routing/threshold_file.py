"""The file of a calibrated threshold: what to escalate, and the curve that it was chosen from.

Calibrates nothing (`edge_runtime.routing.calibration` does).
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_runtime.atomic import cannot_write
from edge_runtime.contract.errors import ConfigError
from edge_runtime.routing.calibration import Calibration
from edge_runtime.routing.hardness import Rule


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CurvePoint(_Read):
    """What a threshold does."""

    threshold: float = Field(ge=0, le=1)
    share: float = Field(ge=0, le=1)
    accuracy: float = Field(ge=0, le=1)
    random: float = Field(ge=0, le=1)
    mean_bytes: float = Field(ge=0)


class ThresholdFile(_Read):
    """What `edge-runtime route calibrate` writes and `threshold_file` names."""

    schema_version: Literal[1] = 1
    model: str
    rule: Rule
    box_threshold: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1)
    disagreement: float = Field(ge=0, le=1)
    samples: int = Field(ge=1)
    chosen: CurvePoint
    curve: tuple[CurvePoint, ...]


def threshold_file(model: str, rule: Rule, box_threshold: float, found: Calibration) -> ThresholdFile:
    """Make the file's content.

    Args:
        model: The name that the settings give it.
        rule: Of the cascade.
        box_threshold: Of rule `detection`.
        found: The calibration.
    """
    return ThresholdFile(
        model=model,
        rule=rule,
        box_threshold=box_threshold,
        threshold=found.chosen.threshold,
        disagreement=found.disagreement,
        samples=found.samples,
        chosen=CurvePoint(**asdict(found.chosen)),
        curve=tuple(CurvePoint(**asdict(point)) for point in found.curve),
    )


def write_threshold(path: Path, content: ThresholdFile) -> None:
    """Write the file.

    Raises:
        StorageError: The disk did not take it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content.model_dump(mode="json"), indent=1) + "\n", "utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_threshold(path: Path) -> ThresholdFile:
    """Read the file.

    Raises:
        ConfigError: It is missing, or not what `edge-runtime route calibrate` writes.
    """
    again = "Write it: edge-runtime route calibrate"
    try:
        return ThresholdFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"threshold file {path}", got=error.strerror, do=again) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"threshold file {path}: {place}", got=first["msg"], do=again) from error
