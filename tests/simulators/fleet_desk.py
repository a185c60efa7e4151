"""A fleet in virtual time around the real operator: simulated devices, a broker in memory, a real database.

The bus hands what a device says to the operator at the next step, and what the operator publishes to devices
that are online; retained messages wait for the others. `Notary` signs ways back, like the TUF repository.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence

from cloud_fallback.fleet.bus import Heard, Post
from cloud_fallback.fleet.database import deployments, devices, releases
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.operator import Operator
from cloud_fallback.fleet.simulation.behaviour import Manner, Out, Pace, Said, SimulatedDevice, always_good
from cloud_fallback.fleet.views import DeploymentNew, DeploymentView, MoveName, ReleaseView
from edge_runtime.contract.fleet import Kind, Wanted

TENANT = "shop"
QUICK = Pace(fetch_s=20.0, trial_s=40.0)
START_S = 1_767_225_600.0  # 2026-01-01, a Thursday


class Notary:
    """Signs ways back, and keeps what it signed."""

    def __init__(self) -> None:
        self.signed: dict[str, tuple[str, int]] = {}
        self.refreshed: list[bool] = []

    def next_counter(self, kind: Kind, name: str) -> int:
        return max((counter for _, counter in self.signed.values()), default=0) + 1

    def revert(self, kind: Kind, name: str, of: str, counter: int, now_s: float) -> str:
        path = f"reverts/{kind}/{name}/{counter}"
        self.signed[path] = of, counter
        return path

    def refresh(self, now_s: float, *, anyway: bool = False) -> bool:
        self.refreshed.append(anyway)
        return True


class MemoryBus:
    """A broker in memory; one bus for all replicas of a test."""

    def __init__(self) -> None:
        self.connected = True
        self.retained: dict[str, bytes] = {}
        self.sent: list[Post] = []
        self.expelled: list[tuple[str, ...]] = []
        self.deliver: Callable[[Post], None] | None = None

    def start(self, hear: Callable[[Heard], None], joined: Callable[[], None]) -> None:
        joined()

    def publish(self, post: Post) -> bool:
        if not self.connected:
            return False
        self.sent.append(post)
        if post.retain:
            self.retained[post.topic] = post.payload
        if self.deliver is not None:
            self.deliver(post)
        return True

    def settle(self, heard: Iterable[Heard]) -> None:
        pass

    def expel(self, clients: Sequence[str], forget: Sequence[str]) -> None:
        self.expelled.append(tuple(clients))
        for topic in forget:
            self.retained.pop(topic, None)

    def close(self) -> None:
        self.connected = False


class Desk:
    """A manager and its fleet.

    Args:
        database: Empty and migrated.
        names: Of the devices, enrolled and online.
        manner: How a device takes a version.
        pace: How long things take on a device.
        seed: Of all dice.
    """

    def __init__(
        self,
        database: Database,
        names: Iterable[str],
        *,
        manner: Callable[[str, Wanted], Manner] = always_good,
        pace: Pace = QUICK,
        seed: int = 0,
    ) -> None:
        self.database = database
        self.now_s: float = START_S
        self.manner, self.pace = manner, pace
        self.dice = random.Random(seed)
        self.bus = MemoryBus()
        self.bus.deliver = self._deliver
        self.notary = Notary()
        self.devices: dict[str, SimulatedDevice] = {}
        self.online: set[str] = set()
        self.mail: list[Heard] = []
        self.heard: list[tuple[float, str, Wanted]] = []
        """What devices were told to want that they did not want before: when, who, what."""
        self._last: dict[str, set[str]] = {}
        self._serials = itertools.count(1)
        self._operators: list[Operator] = []
        self.operator = self.new_operator()
        for name in names:
            self.enrol(name)
            self.connect(name)

    def new_operator(self, replica: str = "a") -> Operator:
        operator = Operator(
            self.database, self.bus, self.notary, tenant=TENANT, replica=replica,
            clock=lambda: self.now_s, dice=self.dice.random,
        )  # fmt: skip
        self._operators.append(operator)
        return operator

    def close(self) -> None:
        for each in self._operators:
            each._leader.release()

    def replace_manager(self) -> None:
        """Have another process go on, from the database alone."""
        self.operator._leader.release()
        self.operator = self.new_operator()

    def enrol(self, name: str, **labels: str) -> None:
        n = next(self._serials)
        new = devices.Enrolled(name, "store-pc", "1.0", "Europe/Berlin", f"{n:064x}", f"{n:x}", labels)
        with self.database.begin() as tx:
            devices.enrol(tx, new, self.now_s, again=True)
        self.devices[name] = SimulatedDevice(
            name, TENANT, "store-pc", self.dice.random(), self.manner, self.pace
        )
        self._last[name] = set()

    def connect(self, name: str) -> None:
        self.online.add(name)
        device = self.devices[name]
        self._say(name, device.connected(self.now_s))
        topic = f"v1/{TENANT}/d/{name}/desired"
        if topic in self.bus.retained:
            self._hand_over(name, topic, self.bus.retained[topic])

    def disconnect(self, name: str) -> None:
        self.online.discard(name)
        will = self.devices[name].will
        self.mail.append(Heard(will.topic, will.payload))

    def release(self, version: str, counter: int, name: str = "detector") -> ReleaseView:
        release = ReleaseView(
            kind="model", name=name, version=version, counter=counter, sha256=f"{counter:064x}",
            size_bytes=1_000_000, target=f"model/{name}/{counter}-{version}.zip",
            published_at="2026-01-01T00:00:00.000Z", published_by="test",
        )  # fmt: skip
        with self.database.begin() as tx:
            return releases.publish(tx, release)

    def deploy(self, id_: str, version: str, **fields: object) -> None:
        new = DeploymentNew.model_validate({"name": "detector", "version": version, **fields})
        with self.database.begin() as tx:
            deployments.create(tx, new, id_, "test", self.now_s)
        self.operator.nudge()

    def ask(self, id_: str, move: MoveName) -> int:
        with self.database.begin() as tx:
            n = deployments.ask(tx, id_, move, reason="because", who="test", now_s=self.now_s)
        self.operator.nudge()
        return n

    def view(self, id_: str) -> DeploymentView:
        with self.database.read() as tx:
            return deployments.must_find(tx, id_)

    def versions(self) -> dict[str, str | None]:
        """What devices really run."""
        return {
            name: next((each.version for each in device.have()), None)
            for name, device in self.devices.items()
        }

    def step(self) -> None:
        mail, self.mail = self.mail, []
        self.operator.step(mail)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        for _ in range(200_000):
            self.step()
            if until():
                return
            wake_s = self.operator.wake_at()
            times_s = [self.devices[name].wake_at() for name in self.online]
            next_s = min([end_s, *times_s, *([] if wake_s is None else [wake_s])])
            if self.mail:
                next_s = self.now_s
            if next_s >= end_s:
                self.now_s = end_s
                return
            self.now_s = max(self.now_s, next_s)
            for name in sorted(self.online):
                if self.devices[name].wake_at() <= self.now_s:
                    self._say(name, self.devices[name].poll(self.now_s))
        raise AssertionError("the fleet does not come to rest")

    def _say(self, name: str, outs: Iterable[Out]) -> None:
        for out in outs:
            if isinstance(out, Said):
                self.mail.append(Heard(out.topic, out.payload, out.retain, out.correlation))
            else:
                self.disconnect(name)

    def _deliver(self, post: Post) -> None:
        _, _, kind, name, *channel = post.topic.split("/")
        if kind == "d" and channel == ["desired"] and name in self.online:
            self._hand_over(name, post.topic, post.payload)

    def _hand_over(self, name: str, topic: str, payload: bytes) -> None:
        from edge_runtime.contract.fleet import Desired

        desired = Desired.model_validate_json(payload)
        if desired.seq > self.devices[name].desired_seq:
            for wanted in desired.wanted:
                if wanted.deployment not in self._last[name]:
                    self.heard.append((self.now_s, name, wanted))
            self._last[name] = {each.deployment for each in desired.wanted}
        self._say(name, self.devices[name].hear(topic, payload, None, None, self.now_s))
