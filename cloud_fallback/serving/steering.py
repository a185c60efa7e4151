"""The splits in force, kept in a file where there is one, so that a restart does not end a canary.

Chooses nothing; `traffic` does.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from cloud_fallback.serving.traffic import Split, Steering
from edge_runtime.atomic import new_file
from edge_runtime.contract.errors import EdgeRuntimeError, StorageError
from edge_runtime.contract.task import Declared


class SplitEntry(Declared):
    """How the requests to one model are shared out, as JSON says it."""

    weights: dict[str, float] = Field(
        min_length=1,
        max_length=64,
        description="version -> percent of the requests; they sum to 100",
        examples=[{"1.0.0": 90, "1.1.0": 10}],
    )
    shadow: str | None = Field(
        default=None, description="a version that gets copies of requests; nobody sees its answers"
    )
    shadow_percent: float = Field(default=100.0, description="of the requests, how many are copied")

    def split(self) -> Split:
        """Give the split it says.

        Raises:
            InputError: The weights do not sum to 100, or the shadow has one.
        """
        return Split(dict(self.weights), self.shadow, self.shadow_percent)

    @classmethod
    def of(cls, split: Split) -> "SplitEntry":
        """Write a split."""
        return cls(weights=dict(split.weights), shadow=split.shadow, shadow_percent=split.shadow_percent)


class SteeringEntry(Declared):
    """A split and those it replaced."""

    split: SplitEntry
    before: tuple[SplitEntry, ...] = ()

    @classmethod
    def of(cls, steering: Steering) -> "SteeringEntry":
        """Write a steering."""
        return cls(
            split=SplitEntry.of(steering.split), before=tuple(SplitEntry.of(one) for one in steering.before)
        )


class SteeringFile(Declared):
    """`traffic.json`."""

    schema_version: Literal[1] = 1
    models: dict[str, SteeringEntry] = Field(default_factory=dict[str, SteeringEntry])


class SteeringTable:
    """Which split holds for which model.

    Args:
        path: The file; None: this process alone.

    Raises:
        StorageError: The file is there and cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._models: dict[str, Steering] = dict(_read(path)) if path is not None and path.exists() else {}

    def get(self, model: str) -> Steering | None:
        """Give what holds for a model; None: its newest version answers."""
        return self._models.get(model)

    def all(self) -> Mapping[str, Steering]:
        """Give what holds, by model."""
        return self._models

    def change(self, model: str, change: Callable[[Steering | None], Steering | None]) -> Steering | None:
        """Replace what holds for a model, first in the file and then here.

        Args:
            model: Which.
            change: From what holds to what shall hold; None: the newest version.

        Raises:
            InputError: As `change` raises it; nothing is changed.
            StorageError: The file cannot be written; nothing is changed.
        """
        changed = change(self._models.get(model))
        models = {name: one for name, one in self._models.items() if name != model}
        if changed is not None:
            models[model] = changed
        if self._path is not None:
            entries = {name: SteeringEntry.of(one) for name, one in models.items()}
            with new_file(self._path) as file:
                file.write(SteeringFile(models=entries).model_dump_json(indent=2).encode() + b"\n")
        self._models = models
        return changed


def _read(path: Path) -> Mapping[str, Steering]:
    try:
        entries = SteeringFile.model_validate_json(path.read_bytes()).models
        return {
            model: Steering(entry.split.split(), tuple(one.split() for one in entry.before))
            for model, entry in entries.items()
        }
    except (OSError, ValidationError, EdgeRuntimeError) as error:
        raise StorageError(
            f"traffic {path}: cannot be read: {error}", do="Remove it: the newest versions answer"
        ) from error
