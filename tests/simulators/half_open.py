"""A TCP line that can go dead without a word: nothing is closed, and nothing gets through any more."""

import socket
import threading
from contextlib import suppress


class HalfOpenLine:
    """Forwards connections to a port, until it is cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._dead: set[int] = set()
        self._generation = 0
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections = 0
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def cut(self) -> None:
        """Every connection there is goes dead; later ones work."""
        self._dead.add(self._generation)
        self._generation += 1

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # ends the accept that waits
        self._acceptor.join()
        self._server.close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self.connections += 1
                self._open.append(near)
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(
                        target=self._forward, args=(source, sink, self._generation), daemon=True
                    ).start()

    def _forward(self, source: socket.socket, sink: socket.socket, generation: int) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                if generation not in self._dead:
                    sink.sendall(piece)
            if generation not in self._dead:
                sink.shutdown(socket.SHUT_WR)
