"""A camera whose pictures kill whoever opens it, as a stream that a decoder cannot take does."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class KillerCamera:
    """Listens for HTTP.

    Args:
        victim: Gives the process to end once somebody has asked for pictures.
    """

    def __init__(self, victim: Callable[[], int]) -> None:
        self._victim = victim
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/video"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            client.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            # It stays open: an end of the stream that is read before the signal comes is no deadly picture.
            self._clients.append(client)
            client.recv(4096)
            os.kill(self._victim(), signal.SIGSEGV)
