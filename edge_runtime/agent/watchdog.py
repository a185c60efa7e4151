"""Tells the service manager how the agent is: ready, alive, reading its settings again, stopping.

Speaks systemd's notification protocol (sd_notify(3)): one datagram of lines to the socket that
`$NOTIFY_SOCKET` names; where that is not set, nothing is sent. Alive means progress: the run loop turns, the
runtime's lock is free, and no inference has been out for too long. Restarts nothing itself.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from edge_runtime.contract.status import AgentStatus, CameraState

log = logging.getLogger(__name__)

STUCK_S = 30.0
"""An inference that is out for longer will not come back: even a first one on a slow board takes seconds."""

TELL_EVERY_S = 5.0
"""The line that `systemctl status` shows changes at most this often."""


class Notifier:
    """The way to the service manager.

    Args:
        address: Of its datagram socket; a first `@` stands for Linux's abstract names. Empty: there is none.
        watchdog_s: How long it may hear nothing before it restarts this process; None: for ever.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Notifier":
        """Find the way that the service manager has set for this process."""
        patience = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(patience) / 1e6 if ours and patience.isdigit() and int(patience) > 0 else None
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_s)

    def ready(self) -> None:
        """Say that everything is started, or read again."""
        self.send("READY=1")

    def reloading(self) -> None:
        """Say that the settings are being read again; `ready` must follow."""
        self.send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that what was read is being drained."""
        self.send("STOPPING=1")

    def send(self, lines: str) -> None:
        """Send lines. Where nobody listens that is said once in the log, and nothing else happens."""
        # Other systems have no such sockets, and no such manager.
        family: int | None = getattr(socket, "AF_UNIX", None)
        if not self._address or family is None:
            return
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as channel:
                channel.sendto(lines.encode(), self._address)
        except OSError as error:
            log.warning("the service manager cannot be told how this process is: %s", error)
            self._address = ""


class Watchdog:
    """Pings the service manager while there is progress. Call it with every turn of the run loop.

    Args:
        notifier: The way there.
        stuck_s: For how long the agent's slowest inference has been out.
    """

    def __init__(self, notifier: Notifier, stuck_s: Callable[[], float]) -> None:
        self._notifier = notifier
        self._stuck_s = stuck_s
        self._ready = False
        self._ping_at_s = 0.0
        self._tell_at_s = 0.0
        self._told = ""
        self._warned = False

    def turn(self, status: AgentStatus, now_s: float) -> None:
        """Say what is due.

        Args:
            status: Of the agent.
            now_s: Monotonic clock.
        """
        if not self._ready:
            self._ready = True
            self._notifier.ready()
        line = summary(status)
        if line != self._told and now_s >= self._tell_at_s:
            self._told, self._tell_at_s = line, now_s + TELL_EVERY_S
            self._notifier.send(f"STATUS={line}")
        patience_s = self._notifier.watchdog_s
        if patience_s is not None and now_s >= self._ping_at_s and self._moves():
            self._ping_at_s = now_s + patience_s / 2
            self._notifier.send("WATCHDOG=1")

    def _moves(self) -> bool:
        stuck_s = self._stuck_s()
        moves = stuck_s <= STUCK_S
        if not moves and not self._warned:
            log.critical("no progress for %.0f s: the service manager is not told that this lives", stuck_s)
        self._warned = not moves
        return moves


def summary(status: AgentStatus) -> str:
    """Write an agent's status in one line: `3 of 4 cameras online; level 1: 82 °C …`."""
    well = sum(camera.state is CameraState.ONLINE for camera in status.cameras)
    parts = [f"{well} of {len(status.cameras)} cameras online"]
    parts += [f"{camera.name} is {' and '.join(camera.health)}" for camera in status.cameras if camera.health]
    parts += [f"level {status.level}: {status.level_reason}"] if status.level else []
    parts += [status.trouble] if status.trouble else []
    return "; ".join(parts).replace("\n", " ")
