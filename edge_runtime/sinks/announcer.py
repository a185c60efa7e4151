"""Announcer: keeps the messages of Home Assistant's discovery on a broker as the store is now.

One message is on its way at a time. Remembers on disk what was ever announced, so that what is gone is also
removed after a restart. Reads nothing from the broker: its messages are retained, so a Home Assistant that
starts later finds them without asking.
"""

import logging
from collections.abc import Collection
from pathlib import Path

from edge_runtime.atomic import new_file
from edge_runtime.contract.errors import StorageError
from edge_runtime.sinks.home_assistant import (
    Components,
    Introduction,
    StorePlan,
    devices,
    known_as,
    known_from,
    messages,
)
from edge_runtime.sinks.mqtt_link import Link

log = logging.getLogger(__name__)


class Announcer:
    """Announces one store on one broker. `plan` is set by any thread; the rest belongs to the sink's thread.

    Args:
        us: Who we are to Home Assistant.
        memory: The file that remembers what was announced.
    """

    def __init__(self, us: Introduction, memory: Path) -> None:
        self.plan: StorePlan | None = None
        """What there is; None: not known yet, and nothing is announced."""
        self._us = us
        self._memory = memory
        self._known = _read(memory)
        self._taken: StorePlan | None = None
        self._wanted: dict[str, bytes] = {}
        self._told: dict[str, bytes] = {}
        self._under_way: tuple[int, str, bytes] | None = None

    @property
    def busy(self) -> bool:
        """Whether a message is on its way."""
        return self._under_way is not None

    def begin(self) -> None:
        """Take in that a connection is new: the broker may have forgotten everything."""
        self._told = {}
        self._under_way = None

    def send(self, link: Link) -> None:
        """Hand the next message to the connection, if there is one and none is on its way.

        Raises:
            RemoteError: The connection ended.
        """
        if self.busy:
            return
        self._look()
        for topic, payload in self._wanted.items():
            if self._told.get(topic) != payload:
                mid = link.publish(topic, payload, qos=1, retain=True)
                self._under_way = mid, topic, payload
                return

    def settle(self, mids: Collection[int]) -> None:
        """Take in which messages the broker has acknowledged."""
        if self._under_way is None or self._under_way[0] not in mids:
            return
        _, topic, payload = self._under_way
        self._under_way = None
        self._told[topic] = payload
        if not payload and topic in self._known and self._wanted.get(topic) == b"":
            # Removed, and nothing more to be said of it; not said again on the next connection either.
            del self._wanted[topic]
            self._remember({name: each for name, each in self._known.items() if name != topic})

    def _look(self) -> None:
        plan = self.plan
        if plan is None or plan == self._taken:
            return
        self._wanted, known = messages(devices(plan, self._us), self._known)
        # Before it is announced: what is announced and forgotten would never be removed.
        self._remember(known)
        self._taken = plan

    def _remember(self, known: dict[str, Components]) -> None:
        if known == self._known:
            return
        self._known = known
        try:
            with new_file(self._memory) as file:
                file.write(known_as(known))
        except StorageError as error:
            # It costs an entity too many in Home Assistant, and no event.
            log.warning("what Home Assistant was told cannot be remembered: %s", error)


def _read(memory: Path) -> dict[str, Components]:
    try:
        return known_from(memory.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning(
            "%s: cannot be read (%s); entities that are gone may stay in Home Assistant", memory, error
        )
        return {}
