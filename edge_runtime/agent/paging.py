"""Opens the local page and what feeds it, where the settings want one; imports nothing of it otherwise."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.agent.camera_models import CameraModels
from edge_runtime.agent.running import Running

if TYPE_CHECKING:
    from edge_runtime.agent.outlets import Outlets
    from edge_runtime.agent.page import StorePage
    from edge_runtime.agent.requests import Requests
    from edge_runtime.web.page.extension import PageExtension


def open_page(
    agent: Running,
    store: Path | None,
    outlets: "Outlets",
    models: CameraModels,
    requests: "Requests | None",
) -> "StorePage | None":
    """Open the page; None: there is none.

    Args:
        agent: What is shown.
        store: The file that it was started from; None: there is none.
        outlets: Its sinks.
        models: Its cameras' models.
        requests: Its door; None: there is none.

    Raises:
        EdgeRuntimeError: As `StorePage`.
    """
    page = agent.settings.page
    if page is None or outlets.page is None:
        return None
    from edge_runtime.agent.page import RunningStore, StorePage  # noqa: PLC0415

    shown = RunningStore(
        agent,
        store,
        opened=models.opened,
        problems=models.problems,
        recordings=outlets.recordings.find,
        given=lambda: () if requests is None else requests.given,
    )
    return StorePage(agent, page, shown, outlets.page, _more(agent))


def _more(agent: Running) -> Sequence["PageExtension"]:
    """Give the pages of other parts."""
    if agent.settings.counts is None:
        return ()
    from edge_runtime.agent.counting import reader_of  # noqa: PLC0415
    from edge_runtime.web.counts.pages import CountsPages  # noqa: PLC0415

    return (CountsPages(reader_of(lambda: agent.settings)),)
