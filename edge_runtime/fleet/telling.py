"""What a manager is told beside reports: updates that ended, messages that were refused, disks that fail.

Keeps events for whoever sends them. Sends nothing itself. May be called from several threads.
"""

import logging
import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import Literal

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import DeviceEvent, Have
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.fleet.event_box import EventBox
from edge_runtime.fleet.refusals import Refusals
from edge_runtime.fleet.reporting import digest, event_of
from edge_runtime.fleet.times import rfc3339
from edge_runtime.update.ports import Clock

log = logging.getLogger(__name__)


class Telling:
    """Makes events.

    Args:
        box: Keeps them.
        clock: The device's.
    """

    def __init__(self, box: EventBox, clock: Clock) -> None:
        self._box = box
        self._clock = clock
        self._refusals = Refusals()
        self._lock = threading.Lock()

    @property
    def refused_counts(self) -> Mapping[Failure, int]:
        """How many messages were refused, and steps failed for the disk, by code."""
        return self._refusals.counts

    def refused(self, error: UpdateFailedError, topic: str, payload: bytes) -> None:
        """A message was refused. The same message, sent again, makes the same event."""
        untold = self._note(error.code)
        if untold is not None:
            log.warning("refused a message on %s: %s", topic, error)
            same = digest(b"/".join((error.code.encode(), topic.encode(), payload)))
            self._put(f"refused-{same}", "warning", error.code, f"{topic}: {error}{_more(untold)}")

    def storage(self, error: StorageError) -> None:
        """The disk did not take what an update has to remember."""
        untold = self._note(Failure.STORAGE)
        if untold is not None:
            log.error("updates pause: %s", error)
            self._put(f"storage-{uuid.uuid4().hex}", "error", Failure.STORAGE, f"{error}{_more(untold)}")

    def damaged(self, what: str) -> None:
        """A file was damaged, and what could be read of it was gone on with."""
        self._put(f"damaged-{uuid.uuid4().hex}", "warning", "damaged", what)

    def ended(self, updates: Iterable[Have]) -> None:
        """Updates ended."""
        for each in updates:
            self._box.put(event_of(each, rfc3339(self._clock.now_s())))

    def _note(self, code: Failure) -> int | None:
        with self._lock:
            return self._refusals.note(code, self._clock.steady_s())

    def _put(self, event_id: str, level: Literal["warning", "error"], code: str, text: str) -> None:
        self._box.put(
            DeviceEvent(
                id=event_id, time=rfc3339(self._clock.now_s()), level=level, code=code, text=text[:1000]
            )
        )


def _more(untold: int) -> str:
    return f" (and {untold} like it, not told)" if untold else ""
