"""Makes what feeds the local page, where the settings want one; imports nothing of it otherwise."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_runtime.settings import AgentSettings
from edge_runtime.sinks.drawing import Overlay

if TYPE_CHECKING:
    from edge_runtime.agent.page import PageSinks


def page_sinks(settings: AgentSettings, overlays: Mapping[str, Overlay]) -> "PageSinks | None":
    """Make what feeds the page; None: there is none.

    Args:
        settings: The store's.
        overlays: What is drawn over each camera's pictures; may change.
    """
    if settings.page is None:
        return None
    # A store without a page does not pay for a server.
    from edge_runtime.agent.page import PageSinks  # noqa: PLC0415

    return PageSinks(settings, overlays)
