"""What `store.yaml` may say about the fleet a device is in, and about whose bundles it runs.

Holds and validates values. Connects to nothing and checks no signature.
"""

from typing import Annotated, Literal

from pydantic import Field

from edge_runtime.settings.base import OwnPath, Settings

DEVICES_OWN = ("site", "state_dir", "profile", "fleet", "bundles")
"""Blocks that settings from a fleet must not have: who a device is, what it is, and whom it believes."""


class FleetSettings(Settings):
    """The fleet that this device is one of; it was enrolled before: `edge-runtime enrol`."""

    folder: OwnPath = Field(
        description="where `edge-runtime enrol` put keys and certificates; updates are kept there, too"
    )
    report_every_s: Annotated[float, Field(ge=10, le=86400)] = Field(
        default=300.0, description="the manager hears this often how the device is, besides what happens"
    )
    bytes_per_s: Annotated[int, Field(ge=1024)] | None = Field(
        default=None, description="downloads take this much of the link at most; absent: all of it"
    )
    snapshots: Literal["allowed", "forbidden"] = Field(
        default="forbidden", description="whether a manager may ask for a picture of a camera"
    )


class BundleSettings(Settings):
    """Whose bundles this device runs, its own and those of a fleet."""

    trusted: Annotated[tuple[OwnPath, ...], Field(max_length=100)] = Field(
        default=(),
        description="public keys (PEM, as `edge-runtime bundle keygen` writes them): a bundle must be signed"
        " by one of them, but for those that are shipped with the program; empty: signatures are not asked"
        " for",
    )
