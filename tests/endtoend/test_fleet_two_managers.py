"""Two managers on one PostgreSQL and one mosquitto: one leads, it is killed, the other one goes on."""

import os
import random
import re
import ssl
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from ruamel.yaml import YAML

from cloud_fallback.fleet.simulation.behaviour import Pace, devices
from cloud_fallback.fleet.simulation.crowd import Crowd
from cloud_fallback.fleet.simulation.enrolment import Invitation, Wardrobe, enrol
from cloud_fallback.fleet.simulation.headquarters import MANAGER, Headquarters
from cloud_fallback.fleet.standing import Phase
from edge_runtime.contract.fleet import Desired
from tests.simulators.broker import MOSQUITTO, free_port, wait_until
from tests.simulators.postgres import BIN, new_database, postgres

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(BIN is None, reason="PostgreSQL is not installed"),
]
NAMES = [f"store-{number:02}" for number in range(12)]
LATER = "store-99"


class Second:
    """Another manager of the same fleet, at a port of its own."""

    def __init__(self, hq: Headquarters, stack: ExitStack) -> None:
        port = free_port()
        yaml = YAML()
        settings = yaml.load((hq.folder / "manager.yaml").read_text())
        settings["replica"] = "second"
        settings["listen"]["port"] = port
        file = hq.folder / "second.yaml"
        with file.open("w") as stream:
            yaml.dump(settings, stream)
        log = stack.enter_context((hq.folder / "second.log").open("ab"))
        command = [*MANAGER, "--settings", str(file)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "NO_COLOR": "1"})
        stack.callback(self.process.wait)
        stack.callback(self.process.kill)
        self.client = stack.enter_context(
            httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {hq.token}"},
                verify=ssl.create_default_context(cafile=hq.authority),
                timeout=30.0,
            )
        )
        wait_until(lambda: ready(self.client), 60)


class Listener:
    """What devices are told, as the broker passes it on."""

    def __init__(self, hq: Headquarters, port: int) -> None:
        self.told: dict[str, list[Desired]] = defaultdict(list)
        self._topic = f"v1/{hq.tenant}/d/+/desired"
        client = Client(CallbackAPIVersion.VERSION2, "listener", protocol=MQTTProtocolVersion.MQTTv5)
        context = ssl.create_default_context(cafile=hq.authority)
        context.load_cert_chain(
            hq.folder / "tls" / "broker-client.crt", hq.folder / "tls" / "broker-client.key"
        )
        client.tls_set_context(context)
        client.on_connect = self._subscribe
        client.on_message = self._hear
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._client = client

    def _subscribe(self, client: Client, *_: object) -> None:
        client.subscribe(self._topic, 1)

    def _hear(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if message.payload:
            self.told[message.topic.split("/")[3]].append(Desired.model_validate_json(message.payload))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def leads(client: httpx.Client) -> bool:
    found = re.search(r"^fleet_leads (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return found is not None and float(found[1]) == 1.0


@pytest.fixture
def hq(tmp_path: Path) -> Iterator[Headquarters]:
    with postgres() as base, Headquarters(tmp_path / "hq", database=new_database(base)) as made:
        yield made


def test_the_other_one_goes_on_and_offers_nothing_twice(hq: Headquarters, tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(hq.client())
        second = Second(hq, stack)
        wait_until(lambda: leads(first), 30)
        assert not leads(second.client)

        invited = [Invitation(name, "store-pc-cpu", {}) for name in NAMES]
        broker = enrol(first, invited[:6], tmp_path / "devices")
        enrol(second.client, invited[6:], tmp_path / "devices")  # either one takes devices in
        listener = Listener(hq, manager_port(hq))
        stack.callback(listener.close)
        key = hq.delegate("labels", "detector")
        file = tmp_path / "labels.txt"
        file.write_text("person\n")
        hq.publish(file, key, name="detector", version="1.0.0")
        dice = random.Random(1)
        pace = Pace(after_s=0.5, report_every_s=5.0)
        simulated = devices([*NAMES, LATER], hq.tenant, "store-pc-cpu", pace=pace, dice=dice.random)
        context_of = Wardrobe(tmp_path / "devices").context_of
        here = [each for each in simulated if each.name != LATER]
        crowd = stack.enter_context(Crowd(here, (broker.host, broker.port), context_of=context_of))
        wait_until(lambda: crowd.counts.connected == len(NAMES), 60)

        new = {"id": "one", "kind": "labels", "name": "detector", "version": "1.0.0"}
        new |= {"waves": [{"share": 0.3}, {"share": 1.0}], "trial": {"shadow_s": 0.5}}
        new |= {"pace": {"max_concurrent": 1, "soak_s": 1.0, "timeout_s": 120.0}}
        second.client.post("/v1/deployments", json=new).raise_for_status()
        wait_until(lambda: hq.deployment(second.client, "one").reached >= 2, 60)
        hq.kill_manager()  # in the middle: each device takes its time, one after the other
        reached = hq.deployment(second.client, "one").reached
        assert reached < len(NAMES)
        wait_until(lambda: leads(second.client), 60)

        enrol(second.client, [Invitation(LATER, "store-pc-cpu", {})], tmp_path / "devices")
        late = [each for each in simulated if each.name == LATER]
        stack.enter_context(Crowd(late, (broker.host, broker.port), context_of=context_of))

        def done() -> bool:
            view = hq.deployment(second.client, "one")
            # What had been said to the one that was killed is asked for again, and not waited for.
            return view.phase is Phase.COMPLETED and view.reached == len(NAMES) + 1

        wait_until(done, 120)
        members = second.client.get("/v1/deployments/one/devices").json()["devices"]
        assert {each["device"]: each["standing"] for each in members} == dict.fromkeys(
            [*NAMES, LATER], "succeeded"
        )
        # What a device is told again is the same, under the same number: one offer, of one errand.
        for name in [*NAMES, LATER]:
            told = listener.told[name]
            offers = [desired for desired in told if desired.wanted]
            assert {each.deployment for desired in offers for each in desired.wanted} == {"one"}, name
            assert len({desired.seq for desired in offers}) == 1, name
            assert [desired.seq for desired in told] == sorted(desired.seq for desired in told), name
        assert second.client.get("/v1/audit/verify").json()["ok"]
        # The one that was killed comes back, and follows.
        hq.start_manager()
        assert leads(second.client) and not leads(first)


def manager_port(hq: Headquarters) -> int:
    settings = YAML(typ="safe").load((hq.folder / "manager.yaml").read_text())
    return int(settings["broker"]["port"])
