"""StorePage: the local page over a running agent, on its own port; and the sinks that feed it.

Draws no page (`edge_runtime.web.page` does).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_runtime.agent.pressure import Machine
from edge_runtime.agent.redrawing import Redrawing
from edge_runtime.agent.running import Running
from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.address import is_loopback
from edge_runtime.contract.errors import BundleError, EngineError, StorageError
from edge_runtime.contract.event import Event
from edge_runtime.contract.given import GivenAnswer
from edge_runtime.contract.status import AgentStatus
from edge_runtime.local_model import LocalModel
from edge_runtime.protocol.drawing import Drawing
from edge_runtime.routing.audit_log import departures
from edge_runtime.settings import AgentSettings
from edge_runtime.settings.page import PageSettings
from edge_runtime.sinks.audit import Act
from edge_runtime.sinks.drawing import Overlay
from edge_runtime.sinks.timeline import Timeline
from edge_runtime.web.access import LOOPBACK_HOSTS, Access
from edge_runtime.web.page.app import PageApp
from edge_runtime.web.page.audit_page import AuditPage
from edge_runtime.web.page.editor import Editor
from edge_runtime.web.page.events import Events
from edge_runtime.web.page.extension import PageExtension
from edge_runtime.web.page.live_view import LiveView
from edge_runtime.web.page.overview import Overview
from edge_runtime.web.page.ports import Drawn, OpenModel
from edge_runtime.web.page.session import Sessions
from edge_runtime.web.server import Server

log = logging.getLogger(__name__)

_ACTS = {"login": Act.LOGIN, "login_failed": Act.LOGIN_FAILED}
_DRAIN_S = 2
"""Who waits for the next picture is not waited for."""


class PageSinks:
    """What the pipeline feeds the page with.

    Args:
        settings: With a page.
        overlays: What is drawn over each camera's pictures; may change.

    Attributes:
        blur: What is hidden in its pictures; None: as the store says.
        view: Takes pictures.
        timeline: Takes events, and pictures of them.
    """

    def __init__(self, settings: AgentSettings, overlays: Mapping[str, Overlay]) -> None:
        page = settings.page or PageSettings()
        self.blur: Blur | None = page.blur
        self.view = LiveView(overlays, height=page.height, fastest_s=1 / page.fps)
        self.timeline = Timeline(
            settings.state_dir / "timeline.sqlite",
            overlays,
            keep_bytes=page.keep_mb * 2**20,
            keep_s=page.keep_days * 86400,
        )


class RunningStore:
    """The agent as the page sees it.

    Args:
        agent: What runs.
        store: The file that it was started from; None: there is none.
        opened: The models that are open for cameras, by name.
        problems: Why others are not.
        recordings: Finds clips and snapshots of an event by id, camera and time.
        given: Gives the last answers to requests.
    """

    def __init__(
        self,
        agent: Running,
        store: Path | None,
        *,
        opened: Mapping[str, LocalModel],
        problems: Mapping[str, BundleError | EngineError],
        recordings: Callable[[str, str, str], Sequence[Path]],
        given: Callable[[], Sequence[GivenAnswer]],
    ) -> None:
        self._agent = agent
        self._opened = opened
        self._problems = problems
        self._recordings = recordings
        self._given = given
        self._machine = Machine()
        self._redrawing = Redrawing(agent, store)

    def cameras(self) -> Sequence[str]:
        """List the cameras."""
        return tuple(self._agent.settings.cameras)

    def status(self) -> AgentStatus:
        """Tell how everything is doing."""
        return self._agent.status()

    def temperature_c(self) -> float | None:
        """Tell how hot the machine is; as the port says."""
        return self._machine.temperature()[0]

    def models(self) -> Sequence[OpenModel]:
        """List the models."""
        here = [
            OpenModel(
                name,
                f"{model.bundle.manifest.name} {model.bundle.manifest.version}",
                model.choice.variant,
                f"{model.choice.engine} ({model.session.provider})",
            )
            for name, model in self._opened.items()
        ]
        failed = [OpenModel(name, problem=str(error)) for name, error in self._problems.items()]
        requests = self._agent.status().requests
        others: Mapping[str, str] = {} if requests is None else requests.models
        asked = [OpenModel(name, variant=how) for name, how in others.items() if name not in self._opened]
        return (*here, *failed, *asked)

    def answers(self) -> Sequence[GivenAnswer]:
        """List the last answers to requests, the newest first."""
        return self._given()

    def recordings(self, event: Event) -> Sequence[Path]:
        """Find clips and snapshots of an event."""
        return self._recordings(event.id, event.camera, event.time)

    def drawn(self, camera: str) -> Drawn:
        """Give what is drawn over a camera's picture; as the port says."""
        return self._redrawing.drawn(camera)

    def draw(self, camera: str, version: str, drawing: Drawing) -> Drawn:
        """Put a drawing into the settings file, and go on with it; as the port says."""
        return self._redrawing.draw(camera, version, drawing)

    def looked(self, camera: str, who: str) -> None:
        """Note that somebody began to look at a camera's live picture."""
        note(self._agent, Act.LOOKED, who, {"camera": camera})


class StorePage:
    """Open from the moment it is made until it is closed.

    Args:
        agent: What is shown.
        page: Address and password.
        store: As the page's routes see it.
        sinks: That feed it.
        more: Pages of other parts.

    Attributes:
        timeline: What it remembers.

    Raises:
        ConfigError: The extra `web` is not installed.
        RemoteError: The address cannot be listened on.
    """

    def __init__(
        self,
        agent: Running,
        page: PageSettings,
        store: RunningStore,
        sinks: PageSinks,
        more: Sequence[PageExtension] = (),
    ) -> None:
        password = "" if page.password is None else page.password.get_secret_value()
        hosts = LOOPBACK_HOSTS | {page.host.lower()} if is_loopback(page.host) else None
        app = PageApp(
            agent.settings.site,
            (
                Overview(store, sinks.view),
                Events(store, sinks.timeline),
                Editor(store),
                *more,
                AuditPage(
                    agent.audit.trail, lambda: departures(agent.settings.state_dir), agent.audit.policy
                ),
            ),
            Sessions(password),
            Access(hosts=hosts),
            secure=page.secure,
            noted=lambda act, who: note(agent, _ACTS[act], who),
        )
        self.timeline = sinks.timeline
        self._server = Server(app, host=page.host, port=page.port, drain_s=_DRAIN_S, what="page")
        self._server.start()
        log.info("page: %s", self.url)

    @property
    def url(self) -> str:
        """Its address, for a browser on this machine."""
        return self._server.url

    def close(self) -> None:
        """Take no more requests. Idempotent."""
        self._server.stop()


def note(agent: Running, act: Act, who: str, facts: Mapping[str, object] | None = None) -> None:
    """Write into the audit; a page goes on where the disk does not take it, and the log says so."""
    try:
        agent.audit.trail.note(act, who, facts)
    except StorageError as error:
        log.error("%s", error)
