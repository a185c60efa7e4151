"""Failed logins, counted by the address they come from: too many, and it has to wait.

Only failures count, so that a fleet behind one address is not locked out by one device that was revoked: who
has a good token gets in. Pure: the time is handed in. One process's memory; several replicas count apart.
"""

import ipaddress
from collections import OrderedDict, deque

from edge_runtime.contract.errors import QuotaError

_ADDRESSES = 10_000
"""More are not remembered, the oldest first to go."""


class Attempts:
    """Counts failures. Not thread-safe.

    Args:
        most: Failures in `within_s` before the next one has to wait.
        within_s: How long one counts.
    """

    def __init__(self, most: int = 30, within_s: float = 60.0) -> None:
        self._most = most
        self._within_s = within_s
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str, now_s: float) -> None:
        """Count a failure.

        Args:
            address: Where it came from.
            now_s: On a clock that never goes back.

        Raises:
            QuotaError: There were too many before.
        """
        source = _network(address)
        times = self._failed.setdefault(source, deque(maxlen=self._most))
        self._failed.move_to_end(source)
        if len(self._failed) > _ADDRESSES:
            self._failed.popitem(last=False)
        if len(times) == self._most and now_s - times[0] < self._within_s:
            raise QuotaError(
                "too many failed logins from this address",
                retry_after_s=self._within_s - (now_s - times[0]),
                got=f"{self._most} in {self._within_s:g} s",
            )
        times.append(now_s)


def _network(address: str) -> str:
    """Take a home's IPv6 network for one address: it has 2⁶⁴ of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
