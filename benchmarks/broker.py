"""A mosquitto that keeps its sessions on disk, and a subscriber whose session outlives it.

What reaches the broker once therefore reaches the subscriber, and a missing event was lost by the sender.
"""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


class Broker:
    """Mosquitto on a free loopback port, in a folder of its own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._folder = Path(tempfile.mkdtemp(prefix="edge-bench-broker-"))
        (self._folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest none\n"
            f"persistence true\npersistence_location {self._folder}/\nmax_queued_messages 0\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            (MOSQUITTO, "-c", str(self._folder / "mosquitto.conf")), stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self._listens():
            if time.monotonic() > deadline:
                raise SystemExit("mosquitto does not listen")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Ear:
    """Keeps the ids of all events it hears, whatever happens to the broker."""

    def __init__(self, port: int) -> None:
        self.heard: set[str] = set()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="ear", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._hear
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 24 * 3600
        self._client.connect("127.0.0.1", port, properties=lasting)
        self._client.loop_start()

    def wait_for(self, ids: set[str], *, timeout_s: float) -> None:
        """Wait until all of these were heard, or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not ids <= self.heard and time.monotonic() < deadline:
            time.sleep(0.05)

    def _subscribe(self, client: Client, *_: Any) -> None:
        client.subscribe("+/+/+/events", qos=1)

    def _hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.heard.add(json.loads(message.payload)["id"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
