"""A push to a whole fleet, and poisoned releases that halt: real broker, real manager, simulated devices.

Every device has a certificate and a TLS connection of its own. Labels are rolled out: what is measured is the
control, and no device fetches bytes.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from score import Score, console

from cloud_fallback.fleet.simulation.behaviour import Manner, Pace, devices
from cloud_fallback.fleet.simulation.crowd import Crowd
from cloud_fallback.fleet.simulation.enrolment import Invitation, Wardrobe, enrol
from cloud_fallback.fleet.simulation.headquarters import Headquarters
from cloud_fallback.fleet.standing import Phase, Standing
from cloud_fallback.fleet.views import DeploymentView
from edge_runtime.contract.fleet import Wanted

MIB = 2**20
FAMILY = "detector"
STOPPED = {Phase.HALTED, Phase.REVERTING, Phase.REVERTED}
SILENT_SHARE = 0.3
SOAK_S, TIMEOUT_S = 12.0, 20.0
PACE = Pace(after_s=1.0, report_every_s=10.0)
"""Instead of an hour, two, and five minutes: what a rollout reaches does not depend on the scale of time."""
TRIAL = {"shadow_s": PACE.after_s}
"""Shorter than what a device may take; simulated ones are done after `PACE.after_s`."""


@dataclass(slots=True)
class Fleet:
    """What the measurements share."""

    hq: Headquarters
    client: httpx.Client
    crowd: Crowd
    key: Path
    poison: dict[str, Callable[[str], Manner]]
    """Manners of devices with a version, by the version; absent: all take it well."""

    def release(self, version: str) -> None:
        """Publish labels."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "labels.txt"
            file.write_text(f"person\nversion {version}\n")
            self.hq.publish(file, self.key, name=FAMILY, version=version)

    def deploy(self, version: str, **how: Any) -> DeploymentView:
        """Have a version rolled out."""
        body = {"kind": "labels", "name": FAMILY, "version": version, **how}
        return DeploymentView.model_validate(self.hq.ask(self.client, "POST", "/v1/deployments", body))

    def wait(self, id_: str, done: Callable[[DeploymentView], bool], timeout_s: float) -> DeploymentView:
        until_s = time.monotonic() + timeout_s
        while not done(view := self.hq.deployment(self.client, id_)):
            if time.monotonic() > until_s:
                raise SystemExit(f"{id_} does not get there: {view.phase}, {view.waves}")
            time.sleep(0.5)
        return view

    def members(self, id_: str) -> Iterator[dict[str, Any]]:
        """Give the devices of a deployment."""
        after = ""
        while True:
            path = f"/v1/deployments/{id_}/devices?limit=1000&after={after}"
            page = self.hq.ask(self.client, "GET", path)
            yield from page["devices"]
            if page["next"] is None:
                return
            after = page["next"]


@contextmanager
def fleet(folder: Path, count: int) -> Iterator[Fleet]:
    """Run a fleet of simulated devices that are all connected."""
    names = [f"store-{number:05d}" for number in range(count)]
    poison: dict[str, Callable[[str], Manner]] = {}

    def manner(device: str, wanted: Wanted) -> Manner:
        found = poison.get(wanted.version)
        return Manner.GOOD if found is None else found(device)

    with Headquarters(folder / "hq") as hq, hq.client() as client:
        began_s = time.monotonic()
        invited = [Invitation(name, "store-pc-cpu", {"region": "west"}) for name in names]
        broker = enrol(client, invited, folder / "devices")
        console.print(f"{count} devices enrolled in {time.monotonic() - began_s:.1f} s", highlight=False)
        key = hq.delegate("labels", FAMILY)
        dice = random.Random(1)
        simulated = devices(names, hq.tenant, "store-pc-cpu", manner=manner, pace=Pace(), dice=dice.random)
        wardrobe = Wardrobe(folder / "devices")
        began_s = time.monotonic()
        with Crowd(simulated, (broker.host, broker.port), context_of=wardrobe.context_of) as crowd:
            while crowd.counts.connected < count:
                if time.monotonic() > began_s + 120:
                    raise SystemExit(f"only {crowd.counts.connected} of {count} devices connect")
                time.sleep(0.1)
            console.print(f"all connected after {time.monotonic() - began_s:.1f} s", highlight=False)
            _wait_for_overview(hq, client, count)
            yield Fleet(hq, client, crowd, key, poison)


