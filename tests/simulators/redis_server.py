"""A real Redis server on a free loopback port, which keeps what it acknowledged over `kill -9`."""

import shutil
import socket
import subprocess
from pathlib import Path

from tests.simulators.broker import free_port, wait_until

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """In a folder of its own. Stopped, killed and frozen by its process id."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "RedisServer":
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(REDIS),
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                    *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
                    *self._options,
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._listens)
        return self

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "redis.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
