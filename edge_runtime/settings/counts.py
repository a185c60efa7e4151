"""What `store.yaml` says of counting: the store's clock, its entrances, and how long counts are kept.

Opens nothing.
"""

from collections.abc import Mapping
from datetime import time
from typing import Annotated

from pydantic import AfterValidator, Field

from edge_runtime.contract.bundle import Name
from edge_runtime.counts.timezone import is_zone
from edge_runtime.settings.base import Settings, refuse
from edge_runtime.settings.camera import CameraSettings

INWARDS, OUTWARDS = "in", "out"
"""Words that make a line an entrance where the settings name none."""


def _zone(name: str) -> str:
    if not is_zone(name):
        raise refuse(
            f"no time zone is called '{name}'",
            "an IANA name such as Europe/Berlin",
            "Where the system knows no time zones: pip install tzdata.",
        )
    return name


class EntranceSettings(Settings):
    """A line that people cross to come in or to go out."""

    camera: Name = Field(description="whose line it is")
    line: Name = Field(description="one of the camera's `lines`")
    inwards: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default=INWARDS,
        alias="in",
        description="the line's word for coming in; its other word is for going out",
    )


class CountsSettings(Settings):
    """What a shop wants to know: entrances by the hour, people inside, stays, waiting lines, heatmaps."""

    keep_days: int = Field(default=400, ge=1, le=4000, description="days that are kept, today included")
    timezone: Annotated[str, AfterValidator(_zone)] | None = Field(
        default=None, description="of the store, as Europe/Berlin; absent: the system's"
    )
    day_starts_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = Field(
        default="04:00",
        description="when a day begins on the store's clock, with nobody inside; in quotes",
    )
    entrances: dict[Name, EntranceSettings] = Field(
        default_factory=dict,
        description="by name; empty: every line whose words are in and out, as camera-line",
    )

    @property
    def starts_at(self) -> time:
        """When a day begins."""
        return time.fromisoformat(self.day_starts_at)


def entrances(counts: CountsSettings, cameras: Mapping[str, CameraSettings]) -> dict[str, EntranceSettings]:
    """Give a store's entrances: those that are named, or all lines that people go in and out over."""
    if counts.entrances:
        return dict(counts.entrances)
    return {
        f"{name}-{line}": EntranceSettings(camera=name, line=line)
        for name, camera in cameras.items()
        for line, way in camera.lines.items()
        if {way.a_to_b, way.b_to_a} == {INWARDS, OUTWARDS}
    }
