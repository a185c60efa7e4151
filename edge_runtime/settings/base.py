"""What all blocks of `store.yaml` share: the base class, and the kinds of fields.

Knows no block.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    """Base of every block of the file: unknown keys are refused, values do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False, populate_by_name=True
    )


def beside_the_file(path: Path, info: ValidationInfo) -> Path:
    """Make a relative path relative to the folder of the settings file, which the loader passes down."""
    context: dict[str, Path] = info.context or {}
    return context.get("folder", Path()) / path.expanduser()


def refuse(problem: str, expected: str, do: str) -> PydanticCustomError:
    """Make an error whose parts the loader shows as `EdgeRuntimeError` does."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "expected": expected, "do": do})


Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
OwnPath = Annotated[Path, AfterValidator(beside_the_file)]
Labels = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=1000)]
"""Names of classes."""
