"""What `store.yaml` says of a camera's health and of a machine that cannot do everything any more.

Watches nothing.
"""

from typing import Annotated

from pydantic import Field

from edge_runtime.settings.base import Settings

Patience = Annotated[float, Field(ge=1, le=86400)] | None


class HealthSettings(Settings):
    """How long a fault of a live camera's picture must last before it is an event; null: it never is."""

    frozen_s: Patience = Field(default=10.0, description="the same picture again and again")
    black_s: Patience = Field(
        default=5.0, description="nothing but black; null where the lights go out at night and nobody cares"
    )
    blinded_s: Patience = Field(
        default=10.0, description="no structure: a lamp, a cover or dirt in front of the lens"
    )
    moved_s: Patience = Field(default=20.0, description="another place than before: the camera was turned")


class DegradeSettings(Settings):
    """When a machine gives up frames, and then extras, before it breaks."""

    hot_c: Annotated[float, Field(ge=30, le=120)] | None = Field(
        default=None,
        description="too hot from here; absent: 5 below where the device profile says that the processor"
        " slows down, or 10 below what its sensors call high",
    )
    memory_free_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.05, description="too full when less than this share of the memory is free"
    )
    late_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=1.0, description="too slow when the answers of a live camera are older than this"
    )
