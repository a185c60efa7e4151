"""Requests: the runtime and its door beside the cameras, and how they are doing.

Opens and closes; decides no route.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.given import GivenAnswer
from edge_runtime.contract.status import RequestStatus
from edge_runtime.local_model import LocalModel
from edge_runtime.routing.breaker import BreakerState
from edge_runtime.routing.local import Opened
from edge_runtime.runtime.cloud import CloudStatus
from edge_runtime.runtime.door import door_of
from edge_runtime.runtime.late import LateAnswer
from edge_runtime.runtime.runtime import Runtime
from edge_runtime.settings import AgentSettings

log = logging.getLogger(__name__)


class Requests:
    """Open from the moment it is made until it is closed.

    Args:
        settings: With a door.
        cameras: Models that are open for cameras; requests use them, too.
        on_late: As for `Runtime`.

    Raises:
        EdgeRuntimeError: The outbox cannot be opened, or the door's address is taken.
    """

    def __init__(
        self,
        settings: AgentSettings,
        cameras: Mapping[str, LocalModel],
        on_late: Callable[[LateAnswer], None] | None = None,
    ) -> None:
        with ExitStack() as opened:
            self._runtime = Runtime(settings, shared=cameras, on_late=on_late)
            opened.callback(self._runtime.close)
            self._door = door_of(self._runtime)
            opened.callback(self._door.close)
            self._opened = opened.pop_all()
        log.info("door: %s", self._door.url)

    def has(self, model: str) -> bool:
        """Say whether requests to a model are answered here."""
        return self._runtime.local(model) is not None

    def opened(self, model: str) -> Opened | None:
        """Give what answers requests to a model here; None: nothing does."""
        local = self._runtime.local(model)
        return None if local is None else local.opened

    def adopt(self, model: str, camera: LocalModel | None, left: Callable[[], None]) -> None:
        """Answer with another version from now on; as `Runtime.adopt`."""
        self._runtime.adopt(model, camera, left)

    def reroute(self, settings: AgentSettings) -> None:
        """Decide by other routes from now on; as `Runtime.reroute`."""
        self._runtime.reroute(settings)

    @property
    def given(self) -> Sequence[GivenAnswer]:
        """The last answers, the newest first."""
        return self._door.given

    def listen(self, models: Collection[str], give: Callable[[Any], None] | None) -> None:
        """Show what models are asked to somebody; to nobody for all others."""
        for name in self._runtime.settings.models:
            local = self._runtime.local(name)
            if local is not None:
                local.tap = give if name in models else None

    def status(self) -> RequestStatus:
        """Say how the door and the cloud behind it are doing."""
        try:
            found = self._runtime.status()
        except StorageError as error:
            return RequestStatus(self._door.url, trouble=str(error))
        answered: Counter[str] = Counter()
        for (_, route, _), count in found.routes.items():
            answered[route.value] += count
        outbox = None if found.cloud is None else found.cloud.outbox
        return RequestStatus(
            door=self._door.url,
            answered=dict(answered),
            models=found.models,
            cloud=_weather(found.cloud),
            owed=0 if outbox is None else outbox.waiting,
            dropped=0 if outbox is None else outbox.dropped + outbox.expired,
            trouble="" if found.cloud is None or outbox is None else found.cloud.trouble or outbox.damage,
        )

    def close(self) -> None:
        """Close the door, then what is behind it; what is owed stays on disk."""
        self._opened.close()


def _weather(cloud: CloudStatus | None) -> str:
    if cloud is None:
        return ""
    if not cloud.gauge.online:
        return "offline"
    return "online" if cloud.gauge.breaker is BreakerState.CLOSED else "breaker open"
