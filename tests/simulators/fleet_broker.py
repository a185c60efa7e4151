"""The fleet's real broker in a folder of its own: mosquitto with its shipped settings, and certificates."""

import signal
import socket
import subprocess
import time
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud_fallback.fleet.api.authority import Authority, make_authority
from cloud_fallback.fleet.broker import MANAGER_USER, BrokerFiles, access_list, configuration
from tests.simulators.broker import MOSQUITTO, free_port, wait_until

TENANT = "acme"


class FleetBroker:
    """Mosquitto as `fleet init` sets it up. Started, killed and stopped by its process id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.manager_port = free_port(), free_port()
        certificate, key = make_authority(TENANT, now_s=time.time())
        self.authority = Authority(certificate, key, TENANT)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate)
        self.revoke()
        own = self.issue("broker", hosts=("127.0.0.1",))
        files = BrokerFiles(
            self.ca, own, own.with_suffix(".key"), folder / "revoked.pem", folder / "acl", folder / "state"
        )
        files.state.mkdir(exist_ok=True)
        files.access.write_text(access_list(TENANT))
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            configuration(
                files, port=self.port, manager_port=self.manager_port, bind="127.0.0.1", user="root"
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def issue(self, name: str, *, hosts: tuple[str, ...] = ()) -> Path:
        """Make a certificate; its key lies beside it."""
        certificate, key = self.authority.issue(name, now_s=time.time(), days=1, hosts=hosts)
        file = self.folder / f"{name}.pem"
        file.write_bytes(certificate)
        file.with_suffix(".key").write_bytes(key)
        return file

    def revoke(self, *serials: str) -> None:
        revoked = [(serial, time.time()) for serial in serials]
        self.authority.write_revoked(revoked, self.folder / "revoked.pem", now_s=time.time())

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                (str(MOSQUITTO), "-c", str(self._config)), stdout=log, stderr=log
            )
        wait_until(self._listens)

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.manager_port)) == 0


class Person:
    """Somebody at the broker; keeps what it hears and what it was answered."""

    def __init__(self, broker: FleetBroker, name: str, *, client_id: str | None = None, clean: bool = True):
        self.heard: list[tuple[str, bytes]] = []
        self.answers: dict[int, ReasonCode] = {}
        self.welcome: ReasonCode | None = None
        self.ended = False
        self._subscribed: list[int] = []
        port = broker.manager_port if name == MANAGER_USER else broker.port
        file = broker.folder / f"{name}.pem"
        if not file.exists():
            broker.issue(name)
        client = Client(CallbackAPIVersion.VERSION2, client_id or name, protocol=MQTTProtocolVersion.MQTTv5)
        client.tls_set(str(broker.ca), str(file), str(file.with_suffix(".key")))
        client.on_connect = lambda _c, _d, _f, reason, _p: setattr(self, "welcome", reason)
        client.on_disconnect = lambda *_: setattr(self, "ended", True)
        client.on_message = lambda _c, _d, message: self.heard.append((message.topic, message.payload))
        client.on_publish = lambda _c, _d, number, reason, _p: self.answers.update({number: reason})
        client.on_subscribe = lambda _c, _d, number, *_: self._subscribed.append(number)
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", port, clean_start=clean, properties=lasting)
        client.loop_start()
        self._client = client
        wait_until(lambda: self.welcome is not None)

    def subscribe(self, topic: str) -> None:
        _, number = self._client.subscribe(topic, qos=1)
        wait_until(lambda: number in self._subscribed)

    def says(self, topic: str, payload: str, *, retain: bool = False) -> ReasonCode:
        """Publish with QoS 1; gives the broker's answer."""
        number = self._client.publish(topic, payload, qos=1, retain=retain).mid
        wait_until(lambda: number in self.answers)
        return self.answers[number]

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
