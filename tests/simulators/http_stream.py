"""A camera that sends a file over HTTP at the pace of its own times, to every client from its start."""

import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

STEPS_A_SECOND = 50


class HttpStream:
    """Serves a file.

    Args:
        path: What is sent.
        seconds: How long that takes.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._content = path.read_bytes()
        self._seconds = seconds
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/stream.ts"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        steps = round(self._seconds * STEPS_A_SECOND)
        began = time.monotonic()
        with client:
            try:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
                for step in range(steps):
                    self._stop.wait(max(0.0, began + step / STEPS_A_SECOND - time.monotonic()))
                    if self._stop.is_set():
                        return
                    size = len(self._content)
                    client.sendall(self._content[step * size // steps : (step + 1) * size // steps])
            except OSError:
                return  # the client has gone
