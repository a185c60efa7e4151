"""Probe: a thread that asks whether the cloud is there while no request tells.

When to ask is `edge_runtime.routing.reachability`'s decision; what counts as an answer is the client's.
"""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from edge_runtime.routing.gauge import CloudGauge

log = logging.getLogger(__name__)

_LONGEST_SLEEP_S = 1.0
"""Requests put the next probe off or pull it nearer while this sleeps."""


class Probes(Protocol):
    """What a probe needs of the cloud's client."""

    def probe(self, timeout_s: float) -> bool:
        """Find out whether the cloud itself can be reached; never raises for a cloud that is away."""
        ...


class Probe:
    """Probes from the moment it is made until it is closed.

    Args:
        client: To the cloud.
        gauge: Says when, and takes the results.
        on_change: Called when the cloud came or went, with whether it is there.
        timeout_s: For an answer.
    """

    def __init__(
        self,
        client: Probes,
        gauge: CloudGauge,
        on_change: Callable[[bool], None],
        *,
        timeout_s: float = 3.0,
    ) -> None:
        self._client = client
        self._gauge = gauge
        self._on_change = on_change
        self._timeout_s = timeout_s
        self._online = gauge.online
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud probe", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after the probe under way."""
        self._closing.set()
        self._thread.join(2 * self._timeout_s + 1.0)

    def _run(self) -> None:
        while not self._closing.wait(min(_LONGEST_SLEEP_S, max(0.01, self._gauge.probe_due_s()))):
            try:
                self._look()
            except Exception:
                log.exception("the cloud's probe failed")

    def _look(self) -> None:
        if self._gauge.probe_due_s() <= 0:
            self._gauge.probing()
            self._gauge.probed(reached=self._client.probe(self._timeout_s))
        online = self._gauge.online
        if online is not self._online:
            self._online = online
            log.info("the cloud %s", "can be reached again" if online else "cannot be reached")
            self._on_change(online)
