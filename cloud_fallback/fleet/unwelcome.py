"""Devices that are not to be at the broker: which sessions are ended, and when again. Belongs to one thread.

A broker that has not read its list of revoked certificates again lets a device come back as often as it
wants. What it says then is ignored, and its session is ended anew.
"""

import math

from cloud_fallback.fleet.bus import Bus
from edge_runtime.fleet.topics import Channel, Topics

_AGAIN_S = 10.0
"""A device's session is not ended more often by what it says."""


class Unwelcome:
    """Ends sessions.

    Args:
        bus: Of the manager.
        tenant: Whose fleet it is.
    """

    def __init__(self, bus: Bus, tenant: str) -> None:
        self._bus = bus
        self._tenant = tenant
        self._waiting: set[str] = set()
        self._ended_s: dict[str, float] = {}

    def spoke(self, devices: set[str]) -> None:
        """Take note of revoked devices that said something."""
        self._waiting |= devices

    def step(self, now_s: float) -> None:
        """End the sessions that are due.

        Args:
            now_s: Seconds since 1970, UTC.
        """
        for name in sorted(self._waiting):
            if self._ended_s.get(name, -math.inf) <= now_s - _AGAIN_S:
                self._waiting.discard(name)
                self._ended_s[name] = now_s
                self.expel(name, forget=True)

    def expel(self, device: str, *, forget: bool) -> None:
        """End a device's session soon; from any thread.

        Args:
            device: Its name.
            forget: Whether what the broker keeps for it is thrown away, too: it is out of the fleet.
        """
        mine = Topics(self._tenant, device)
        topics = (mine.of(Channel.DESIRED), mine.of(Channel.PRESENCE)) if forget else ()
        # The broker takes the name in a certificate for the client id; without TLS it is what a device says.
        self._bus.expel((device, f"{self._tenant}/{device}"), topics)
