"""A store's uplink, as TCP: a slow line with a short queue that everything shares, and its bad days.

Everything to a device goes through one queue, first in, first out, as in a router; what comes from it is
small and passes at once. On bad days the line is gone (connections break), or swallows everything.
"""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

_BLOCK = 1460
"""Of a TCP segment on Ethernet: what is sent in one piece."""


class Weather(Enum):
    """How the line is."""

    FAIR = auto()
    GONE = auto()
    """Connections break, and none can be made."""
    SWALLOWING = auto()
    """Connections stand, and nothing comes through: those made until it ends are half-open for ever."""


@dataclass(slots=True)
class _Pair:
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    half_open: bool = False


@dataclass(slots=True)
class Uplink:
    """Ports of this machine that lead over the line while the block lasts.

    Args:
        targets: Port of the server, by the name of what it is.
        bytes_per_s: Of the line, to the device; None: as fast as it goes.
        queue_bytes: Of the router before it.
    """

    targets: Mapping[str, int]
    bytes_per_s: float | None = None
    queue_bytes: int = 64 << 10
    ports: dict[str, int] = field(default_factory=dict[str, int])
    passed_bytes: int = 0
    _weather: Weather = Weather.FAIR
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _pairs: list[_Pair] = field(default_factory=list[_Pair])
    _servers: list[asyncio.Server] = field(default_factory=list[asyncio.Server])
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])
    _queue: "asyncio.Queue[tuple[_Pair, bytes]]" = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._queue = asyncio.Queue(max(1, self.queue_bytes // _BLOCK))
        self._thread = threading.Thread(target=self._loop.run_forever, name="uplink", daemon=True)

    def __enter__(self) -> "Uplink":
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def turn(self, weather: Weather) -> None:
        """Change the weather."""
        self._do(self._turn(weather))

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self) -> None:
        for name, port in self.targets.items():

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port
            ) -> None:
                await self._serve(reader, writer, port)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.ports[name] = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        self._start(self._drain())

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._break()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _turn(self, weather: Weather) -> None:
        self._weather = weather
        if weather is Weather.GONE:
            self._break()
        elif weather is Weather.SWALLOWING:
            for pair in self._pairs:
                pair.half_open = True

    def _break(self) -> None:
        for pair in self._pairs:
            for writer in (pair.near, pair.far):
                writer.transport.abort()
        self._pairs.clear()

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, port: int) -> None:
        if self._weather is Weather.GONE:
            near.transport.abort()
            return
        far_reader, far = await asyncio.open_connection("127.0.0.1", port, limit=_BLOCK)
        pair = _Pair(near, far, half_open=self._weather is Weather.SWALLOWING)
        self._pairs.append(pair)
        self._start(self._up(reader, pair))
        self._start(self._down(far_reader, pair))

    async def _up(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        """From the device: at once."""
        with suppress(OSError):
            while data := await reader.read(_BLOCK):
                if not pair.half_open:
                    pair.far.write(data)
                    await pair.far.drain()
            pair.far.close()

    async def _down(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        """To the device: into the queue, which holds back whoever fills it."""
        with suppress(OSError):
            while data := await reader.read(_BLOCK):
                await self._queue.put((pair, data))
            await self._queue.put((pair, b""))

    async def _drain(self) -> None:
        """Send what is in the queue at the line's speed."""
        due_s = self._loop.time()
        while True:
            pair, data = await self._queue.get()
            if self.bytes_per_s is not None:
                due_s = max(due_s, self._loop.time() - 0.01) + len(data) / self.bytes_per_s
                await asyncio.sleep(max(0.0, due_s - self._loop.time()))
            if pair.half_open or pair.near.is_closing():
                continue
            self.passed_bytes += len(data)
            with suppress(OSError):
                if data:
                    pair.near.write(data)
                else:
                    pair.near.close()
