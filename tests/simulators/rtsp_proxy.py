"""Stands between a camera's RTSP server and who reads it over TCP, and spoils what passes."""

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Alter = Callable[[bytearray], None]

WRAP = 2**32
"""Of an RTP timestamp."""


def shifted_by(ticks: int) -> Alter:
    """Make the camera's clock go wrong by this many ticks of 1/90000 s."""

    def alter(packet: bytearray) -> None:
        timestamp = (int.from_bytes(packet[4:8], "big") + ticks) % WRAP
        packet[4:8] = timestamp.to_bytes(4, "big")

    return alter


class RtspProxy:
    """A proxy for one upstream port; RTP packets of the video pass through `alter` when it is set."""

    def __init__(self, upstream: int) -> None:
        self.alter: Alter | None = None
        self.passed = 0
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/stream"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its other end was faster
            finally:
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                return
            self._sockets += [client, server]
            for work in ((_pump, client, server), (self._spoil, server, client)):
                threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def _spoil(self, server: socket.socket, client: socket.socket) -> None:
        try:
            with server.makefile("rb") as stream:
                while first := stream.read(1):
                    if first != b"$":
                        client.sendall(_reply(first, stream.readline, stream.read))
                        continue
                    head = stream.read(3)
                    packet = bytearray(stream.read(int.from_bytes(head[1:], "big")))
                    if head[0] == 0:
                        self.passed += 1
                        if self.alter is not None:
                            self.alter(packet)
                    client.sendall(first + head + packet)
        except OSError:
            return
        finally:
            _hang_up(client)


def _reply(first: bytes, readline: Callable[[], bytes], read: Callable[[int], bytes]) -> bytes:
    """Read one RTSP reply whole."""
    text, length = first, 0
    while line := readline():
        text += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if not line.strip():
            break
    return text + read(length)


def _pump(one: socket.socket, other: socket.socket) -> None:
    try:
        while chunk := one.recv(65536):
            other.sendall(chunk)
    except OSError:
        return
    finally:
        _hang_up(other)


def _hang_up(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is gone already
