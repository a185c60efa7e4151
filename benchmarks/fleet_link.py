"""Control during a download: how long a command to a real device takes while bytes fill its slow line.

Broker, manager, link, updater and downloader are the real ones; the line is a TCP proxy whose one queue,
first in, first out, holds both the download and MQTT. The download takes all it gets: the device has no cap.
"""

import os
import tempfile
import time
from pathlib import Path

from score import Score, console

from cloud_fallback.fleet.simulation.bare_device import BareDevice, enrol_behind
from cloud_fallback.fleet.simulation.headquarters import Headquarters
from cloud_fallback.fleet.simulation.remodel import DETECTOR, make_version
from cloud_fallback.fleet.simulation.uplink import Uplink
from edge_runtime.contract.update import State

LINE_BYTES_PER_S = 1_000_000
QUEUE_BYTES = 48 << 10
DEVICE = "slow-line"
COMMANDS = 200
EXTRA_BYTES = 10_000_000


def measure_link(score: Score) -> None:
    """Ask a device things while it downloads; compare with the same before it does."""
    with tempfile.TemporaryDirectory() as name, Headquarters(Path(name) / "hq") as hq, hq.client() as client:
        folder = Path(name)
        ports = {"api": hq.api_port, "broker": hq.broker_port}
        with (
            Uplink(ports, LINE_BYTES_PER_S, QUEUE_BYTES) as uplink,
            BareDevice(enrol_behind(hq, client, uplink, DEVICE)) as device,
        ):

            def control_s() -> float:
                began_s = time.perf_counter()
                asked = {"name": "report", "timeout_s": 30}
                if not hq.ask(client, "POST", f"/v1/devices/{DEVICE}/commands", asked)["ok"]:
                    raise SystemExit("a command was not done")
                return time.perf_counter() - began_s

            until_s = time.monotonic() + 60
            while not hq.ask(client, "GET", f"/v1/devices/{DEVICE}")["online"]:
                if time.monotonic() > until_s:
                    raise SystemExit("the device does not come online")
                time.sleep(0.1)
            idle = sorted(control_s() for _ in range(COMMANDS))
            _publish(hq, folder)
            body = {"kind": "model", "name": DETECTOR, "version": "1.0.0", "waves": [{"share": 1.0}]}
            hq.ask(client, "POST", "/v1/deployments", body)
            while not any(each.state is State.DOWNLOADING for each in device.have()):
                if time.monotonic() > until_s + 60:
                    raise SystemExit(f"nothing is downloaded: {device.have()}")
                time.sleep(0.01)
            busy: list[float] = []
            passed, began_s = uplink.passed_bytes, time.monotonic()
            while device.have()[0].state is State.DOWNLOADING and len(busy) < COMMANDS:
                busy.append(control_s())
            rate = (uplink.passed_bytes - passed) / (time.monotonic() - began_s)
    busy.sort()
    console.print(
        f"{len(busy)} commands during the download, which took {rate / 1e3:.0f} kB/s", highlight=False
    )
    if len(busy) < COMMANDS // 2 or rate < 0.7 * LINE_BYTES_PER_S:
        raise SystemExit(f"that was no full line: {len(busy)} commands, {rate:.0f} bytes/s")
    score.figure("control_idle_p99_ms", 1e3 * _p99(idle))
    score.figure("control_p50_ms", 1e3 * busy[len(busy) // 2])
    score.at_most("control_during_download_p99_ms", 1e3 * _p99(busy), 100.0)


def _publish(hq: Headquarters, folder: Path) -> None:
    """Release the shipped detector with so many random bytes behind it that there is time to measure."""
    source = make_version(folder / "bundle", "1.0.0", lambda model: model + os.urandom(EXTRA_BYTES))
    hq.publish(source, hq.delegate("model", DETECTOR))


def _p99(sorted_s: list[float]) -> float:
    return sorted_s[min(len(sorted_s) - 1, int(0.99 * len(sorted_s)))]
