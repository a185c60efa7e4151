"""A manager is killed (-9) at commits and publishes of a rollout; another one goes on from the database."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet.database import audit, rollouts
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.simulation.behaviour import Manner
from edge_runtime.contract.fleet import Wanted
from tests.simulators.fleet_desk import Desk
from tests.simulators.manager_databases import opened

NAMES = [f"d{n:02}" for n in range(6)]
POINTS = [f"{what}:{n}" for what in ("commit", "committed") for n in range(1, 6)] + ["publish:1", "publish:2"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with opened("sqlite", tmp_path) as found:
        yield found


def by_version(device: str, wanted: Wanted) -> Manner:
    return Manner(wanted.version.partition("-")[0])


@pytest.mark.parametrize("manner", ["good", "fails"])
@pytest.mark.parametrize("point", POINTS)
def test_another_manager_goes_on(
    database: Database, tmp_path: Path, repository: Path, point: str, manner: str
) -> None:
    desk = Desk(database, NAMES, manner=by_version)
    killed = False
    try:
        desk.release(f"{manner}-1", 1)
        desk.step()
        wave = {"waves": [{"share": 0.4}, {"share": 1.0}], "pace": {"soak_s": 600, "timeout_s": 3600}}
        desk.deploy("one", f"{manner}-1", **wave)
        desk.now_s += 10
        for _ in range(3):  # each time another process begins, and dies
            desk.close()
            killed |= _die(desk, tmp_path, repository, point)
            desk.replace_manager()
            desk.run(90)
        end = "completed" if manner == "good" else "reverted"
        desk.run(8 * 3600, until=lambda: desk.view("one").phase == end)
        assert desk.view("one").phase == end
        with database.read() as tx:
            assert audit.verify(tx) is None
            kept = rollouts.load(tx)
        memory = desk.operator._conductor.rollouts
        assert [each.head for each in kept] == [each.head for each in memory]
    finally:
        desk.close()
    assert killed, f"no process died at {point}"
    expected = "good-1" if manner == "good" else None
    assert set(desk.versions().values()) == {expected}
    assert len({name for _, name, _ in desk.heard}) == (len(NAMES) if manner == "good" else 2)


def _die(desk: Desk, folder: Path, repository: Path, point: str) -> bool:
    bus_file = folder / "bus.jsonl"
    bus_file.write_text("".join(json.dumps([each.topic, each.payload.decode()]) + "\n" for each in desk.mail))
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.simulators.fleet_killer", f"sqlite:///{folder}/manager.db",
            str(bus_file), point, str(desk.now_s),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode in {0, -9}, done.stderr
    if done.returncode == 0:
        desk.mail.clear()
    # What was not settled the broker sends again: the mail stays. What was published came to devices.
    for line in done.stdout.splitlines():
        topic, payload = json.loads(line)
        desk.bus.retained[topic] = payload.encode()
        name = topic.split("/")[3]
        if topic.endswith("/desired") and name in desk.online:
            desk._hand_over(name, topic, payload.encode())
    return done.returncode == -9
