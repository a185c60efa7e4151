"""A real MQTT broker, mosquitto, on a free loopback port; and a listener that keeps what it hears."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true in time")
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """Mosquitto in a folder of its own. Stopped and killed by its process id."""

    def __init__(self, folder: Path, *, lines: str = "allow_anonymous true", tls: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n{tls}\n{lines}\n"
            # `user` counts only when root starts it: mosquitto then gives root up and reads no file here.
            "persistence false\nmax_queued_messages 0\nlog_dest stderr\nuser root\n"
        )
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Broker":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(MOSQUITTO), "-c", str(self._config)], stderr=log, stdout=log
            )
        wait_until(self._listens)
        return self

    def kill(self) -> None:
        """`kill -9`: the broker forgets everything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Listener:
    """A subscriber with a lasting session that connects again by itself."""

    def __init__(self, port: int, pattern: str = "#", *, username: str = "", password: str = "") -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._pattern = pattern
        self.subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="listener", protocol=MQTTProtocolVersion.MQTTv5
        )
        if username:
            self._client.username_pw_set(username, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_message = self._hear
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=True, properties=lasting)
        self._client.loop_start()
        assert self.subscribed.wait(10)

    def payloads(self, topic_end: str) -> list[bytes]:
        return [payload for topic, payload, _ in list(self.heard) if topic.endswith(topic_end)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, client: Client, *_: Any) -> None:
        client.subscribe(self._pattern, qos=1)

    def _hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.heard.append((message.topic, message.payload, message.retain))
