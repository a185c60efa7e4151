"""A fleet on one machine: broker, manager, a real device with a camera, and twenty simulated ones.

    python -m cloud_fallback.fleet.demo --out demo-fleet-out

A good version reaches everybody in waves. A poisoned one fails its trial on the real device, which goes on
with what it had, and the rollout halts itself. The ids of both rollouts are chosen so that the real device is
among the first: there is something to see. The simulated ones speak the real protocol, and play the rest.
"""

import argparse
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from cloud_fallback.fleet.cohort import rank
from cloud_fallback.fleet.simulation.behaviour import Manner, Pace, devices
from cloud_fallback.fleet.simulation.crowd import Crowd
from cloud_fallback.fleet.simulation.enrolment import Invitation, Wardrobe, enrol
from cloud_fallback.fleet.simulation.headquarters import Headquarters, find_mosquitto
from cloud_fallback.fleet.simulation.remodel import DETECTOR, make_version, poison
from cloud_fallback.fleet.standing import Phase
from cloud_fallback.fleet.views import DeploymentView
from edge_runtime.contract.errors import EdgeRuntimeError, RemoteError, StorageError
from edge_runtime.contract.fleet import Wanted

REAL = "high-street"
SIMULATED = 20
GOOD, POISONED = "1.1.0", "1.2.0"
_PROFILE = "store-pc-cpu"
_PATIENCE_S = 120.0
_WAVES = [{"share": 0.1}, {"share": 0.4}, {"share": 1.0}]
_PACE = {"soak_s": 4.0, "timeout_s": 60.0}
_TRIAL = {"shadow_s": 5.0}
_PAST = {Phase.HALTED, Phase.REVERTING, Phase.REVERTED}


