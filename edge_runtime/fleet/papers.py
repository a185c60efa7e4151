"""A device's papers: keeps its certificate fresh, and finds out whether it was taken out of the fleet.

A broker that turns a certificate away does not say why, and often says nothing at all. So where the link
cannot be made, the manager is asked. Opens no connection; what it is made with does.
"""

import logging
import math
import threading
from collections.abc import Callable

from edge_runtime.contract.errors import EdgeRuntimeError, UnauthorizedError
from edge_runtime.update.ports import Clock

log = logging.getLogger(__name__)

_RENEW_S = 6 * 3600.0
"""Between looks at the certificate's age."""
_DOUBTS = 2
"""Times in a row that the link was lost or could not be made, before the manager is asked."""
_DOUBT_S = 2.0
_SPREAD_S = 28.0
"""More, so that not all devices ask at once when a broker is away."""
_AGAIN_S = 600.0


class RevokedError(UnauthorizedError):
    """The manager says that this device was taken out of the fleet."""


class Papers:
    """What a device knows of its own standing. `run` has a thread; the rest may be called from any.

    Args:
        renew: Renews the certificate if that is due, and says whether it did.
        confirm: Asks the manager whether this device is still one of its fleet.
        clock: The device's.
        dice: Gives numbers in [0, 1).
    """

    def __init__(
        self,
        renew: Callable[[], bool],
        confirm: Callable[[], None],
        *,
        clock: Clock,
        dice: Callable[[], float],
    ) -> None:
        self._renew = renew
        self._confirm = confirm
        self._clock = clock
        self._dice = dice
        self._woken = threading.Event()
        self._failures = 0
        self._renew_s = -math.inf
        self._ask_s = math.inf
        self._asked_s = -math.inf
        self.trouble: str | None = None
        """Why the manager refuses this device or its renewal; None: it does not."""
        self.revoked = False

    def connected(self) -> None:
        """The link was made."""
        self._failures = 0
        self._ask_s = math.inf

    def lost(self) -> None:
        """The link was lost, or could not be made."""
        self._failures += 1
        if self._failures >= _DOUBTS and self._ask_s == math.inf:
            soon_s = self._clock.steady_s() + _DOUBT_S + _SPREAD_S * self._dice()
            self._ask_s = max(soon_s, self._asked_s + _AGAIN_S)
            self._woken.set()

    def wake(self) -> None:
        """Have `run` look whether it is to end."""
        self._woken.set()

    def run(self, closing: threading.Event) -> None:
        """Do what is due until the end.

        Args:
            closing: Set at the end, before `wake`.
        """
        while not closing.is_set():
            self._woken.clear()
            self._woken.wait(self.step())

    def step(self) -> float:
        """Do what is due.

        Returns:
            How many seconds there is nothing to do, if the link says nothing.
        """
        now_s = self._clock.steady_s()
        if now_s >= self._renew_s:
            self._renew_s = now_s + _RENEW_S * (0.9 + 0.2 * self._dice())
            self._try(self._renewed)
        if now_s >= self._ask_s:
            self._ask_s, self._asked_s = math.inf, now_s
            self._try(self._confirm)
        return max(0.0, min(self._renew_s, self._ask_s) - self._clock.steady_s())

    def _renewed(self) -> None:
        if self._renew():
            log.info("fleet: the certificate was renewed")

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except RevokedError as error:
            self.trouble = f"revoked: {error}"
            if not self.revoked:
                log.error("fleet: this device was revoked: %s", error)
            self.revoked = True
        except EdgeRuntimeError as error:
            self.trouble = str(error)
            log.warning("fleet: no word of the manager on this device's certificate: %s", error)
        else:
            self.trouble, self.revoked = None, False
