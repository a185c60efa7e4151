"""What the programs of the data centre listen with: a socket that delays nothing, and a server that drains.

Knows no application and no settings.
"""

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

_BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """uvicorn, with our signals: its own would raise them again once it has drained.

    Args:
        config: uvicorn's.
        told: Called at each signal; the first one drains, the second one ends it at once.
    """

    def __init__(self, config: Any, told: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._told = told

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Listen for SIGINT and SIGTERM while it serves."""
        loop = asyncio.get_running_loop()
        watched = (signal.SIGINT, signal.SIGTERM)
        for number in watched:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in watched:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self._told()
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Args:
        host: Name or address.
        port: 0: any that is free.

    Raises:
        OSError: There is no such address, or somebody has it.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What it accepts has it too (asyncio sets it only where the protocol was named): an answer's head and
        # body would wait for each other, 40 ms each time.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
