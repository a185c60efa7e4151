"""What a manager sees to by itself: metadata that is about to expire or superseded, and revoked certificates.

Every replica does it; where there is nothing to do, nothing is written. Decides no rollout.
"""

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from cloud_fallback.fleet.api.manager import Manager
from cloud_fallback.fleet.database import metadata
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.trust import REVERTS

log = logging.getLogger(__name__)

LOOK_S = 30.0
"""A device that another replica has revoked stands in this one's list within so long."""
_DAY_S = 86_400.0
_WARN_S = 30 * _DAY_S
_OWN = frozenset({"snapshot", "timestamp", REVERTS})
"""What the manager signs itself."""


class Upkeep:
    """Belongs to one thread.

    Args:
        manager: Whose metadata and list.
        refresh_s: How often it is seen to what expires.
    """

    def __init__(self, manager: Manager, refresh_s: float) -> None:
        self._manager = manager
        self._refresh_s = refresh_s
        self._refreshed = False
        self._next_s = 0.0

    def step(self, steady_s: float) -> None:
        """Do what is due.

        Args:
            steady_s: On a clock that never goes back.
        """
        if not self._refreshed or steady_s >= self._next_s:
            self._refreshed, self._next_s = True, steady_s + self._refresh_s
            try:
                self._refresh(self._manager.now_s())
                self._prune(self._manager.now_s())
            except (EdgeRuntimeError, SQLAlchemyError) as error:
                log.error("metadata was not signed again; next try in %g s: %s", self._refresh_s, error)
        try:
            if self._manager.publish_revoked(only_new=True):
                log.info("the list of revoked certificates has changed: have the broker read it again")
        except (EdgeRuntimeError, SQLAlchemyError) as error:
            log.error("the list of revoked certificates was not written; next try in %g s: %s", LOOK_S, error)

    def _prune(self, now_s: float) -> None:
        with self._manager.database.begin() as tx:
            count = metadata.prune(tx, now_s)
        if count:
            log.info("%d superseded metadata files were removed", count)

    def _refresh(self, now_s: float) -> None:
        repository = self._manager.repository
        repository.refresh(now_s)
        for role, ends_s in sorted(repository.ends().items()):
            if ends_s - now_s < _WARN_S and role not in _OWN:
                days = (ends_s - now_s) / _DAY_S
                log.warning("metadata of %s ends in %.0f days: have who holds its keys sign it", role, days)


@contextmanager
def keeping(upkeep: Upkeep) -> Generator[None]:
    """Do it for as long as the block lasts."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            upkeep.step(time.monotonic())
            ended.wait(LOOK_S)

    thread = threading.Thread(target=work, name="fleet-upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
