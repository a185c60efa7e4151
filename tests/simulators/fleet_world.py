"""A fleet in virtual time: thousands of devices with good and bad days, and the real rollouts.

A device that gets an offer works for a while and reports, or fails, or says nothing any more. What it reports
while it is offline arrives when it is back, as a broker's queue would have it. The world checks at every poll
what must hold of every rollout: one offer a device, the newest version first, and both budgets.
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cloud_fallback.fleet.actions import Action, Halt, Offer, Revert, Withdraw
from cloud_fallback.fleet.arbiter import Arbiter
from cloud_fallback.fleet.rollout import Rollout
from cloud_fallback.fleet.standing import Device, Outcome, Phase, Standing, pack, unpack
from edge_runtime.contract.deployment import Deployment

DAY_S = 86400.0
HOUR_S = 3600.0
START_S = 1_767_225_600.0  # 2026-01-01, a Thursday
_FREE = {Standing.WITHDRAWN, Standing.LEFT, Standing.REVERTED}


@dataclass(frozen=True)
class Manner:
    """What a device does with an offer.

    Args:
        end: What it reports; None: nothing, ever.
        after_s: How long it takes.
        then: What it reports later, after it had ended well; `Outcome.OFFLINE`: it goes away for good.
        then_after_s: How much later.
        back: What it reports when it is sent back; None: nothing.
    """

    end: Outcome | None = Outcome.SUCCEEDED
    after_s: float = 300.0
    then: Outcome | None = None
    then_after_s: float = 1200.0
    back: Outcome | None = Outcome.REVERTED


GOOD = Manner()
FAILS = Manner(Outcome.FAILED, 60.0)
SILENT = Manner(None)
REGRESSES = Manner(then=Outcome.REGRESSED)
VANISHES = Manner(then=Outcome.OFFLINE)
POISONS = (FAILS, SILENT, REGRESSES, VANISHES)


@dataclass
class Store:
    """A device and its days: online always, half of each day, or never."""

    name: str
    presence: str = "always"
    zone: str = "Europe/Berlin"
    size_bytes: int = 1_000_000
    online: bool = True
    gone: bool = False
    under_way: str | None = None
    mail: list[tuple[str, Outcome]] = field(default_factory=list)


class World:
    """Devices, their events, and an arbiter that is polled after each event and whenever it wants to be.

    Args:
        stores: The devices.
        manner: How a device takes a deployment, by its name and the deployment's id.
        seed: Of all dice.
        hand_over: Whether another replica takes over before every poll, from what was written down.
    """

    def __init__(
        self,
        stores: Iterable[Store],
        manner: Callable[[str, str], Manner],
        seed: int = 0,
        hand_over: bool = False,
    ) -> None:
        self.now_s = START_S
        self.stores = {each.name: each for each in stores}
        self.manner = manner
        self.dice = random.Random(seed)
        self.hand_over = hand_over
        self.arbiter = Arbiter()
        self.log: list[tuple[float, Action]] = []
        self.reached: dict[str, set[str]] = {}
        self.polls = 0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._spent: dict[str, deque[tuple[float, int]]] = {}
        self._since: dict[tuple[str, str], float] = {}
        for store in self.stores.values():
            if store.presence == "half":
                self._flip(store, first=True)
            store.online = store.online and store.presence != "never"

    def deploy(self, deployment: Deployment, names: Iterable[str] | None = None) -> Rollout:
        rollout = Rollout(deployment)
        rollout.join(self.devices(names), self.now_s, self.dice.random)
        self.arbiter.add(rollout)
        self.reached[deployment.id] = set()
        self._spent[deployment.id] = deque()
        return rollout

    def devices(self, names: Iterable[str] | None = None) -> list[Device]:
        chosen = self.stores if names is None else names
        found = [self.stores[name] for name in chosen]
        return [Device(each.name, each.zone, each.size_bytes, each.online) for each in found]

    def at(self, at_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), do))

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        self.poll()
        while True:
            wake_s = self.arbiter.wake_at()
            next_s = min(
                self._events[0][0] if self._events else until_s,
                until_s if wake_s is None else wake_s,
                until_s,
            )
            if next_s >= until_s:
                self.now_s = until_s
                return
            self.now_s = max(self.now_s, next_s)
            if self._events and self._events[0][0] <= self.now_s:
                heapq.heappop(self._events)[2]()
            self.poll()

    def poll(self) -> None:
        self.polls += 1
        assert self.polls < 10**6, "the rollouts ask to be polled for ever"
        if self.hand_over:
            kept = [(each.deployment, pack(each.state())) for each in self.arbiter]
            self.arbiter = Arbiter(Rollout(deployment, unpack(state)) for deployment, state in kept)
        self._expire()
        paused = {each.id for each in self.arbiter if each.head.phase is Phase.PAUSED}
        for action in self.arbiter.poll(self.now_s):
            self.log.append((self.now_s, action))
            if isinstance(action, Halt):
                paused.discard(
                    action.deployment
                )  # a paused rollout may halt, and then takes back what it did
            if isinstance(action, Offer | Revert):
                assert action.deployment not in paused
            self._do(action)
        self._check()

    def says(self, store: Store, deployment: str, outcome: Outcome) -> None:
        if not store.online:
            store.mail.append((deployment, outcome))
            return
        if store.under_way == deployment:
            store.under_way = None
        self._since.pop((deployment, store.name), None)
        self.arbiter[deployment].report(store.name, outcome, self.now_s)

    def standings(self, deployment: str) -> Counter:
        rollout = self.arbiter[deployment]
        return Counter(rollout[name].standing for name in rollout.devices)

    def halts(self, deployment: str) -> list[Halt]:
        return [each for _, each in self.log if isinstance(each, Halt) and each.deployment == deployment]

    def _do(self, action: Action) -> None:
        if not isinstance(action, Offer | Revert | Withdraw):
            return
        store = self.stores[action.device]
        manner = self.manner(store.name, action.deployment)
        if isinstance(action, Withdraw):
            self._since[action.deployment, store.name] = self.now_s
            if manner.end is not None:
                self.at(self.now_s + 5, lambda: self._give_up(store, action.deployment))
            return
        assert store.online, f"{store.name} is offline"
        assert store.under_way is None, f"{store.name} already has {store.under_way}"
        store.under_way = action.deployment
        self._since[action.deployment, store.name] = self.now_s
        self._spent[action.deployment].append((self.now_s, action.size_bytes))
        if isinstance(action, Revert):
            self._later(store, action.deployment, manner.back, 60.0)
            return
        self.reached[action.deployment].add(store.name)
        self._check_newer(store, self.arbiter[action.deployment])
        self._later(store, action.deployment, manner.end, manner.after_s)
        if manner.then is Outcome.OFFLINE:
            self.at(self.now_s + manner.after_s + manner.then_after_s, lambda: self._vanish(store))
        elif manner.then:
            self._later(store, action.deployment, manner.then, manner.after_s + manner.then_after_s)

    def _later(self, store: Store, deployment: str, outcome: Outcome | None, after_s: float) -> None:
        if outcome is not None:
            self.at(self.now_s + after_s, lambda: self.says(store, deployment, outcome))

    def _give_up(self, store: Store, deployment: str) -> None:
        if store.under_way == deployment:
            self.says(store, deployment, Outcome.WITHDRAWN)

    def _vanish(self, store: Store) -> None:
        store.gone, store.online = True, False
        self.arbiter.see(store.name, self.now_s, online=False)

    def _flip(self, store: Store, first: bool = False) -> None:
        if first:
            left_s = self.dice.random() * DAY_S / 2
            store.online = self.dice.random() < 0.5
        else:
            left_s = DAY_S / 2
            store.online = not store.online and not store.gone
            self.arbiter.see(store.name, self.now_s, online=store.online)
            mail, store.mail = store.mail, []
            for deployment, outcome in mail:
                self.says(store, deployment, outcome)
        self.at(self.now_s + left_s, lambda: self._flip(store))

    def _expire(self) -> None:
        """Nobody waits for those that were silent for so long: they are free for something else."""
        for (deployment, name), at_s in tuple(self._since.items()):
            if at_s + self.arbiter[deployment].deployment.pace.timeout_s <= self.now_s:
                del self._since[deployment, name]
                if self.stores[name].under_way == deployment:
                    self.stores[name].under_way = None

    def _check_newer(self, store: Store, offering: Rollout) -> None:
        """Nobody is offered an older version while a newer one wants it, or may be there."""
        for other in self.arbiter:
            if store.name not in other or other.deployment.counter <= offering.deployment.counter:
                continue
            standing = other[store.name].standing
            assert standing in {Standing.WAITING, Standing.FAILED, *_FREE}
            assert standing in _FREE or not other.live

    def _check(self) -> None:
        busy = Counter(deployment for deployment, _ in self._since)
        for rollout in self.arbiter:
            pace, spent = rollout.deployment.pace, self._spent[rollout.id]
            assert busy[rollout.id] <= pace.max_concurrent
            while spent and spent[0][0] <= self.now_s - HOUR_S:
                spent.popleft()
            if pace.bytes_per_hour is not None:
                assert sum(size for _, size in spent) <= pace.bytes_per_hour
