"""Deployment: a bundle for a cohort of devices, in waves. The rollout engine stands in the cloud."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from edge_runtime.contract.bundle import Name, Sha256
from edge_runtime.contract.task import Declared


class Slot(StrEnum):
    """One of the two places on disk a version can be in; the other one holds its predecessor."""

    A = "A"
    B = "B"


class Wave(Declared):
    """A share of the cohort that gets the bundle at the same time."""

    share: Annotated[float, Field(gt=0, le=1, description="of the whole cohort, previous waves counted in")]
    needs_approval: bool = False


class Deployment(Declared):
    """One bundle, meant for the devices a selector names, in growing waves."""

    id: Name
    bundle: Name
    version: str
    sha256: Sha256
    selector: str = Field(description="which devices, e.g. 'profile=store-pc-cpu and region=west'")
    waves: tuple[Wave, ...] = (Wave(share=1.0),)

    @model_validator(mode="after")
    def _growing(self) -> Self:
        shares = [wave.share for wave in self.waves]
        if not shares or shares != sorted(set(shares)) or shares[-1] != 1.0:
            raise ValueError(f"wave shares must grow and end at 1.0, got {shares}")
        return self
