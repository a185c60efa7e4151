"""The manager's side of MQTT, played by a client that keeps what it hears and says what a test wants."""

import ssl
import threading
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cloud_fallback.fleet.broker import MANAGER_USER
from edge_runtime.contract.fleet import Command, Desired, DeviceEvent, Presence, Reply, Reported
from edge_runtime.fleet import topics
from edge_runtime.fleet.parsing import encode, parse
from edge_runtime.fleet.topics import Channel, Topics
from tests.simulators.broker import wait_until
from tests.simulators.fleet_broker import TENANT, FleetBroker

REPLY = topics.reply(TENANT, "r1")
MINE = Topics(TENANT, "d1")


class Manager:
    """Hears reports, events, presence and replies; connects and subscribes again by itself."""

    def __init__(self, broker: FleetBroker, *, events: bool = True) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.replies: list[tuple[bytes | None, Reply]] = []
        self._subscribed = threading.Event()
        channels = [Channel.REPORTED, Channel.PRESENCE, *([Channel.EVENT] if events else [])]
        self._filters = [(REPLY, 1), *((topics.of_all(TENANT, each), 1) for each in channels)]
        file = broker.folder / f"{MANAGER_USER}.pem"
        if not file.exists():
            broker.issue(MANAGER_USER)
        client = Client(CallbackAPIVersion.VERSION2, "r1", protocol=MQTTProtocolVersion.MQTTv5)
        context = ssl.create_default_context(cafile=broker.ca)
        context.load_cert_chain(file, file.with_suffix(".key"))
        client.tls_set_context(context)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._connected
        client.on_subscribe = self._there
        client.on_disconnect = self._gone
        client.on_message = self._hear
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", broker.manager_port, clean_start=False, properties=lasting)
        client.loop_start()
        self._client = client
        assert self._subscribed.wait(10)

    def subscribe(self, channel: Channel) -> None:
        self._filters.append((topics.of_all(TENANT, channel), 1))
        self._subscribed.clear()
        self._client.subscribe(self._filters)
        assert self._subscribed.wait(10)

    def there(self) -> bool:
        """Whether the broker knows what this subscribes to."""
        return self._subscribed.is_set()

    def say(self, topic: str, payload: bytes, *, retain: bool = False, **properties: Any) -> None:
        found = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(found, name, value)
        self._client.publish(topic, payload, 1, retain, found).wait_for_publish(10)

    def desire(self, desired: Desired, *, retain: bool = True) -> None:
        self.say(MINE.of(Channel.DESIRED), encode(desired), retain=retain)

    def ask(self, command: Command | bytes, *, correlation: bytes = b"1", expiry_s: int = 30) -> None:
        payload = command if isinstance(command, bytes) else encode(command)
        self.say(
            MINE.of(Channel.COMMAND),
            payload,
            ResponseTopic=REPLY,
            CorrelationData=correlation,
            MessageExpiryInterval=expiry_s,
        )

    def answer(self, command: Command | bytes, *, correlation: bytes = b"1") -> Reply:
        """Ask, and give the answer."""
        before = len(self.replies)
        self.ask(command, correlation=correlation)
        wait_until(lambda: len(self.replies) > before)
        found, reply = self.replies[before]
        assert found == correlation
        return reply

    def reports(self) -> list[Reported]:
        return [parse(Reported, each) for each in self._of(Channel.REPORTED)]

    def events(self) -> list[DeviceEvent]:
        return [parse(DeviceEvent, each) for each in self._of(Channel.EVENT)]

    def presence(self) -> list[bool]:
        return [parse(Presence, each).online for each in self._of(Channel.PRESENCE)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _of(self, channel: Channel) -> list[bytes]:
        return [payload for topic, payload in list(self.heard) if topic.endswith(f"/{channel}")]

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe(self._filters)

    def _there(self, *_: Any) -> None:
        self._subscribed.set()

    def _gone(self, *_: Any) -> None:
        self._subscribed.clear()

    def _hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.topic == REPLY:
            correlation = getattr(message.properties, "CorrelationData", None)
            self.replies.append((correlation, parse(Reply, bytes(message.payload))))
        else:
            self.heard.append((message.topic, bytes(message.payload)))
