"""The device is killed at every touch of the disk, loses power, its disk fills up: one stays whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.contract.update import Failure, State
from edge_runtime.update.delta import make_delta
from tests.simulators.range_server import Files, serving
from tests.simulators.updates import World, desired, release, sha, wanted, whole

ROOT = Path(__file__).parents[2]
OLD, NEW = release(1), release(2)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["after", "torn", "power", "full"])
@pytest.mark.parametrize("story", ["whole", "patch", "spoilt patch", "rollback", "removed"])
def test_every_touch_of_the_disk(story: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "new").write_bytes(NEW)
    make_delta(tmp_path / "old", tmp_path / "new", tmp_path / "patch")
    patch = (tmp_path / "patch").read_bytes()
    served = patch if story != "spoilt patch" else patch[:-1] + bytes([patch[-1] ^ 1])
    content = {"labels-1": OLD, "labels-2": NEW, "patch": served}
    with serving(Files(content)) as files:
        ran = subprocess.run(
            [sys.executable, "-m", "tests.simulators.update_killer", files.url, tmp_path, story, mode],
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
            cwd=ROOT,
            env={**os.environ, "PATCH": str(tmp_path / "patch")},
        )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    print(story, mode, found["touches"])
    assert found["violations"] == [], ran.stderr
    least = 10 if story == "removed" else 40
    assert found["touches"] > least, "the hook saw the journal, parts, slots and pointer"


class KilledError(BaseException):
    """The process ends here."""


def test_two_kills_in_the_trial_roll_it_back(tmp_path: Path) -> None:
    def die() -> None:
        raise KilledError

    root = tmp_path / "device"
    with serving(Files({"labels-1": OLD, "labels-2": NEW})) as files:
        world = World(files.url)
        updater = world.updater(root)
        updater.desire(desired(1, wanted(1, OLD)))
        world.settle(updater)
        updater.desire(desired(2, wanted(2, NEW)))
        world.on_trial = die
        for _ in range(2):
            with pytest.raises(KilledError):
                world.settle(updater)
            assert whole(root) == sha(OLD)
            updater = world.updater(root)
        world.settle(updater)
    (have,) = updater.have()
    assert (have.state, have.code) == (State.ROLLED_BACK, Failure.CRASHED_IN_TRIAL)
    assert whole(root) == sha(OLD)
