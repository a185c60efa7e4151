"""Deployment: a bundle for a cohort of devices, in waves, and when to stop. Who decides is in the cloud."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edge_runtime.contract.bundle import Name, Sha256
from edge_runtime.contract.fleet import Window
from edge_runtime.contract.task import Declared

Share = Annotated[float, Field(gt=0, le=1)]


class Slot(StrEnum):
    """One of the two places on disk a version can be in; the other one holds its predecessor."""

    A = "A"
    B = "B"


class Wave(Declared):
    """A share of the cohort that gets the bundle at the same time."""

    share: Annotated[float, Field(gt=0, le=1, description="of the whole cohort, previous waves counted in")]
    needs_approval: bool = False


class Thresholds(Declared):
    """When a wave was good enough for the next one, and when a rollout halts itself."""

    success: Share = Field(default=0.95, description="of a wave's devices that ended, in whole devices")
    failure: float = Field(
        default=0.05, ge=0, lt=1, description="it halts when the failure rate is surely over this"
    )
    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="how sure")
    min_attempted: int = Field(default=5, ge=1, description="devices; on fewer, only a total failure halts")


class Pace(Declared):
    """How fast a rollout goes."""

    soak_s: float = Field(default=3600.0, ge=0, description="from the end of a wave to the next one")
    timeout_s: float = Field(default=7200.0, gt=0, description="a device silent for this long has failed")
    jitter_s: float = Field(default=0.0, ge=0, description="offers of a wave are spread over this")
    max_concurrent: int = Field(default=100, ge=1, description="devices under way at the same time")
    bytes_per_hour: int | None = Field(default=None, gt=0, description="of all devices together")


class Deployment(Declared):
    """One bundle, meant for the devices a selector names, in growing waves."""

    id: Name
    kind: Literal["model", "settings", "labels"] = "model"
    bundle: Name = Field(description="name of the model; `agent` for settings")
    version: str
    counter: int = Field(default=0, ge=0, description="the newer of two rollouts has the higher one")
    sha256: Sha256
    selector: str = Field(description="which devices, e.g. 'profile=store-pc-cpu and region=west'")
    waves: tuple[Wave, ...] = (Wave(share=0.05), Wave(share=0.25), Wave(share=1.0))
    window: Window | None = Field(default=None, description="store-local; absent: at any time")
    thresholds: Thresholds = Thresholds()
    pace: Pace = Pace()
    on_halt: Literal["keep", "revert"] = Field(
        default="revert", description="revert: devices that took it go back to what they had"
    )

    @model_validator(mode="after")
    def _growing(self) -> Self:
        shares = [wave.share for wave in self.waves]
        if not shares or shares != sorted(set(shares)) or shares[-1] != 1.0:
            raise ValueError(f"wave shares must grow and end at 1.0, got {shares}")
        return self
