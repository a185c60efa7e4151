"""What `store.yaml` says of Home Assistant. Opens nothing."""

from typing import Annotated

from pydantic import Field

from edge_runtime.settings.base import Settings


class HomeAssistantSettings(Settings):
    """The store and its cameras as devices of a Home Assistant that listens on the same broker."""

    prefix: Annotated[str, Field(pattern=r"^[^+#/\s]+(/[^+#/\s]+)*$")] = Field(
        default="homeassistant", description="where it listens for devices: its own discovery prefix"
    )
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="of the store, as people see it there; absent: the site"
    )