def main() -> None:
    """Run the demo and exit."""
    parser = argparse.ArgumentParser(
        description="A fleet on one machine: a good rollout, and one that halts."
    )
    parser.add_argument("--out", type=Path, default=Path("demo-fleet-out"), help="folder for everything")
    parser.add_argument("--keep", action="store_true", help="leave all running until Ctrl-C")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended, too
    screen = Console(highlight=False)
    try:
        run(asked.out.absolute(), screen, keep=asked.keep)
    except EdgeRuntimeError as error:
        screen.print(f"[bold red]Error:[/] {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        screen.print("\nStopped.")


def run(folder: Path, screen: Console, *, keep: bool) -> None:
    """Play it.

    Args:
        folder: Gets everything; what an earlier demo left there goes.
        screen: Where the story is told.
        keep: Whether all goes on until Ctrl-C; else it ends, on a terminal after Enter.

    Raises:
        EdgeRuntimeError: mosquitto is missing, something does not start, the folder cannot be written, …
    """
    find_mosquitto()
    _clear(folder)
    began_s = time.monotonic()
    screen.print("[bold]1  A fleet.[/]")
    with (
        Headquarters(folder / "headquarters") as hq,
        hq.client() as client,
        _crowd(hq, client, folder) as crowd,
    ):
        screen.print(f"   Broker and manager run. Console: [bold]{hq.url}/console[/]", soft_wrap=True)
        screen.print(f"   Log in with the token [bold]{hq.token}[/]", soft_wrap=True)
        settings = (files("cloud_fallback.fleet") / "demo_store.yaml").read_text("utf-8")
        with real_device(hq, client, folder, REAL, settings):
            story = _Story(hq, client, screen, hq.delegate("model", DETECTOR))
            story.wait_for_all(SIMULATED + 1)
            screen.print(
                f"   {SIMULATED + 1} devices are online: {SIMULATED} simulated ones, and {REAL}, "
                "which counts people in a recording.",
                soft_wrap=True,
            )
            story.good(folder)
            story.bad(folder)
            screen.print(f"\n   {time.monotonic() - began_s:.0f} s in all.")
            if crowd.counts.refused:
                screen.print(f"   [red]{crowd.counts.refused} messages were none of the protocol's.[/]")
            _linger(screen, hq, keep=keep)


@dataclass(slots=True)
class _Story:
    hq: Headquarters
    client: httpx.Client
    screen: Console
    key: Path

    def wait_for_all(self, number: int) -> None:
        """Wait until the manager sees everybody."""
        self._until(lambda: self._get("/v1/overview")["online"] == number, "not all devices came online")

    def good(self, folder: Path) -> None:
        """Roll a good version out."""
        self.screen.print(f"\n[bold]2  A good version: {DETECTOR} {GOOD}.[/]")
        published = self.hq.publish(make_version(folder / GOOD, GOOD), self.key)
        self.screen.print(f"   Signed and published: {published.size_bytes:,} bytes.")
        id_ = self._deploy(GOOD)
        self._watch(id_, lambda view: view.phase is Phase.COMPLETED)
        (have,) = self._get(f"/v1/devices/{REAL}")["have"]
        self.screen.print(f"   {REAL} runs {have['version']}, after a trial beside what it ran before.")

    def bad(self, folder: Path) -> None:
        """Roll a poisoned version out, as far as it comes."""
        self.screen.print(
            f"\n[bold]3  A poisoned version: {DETECTOR} {POISONED}; its boxes are no numbers.[/]"
        )
        published = self.hq.publish(make_version(folder / POISONED, POISONED, poison), self.key)
        patch = min((each.size_bytes for each in published.patches), default=published.size_bytes)
        self.screen.print(f"   Published: {published.size_bytes:,} bytes; as a patch {patch:,}.")
        id_ = self._deploy(POISONED)
        view = self._watch(id_, lambda view: view.phase in _PAST)
        self.screen.print(f"   It halted itself: {view.reason}.", soft_wrap=True)
        self.screen.print(f"   {view.reached} of {SIMULATED + 1} devices were offered it.")
        for each in self._get(f"/v1/deployments/{id_}/devices?standing=failed")["devices"]:
            self.screen.print(f"   {each['device']}: {each['detail']}", soft_wrap=True)
        self.hq.ask(self.client, "POST", f"/v1/devices/{REAL}/commands", {"name": "report", "timeout_s": 20})
        real = self._get(f"/v1/devices/{REAL}")
        health = real["health"]
        self.screen.print(
            f"   {REAL} still runs {real['have'][0]['version']}: {health['uptime_s']:.0f} s without a break, "
            f"{health['cameras_online']} of {health['cameras']} cameras, {health['fps']:.1f} pictures/s.",
            soft_wrap=True,
        )

    def _deploy(self, version: str) -> str:
        names = [REAL, *_names()]
        id_ = next(
            name
            for name in (f"{DETECTOR}-{version.replace('.', '-')}-{number}" for number in count(1))
            if min(names, key=lambda device: rank(name, device)) == REAL
        )
        body = {
            "id": id_, "kind": "model", "name": DETECTOR, "version": version, "selector": "all",
            "waves": _WAVES, "pace": _PACE, "trial": _TRIAL,
        }  # fmt: skip
        self.hq.ask(self.client, "POST", "/v1/deployments", body)
        return id_

    def _watch(self, id_: str, done: Callable[[DeploymentView], bool]) -> DeploymentView:
        """Tell of each wave as it opens, until it is done."""
        told, began_s = -1, time.monotonic()

        def look() -> DeploymentView:
            nonlocal told
            view = self.hq.deployment(self.client, id_)
            while told < view.wave:
                told += 1
                who = "Canary" if told == 0 else f"Wave {told + 1}"
                self.screen.print(
                    f"   {time.monotonic() - began_s:5.1f} s  {who}: {view.waves[told].devices} more devices."
                )
            return view

        self._until(lambda: done(look()), f"the rollout {id_} does not end")
        view = look()
        standings = {
            key: sum(wave.standings.get(key, 0) for wave in view.waves)
            for key in ("succeeded", "failed", "timed-out", "reverted")
        }
        counts = ", ".join(f"{number} {key}" for key, number in standings.items() if number)
        self.screen.print(f"   {time.monotonic() - began_s:5.1f} s  {view.phase}: {counts}.")
        return view

    def _get(self, path: str) -> Any:
        return self.hq.ask(self.client, "GET", path)

    def _until(self, done: Callable[[], bool], problem: str) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        while not done():
            if time.monotonic() > end_s:
                raise RemoteError(problem, retryable=False, do=f"See the logs in {self.hq.folder.parent}")
            time.sleep(0.25)


def _names() -> Sequence[str]:
    return [f"sim-{number:02d}" for number in range(1, SIMULATED + 1)]


@contextmanager
def _crowd(hq: Headquarters, client: httpx.Client, folder: Path) -> Generator[Crowd]:
    def manner(device: str, wanted: Wanted) -> Manner:
        if wanted.version != POISONED:
            return Manner.GOOD
        return Manner.SILENT if device.endswith(("3", "6", "9")) else Manner.FAILS

    invited = [
        Invitation(name, _PROFILE, {"region": "west" if number % 2 else "east"})
        for number, name in enumerate(_names())
    ]
    broker = enrol(client, invited, folder / "simulated")
    pace = Pace(fetch_s=1.0, trial_s=2.0)
    simulated = devices(
        _names(),
        hq.tenant,
        _PROFILE,
        manner=manner,
        pace=pace,
        dice=random.random,
    )
    wardrobe = Wardrobe(folder / "simulated")
    with Crowd(simulated, (broker.host, broker.port), context_of=wardrobe.context_of) as crowd:
        yield crowd


@contextmanager
def real_device(
    hq: Headquarters, client: httpx.Client, folder: Path, name: str, settings: str
) -> Generator[Path]:
    """Enrol an agent and run it, as a person would.

    Args:
        hq: Where.
        client: Of the manager, with a token that may invite.
        folder: Gets a folder of that name with everything of the device, and its log beside it.
        name: Of the device.
        settings: Its `store.yaml`; `pedestrians.mp4` is beside it, and `fleet` is where it enrols.

    Yields:
        The device's folder.

    Raises:
        RemoteError: It was not enrolled.
    """
    store = folder / name
    store.mkdir(parents=True)
    (store / "store.yaml").write_text(settings, "utf-8")
    with as_file(files("edge_runtime") / "media" / "pedestrians.mp4") as clip:
        shutil.copy(clip, store / clip.name)
    asked = {"device": name, "labels": {"region": "west"}, "expires_s": 600}
    token = hq.ask(client, "POST", "/v1/enrolments", asked)["token"]
    command = (sys.executable, "-m", "edge_runtime")
    where = ("--token", token, "--name", name, "--ca", str(hq.authority), "--folder", "fleet")
    with (folder / f"{name}.log").open("ab") as log:
        enrolled = subprocess.run(
            (*command, "enrol", hq.url, *where), cwd=store, stdout=log, stderr=log, check=False
        )
        if enrolled.returncode:
            raise RemoteError(f"{name} was not enrolled", retryable=False, do=f"See {folder / name}.log")
        process = subprocess.Popen(
            (*command, "run", "store.yaml"),
            cwd=store,
            stdout=log,
            stderr=log,
            env={**os.environ, "NO_COLOR": "1"},
        )
        try:
            yield store
        finally:
            process.terminate()
            process.wait()


def _clear(folder: Path) -> None:
    mark = folder / ".demo-fleet"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise StorageError(
            f"demo: {folder} has other files in it", do="Name a folder of its own: --out FOLDER"
        )
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.touch()
    except OSError as error:
        raise StorageError(f"demo: {folder} cannot be written: {error.strerror}") from error


def _linger(screen: Console, hq: Headquarters, *, keep: bool) -> None:
    """Leave time to look at the console, where somebody is there to look."""
    look = f"   Look at {hq.url}/console; your browser does not know the fleet's own authority, and says so."
    if keep:
        screen.print(f"\n{look} Ctrl-C ends it.", soft_wrap=True)
        while True:
            time.sleep(3600)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        screen.print(f"\n{look} Enter ends it.", soft_wrap=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