def _wait_for_overview(hq: Headquarters, client: httpx.Client, count: int) -> None:
    until_s = time.monotonic() + 60
    while hq.ask(client, "GET", "/v1/overview")["online"] < count:
        if time.monotonic() > until_s:
            raise SystemExit("the manager does not see all devices")
        time.sleep(0.5)


def measure_push(one: Fleet, score: Score, count: int, rounds: int) -> None:
    """Push to everybody at once, several times; a device is done when its success is in the database.

    Cores are those of manager, broker and devices together; time begins before the deployment is asked for.
    """
    manager, broker, mine = (
        psutil.Process(pid) for pid in (one.hq.manager_pid, one.hq.broker_pid, psutil.Process().pid)
    )
    halves_s: list[float] = []
    p99s_s: list[float] = []
    cores: list[float] = []
    for number in range(rounds):
        version = f"1.{number}.0"
        one.release(version)
        time.sleep(2)
        used_s, said = _cpu_s(manager, broker, mine), one.crowd.counts.said
        began_s = time.time()
        made = one.deploy(
            version,
            waves=[{"share": 1.0}],
            pace={"max_concurrent": 2 * count, "soak_s": 0.0, "timeout_s": 600.0},
        )
        id_ = made.deployment.id
        while one.crowd.counts.said < said + count and time.time() < began_s + 60:
            time.sleep(0.02)  # asking the manager would be load of its own
        time.sleep(1)
        one.wait(id_, lambda view: _succeeded(view) == count, 60)
        members = list(one.members(id_))
        took_s = sorted(_seconds(each["since"]) - began_s for each in members)
        spent = [
            (now - before) / took_s[-1]
            for now, before in zip(_cpu_s(manager, broker, mine), used_s, strict=True)
        ]
        halves_s.append(took_s[len(took_s) // 2])
        p99s_s.append(took_s[int(0.99 * len(took_s))])
        cores.append(sum(spent))
        console.print(
            f"push {number + 1}: last after {took_s[-1]:.2f} s; cores taken: manager {spent[0]:.2f}, "
            f"broker {spent[1]:.2f}, devices {spent[2]:.2f}",
            highlight=False,
        )
    score.at_most("push_to_reported_p99_s", statistics.median(p99s_s), 2.0)
    score.figure("push_to_reported_p99_worst_round_s", max(p99s_s))
    score.figure("push_to_reported_p50_s", statistics.median(halves_s))
    score.at_most("push_cores_all_processes", max(cores), 2.0)
    score.at_most("manager_peak_mb", _peak_bytes(manager.pid) / 1e6, 300.0)
    score.at_most("devices_peak_mb", _peak_bytes(mine.pid) / 1e6, 300.0)
    score.figure("broker_peak_mb", _peak_bytes(broker.pid) / 1e6)


def measure_poison(one: Fleet, score: Score, count: int) -> None:
    """Roll out releases that do harm; what counts is how many devices were offered them before the halt."""
    for each in one.crowd.devices.values():
        each.pace = PACE
    dice = random.Random(2)
    silent = {name: dice.random() < SILENT_SHARE for name in one.crowd.devices}
    poisons: dict[str, Callable[[str], Manner]] = {
        "fails_a_third_silently": lambda name: Manner.SILENT if silent[name] else Manner.FAILS,
        "a_third_is_silent_the_rest_is_well": lambda name: Manner.SILENT if silent[name] else Manner.GOOD,
        "is_worse_after_success_or_silent": lambda name: Manner.SILENT if silent[name] else Manner.REGRESSES,
        "nobody_ever_answers": lambda name: Manner.SILENT,
    }
    worst = 0.0
    for number, (what, manner) in enumerate(poisons.items()):
        version = f"2.{number}.0"
        one.poison[version] = manner
        one.release(version)
        made = one.deploy(version, pace={"soak_s": SOAK_S, "timeout_s": TIMEOUT_S}, trial=TRIAL)
        view = one.wait(made.deployment.id, lambda view: view.phase in STOPPED, 180)
        share = view.reached / count
        worst = max(worst, share)
        score.figure(f"poison_{what}_reached", share)
        console.print(f"        halted: {view.reason}", highlight=False)
        one.wait(made.deployment.id, lambda view: view.phase is Phase.REVERTED, 180)
    score.at_most("poison_reached_share", worst, 0.06)


def _succeeded(view: DeploymentView) -> int:
    return sum(wave.standings.get(Standing.SUCCEEDED, 0) for wave in view.waves)


def _cpu_s(*processes: psutil.Process) -> list[float]:
    return [sum(process.cpu_times()[:2]) for process in processes]


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the kernel does not say what a process needed at most")


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
