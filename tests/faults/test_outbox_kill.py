"""The process is killed at every step of the outbox's way: nothing promised is lost, nothing done twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.routing.outbox import Outbox
from tests.simulators.cloud import HALF, Cloud, Does, Seen, answers, cloud_of, sentiment, until

ROOT = Path(__file__).parents[2]
STEPS = (
    "before the first is kept",
    "after the first is kept",
    "before it is sent",
    "after the cloud did it",
    "between the parcel's end and its answer",
    "after its answer is kept",
    "before the caller is told",
    "after the caller is told",
)

CHILD = """
import os, signal, sys, threading, time
from pathlib import Path
from edge_runtime.routing.channel import Channel, ChannelOptions
from edge_runtime.routing.cloud_client import CloudClient
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.parcel import Kind, Parcel
from edge_runtime.routing.privacy import Gate
from edge_runtime.routing.sender import Sender

path, url, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def die_at(here):
    if here == step:
        os.kill(os.getpid(), signal.SIGKILL)

class Box(Outbox):
    def put(self, parcel, now_s):
        die_at("before the first is kept")
        kept = super().put(parcel, now_s)
        print("kept", parcel.key, flush=True)
        die_at("after the first is kept")
        return kept

    def settle(self, *told):
        # The statement that keeps the answer runs after the one that ends the parcel.
        trace = lambda said: "INTO answers" in said and die_at("between the parcel's end and its answer")
        self._database.do(lambda connection: connection.set_trace_callback(trace))
        super().settle(*told)
        die_at("after its answer is kept")

    def told(self, keys):
        super().told(keys)
        die_at("after the caller is told")

class Client(CloudClient):
    def send(self, outgoing, timeout_s):
        die_at("before it is sent")
        outcome = super().send(outgoing, timeout_s)
        die_at("after the cloud did it")
        return outcome

def on_late(late):
    die_at("before the caller is told")
    print("told", late.key, flush=True)

box, gauge = Box(path, max_bytes=10**6, max_age_s=10**6), CloudGauge()
for number in range(3):
    key, kind = f"key-{number}", "application/json"
    box.put(Parcel(key, "one stream", Kind.ESCALATION, "/v1/predict/m", kind, b"{}"), time.time())
client = Client(Channel(ChannelOptions(url)), gauge, lambda *_: None)
sender = Sender(box, client, online=lambda: True, on_late=on_late, gate=Gate({}), on_withheld=print)
while len(box) or box.untold(1):
    time.sleep(0.01)
sender.close()
client.close()
box.close()
print("drained", flush=True)
"""


def child(path: Path, cloud: Cloud, step: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path), cloud.url, step],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_nothing_is_lost_and_nothing_done_twice(tmp_path: Path, step: str) -> None:
    path = tmp_path / "outbox.sqlite"
    with cloud_of(answers()) as cloud:
        killed = child(path, cloud, step)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        acknowledged = [line.split()[1] for line in killed.stdout.splitlines() if line.startswith("kept")]
        box = Outbox(path, max_bytes=10**6, max_age_s=10**6)
        known = [key for key in acknowledged if box.waits(key) or box.answer(key)]
        assert known == acknowledged
        box.close()
        again = child(path, cloud, "never")
        assert again.stdout.splitlines()[-1] == "drained", again.stderr
        keys = [f"key-{number}" for number in range(3)]
        assert sorted(cloud.applied, key=lambda key: cloud.applied[key]) == keys
        box = Outbox(path, max_bytes=10**6, max_age_s=10**6)
        assert all(box.answer(key) for key in keys)
        assert (len(box), box.poisoned()) == (0, ())
        box.close()
    told = [
        line.split()[1] for line in (killed.stdout + again.stdout).splitlines() if line.startswith("told")
    ]
    if step != "after the caller is told":
        assert told == keys
    else:
        assert sorted(set(told)) == keys  # those of its round were told before the kill


def before_it_did_anything(cloud: Cloud, seen: Seen) -> None:
    """Reads, and is gone."""


def after_it_did_it(cloud: Cloud, seen: Seen) -> None:
    """Does what was asked, and is gone before it says so."""
    cloud.do(seen)


def in_the_middle_of_its_answer(cloud: Cloud, seen: Seen) -> tuple[int, dict[str, str], bytes]:
    """Says how much will come, and is gone after half of it."""
    cloud.do(seen)
    return 200, {"content-type": "application/json", HALF: "1"}, sentiment()


@pytest.mark.parametrize("dies", [before_it_did_anything, after_it_did_it, in_the_middle_of_its_answer])
def test_the_cloud_killed_at_a_step_is_asked_again(tmp_path: Path, dies: Does) -> None:
    path = tmp_path / "outbox.sqlite"
    with cloud_of(dies) as cloud:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), cloud.url, "never"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        until(lambda: cloud.seen, "a first try")
        port, before = cloud.port, dict(cloud.applied)
    with cloud_of(answers(), port) as cloud:
        cloud.applied |= before  # its idempotency keys are on its disk
        out, _ = process.communicate(timeout=60)
        assert out.splitlines()[-1] == "drained"
        assert list(cloud.applied) == ["key-0", "key-1", "key-2"]
        assert len(set(cloud.applied.values())) == 3
    box = Outbox(path, max_bytes=10**6, max_age_s=10**6)
    assert all(box.answer(f"key-{number}") for number in range(3))
    box.close()


def test_a_full_disk_keeps_what_it_has_and_says_so(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from edge_runtime.contract.errors import StorageError
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.parcel import Kind, Parcel

def parcel(key, size):
    return Parcel(key, key, Kind.ESCALATION, "/p", "t", bytes(size))

box = Outbox(Path(sys.argv[1]), max_bytes=10**8, max_age_s=10**6)
box.put(parcel("first", 10), 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for number in range(3):
    try:
        box.put(parcel(f"big-{number}", 400_000), 0)
    except StorageError as error:
        print(error)
print(len(box), [one.parcel.key for one in box.heads()])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
box.put(parcel("second", 10), 0)
print(len(box), [one.parcel.key for one in box.heads()])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "outbox.sqlite")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == 0, done.stderr
    *refusals, kept, after = done.stdout.splitlines()
    assert len(refusals) == 3
    assert all(
        "cannot keep what is owed to the cloud" in said and "Free the disk" in said for said in refusals
    )
    assert kept == "1 ['first']"
    assert after == "2 ['first', 'second']"
