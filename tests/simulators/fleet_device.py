"""A device of a fleet: the real one over simulated ports, with hands that note what they are told.

`python -m tests.simulators.fleet_device FOLDER PORT` runs one until it is killed.
"""

import random
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from pydantic import JsonValue

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.fleet import Health
from edge_runtime.fleet.assemble import link_options
from edge_runtime.fleet.device import FleetDevice
from edge_runtime.fleet.enrolment import (
    AUTHORITY,
    CERTIFICATE,
    FILE,
    KEY,
    TUF_ROOT,
    Enrolled,
    Enrolment,
    load,
)
from edge_runtime.fleet.outbound import presence
from edge_runtime.fleet.paho_link import LinkOptions, PahoLink
from tests.simulators.fleet_broker import TENANT, FleetBroker
from tests.simulators.updates import World


def noise(height: int, width: int) -> bytes:
    """A picture that does not compress."""
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@dataclass
class NotedHands:
    """Does nothing, and notes it."""

    allows_snapshots: bool = True
    picture: bytes = b""
    done: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    may_go_on: threading.Event = field(default_factory=threading.Event)
    result: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])

    def restart_pipeline(self, camera: str | None) -> None:
        self.done.append(("restart", camera))
        if camera == "nowhere":
            raise InputError("camera nowhere", expected="one of door")

    def set_log_level(self, level: str, seconds: float | None) -> None:
        self.done.append(("log", level, seconds))

    def snapshot(self, camera: str) -> bytes:
        self.done.append(("snapshot", camera))
        return self.picture or noise(48, 64)

    def benchmark(self, seconds: float) -> dict[str, JsonValue]:
        self.done.append(("benchmark", seconds))
        assert self.may_go_on.wait(30)
        return self.result

    def health(self) -> Health:
        return Health(cameras=2, cameras_online=1)


@dataclass
class LiveWorld(World):
    """As `World`, but time goes by; the calendar may be off."""

    off_s: float = 0.0

    def now_s(self) -> float:
        return time.time() + self.off_s

    def steady_s(self) -> float:
        return time.monotonic()


def enrolled(folder: Path, broker: FleetBroker, name: str = "d1", *, port: int | None = None) -> Enrolment:
    """Make the files of a device that a manager has enrolled."""
    (folder / "tuf").mkdir(parents=True, exist_ok=True)
    certificate = broker.issue(name)
    for file, source in (
        (CERTIFICATE, certificate), (KEY, certificate.with_suffix(".key")), (AUTHORITY, broker.ca)
    ):  # fmt: skip
        (folder / file).write_bytes(source.read_bytes())
    (folder / TUF_ROOT).write_text("{}")
    kept = Enrolled.model_validate(
        {
            "tenant": TENANT, "device": name, "profile": "store-pc", "manager_url": "https://127.0.0.1:1",
            "broker": {"host": "127.0.0.1", "port": port or broker.port}, "device_token": "t" * 32,
        }
    )  # fmt: skip
    (folder / FILE).write_text(kept.model_dump_json())
    return load(folder)


def quick(enrolment: Enrolment) -> LinkOptions:
    return replace(link_options(enrolment), retry_first_s=0.05, retry_longest_s=0.2, will_delay_s=0)


def device(
    enrolment: Enrolment,
    world: World,
    hands: NotedHands | None = None,
    *,
    options: LinkOptions | None = None,
    report_every_s: float = 300.0,
) -> FleetDevice:
    """Put a device together, impatient where it matters."""
    will = presence(enrolment.topics, online=False, time=None)
    link = PahoLink(options or quick(enrolment), enrolment.topics.taken(), will, dice=random.random)
    return FleetDevice(
        enrolment, world.updater(enrolment.folder / "updates"), hands or NotedHands(), link,
        clock=world, dice=random.random, report_every_s=report_every_s,
    )  # fmt: skip


if __name__ == "__main__":
    running = device(load(Path(sys.argv[1])), LiveWorld(sys.argv[2]))
    running.start()
    threading.Event().wait(300)
