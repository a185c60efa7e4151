"""A fleet at the desk with three releases, of which one fails; desks are closed together at a test's end."""

from cloud_fallback.fleet.bus import Heard
from cloud_fallback.fleet.database.connection import Database
from cloud_fallback.fleet.simulation.behaviour import Manner
from edge_runtime.contract.fleet import Have, Reported, Wanted
from edge_runtime.fleet.parsing import encode
from tests.simulators.fleet_desk import TENANT, Desk

NAMES = [f"d{n:02}" for n in range(40)]
FAST = {"soak_s": 600, "timeout_s": 3600}
_OPEN: list[Desk] = []


def close_all() -> None:
    while _OPEN:
        _OPEN.pop().close()


def by_version(device: str, wanted: Wanted) -> Manner:
    """A version's name says how devices take it."""
    return Manner(wanted.version.partition("-")[0])


def desk(database: Database, names: list[str] = NAMES, **fields: object) -> Desk:
    made = Desk(database, names, manner=by_version, **fields)  # type: ignore[arg-type]
    _OPEN.append(made)
    for counter, version in enumerate(["good-1", "fails-2", "good-3"], 1):
        made.release(version, counter)
    made.step()
    return made


def deploy(made: Desk, id_: str, version: str, until: str, **fields: object) -> None:
    made.deploy(id_, version, **{"pace": FAST, **fields})
    made.run(6 * 3600, until=lambda: made.view(id_).phase == until)
    assert made.view(id_).phase == until


def reported(made: Desk, name: str, have: Have, **fields: object) -> Heard:
    seq = {"seq": 10**15 + len(made.bus.sent), "desired_seq": made.devices[name].desired_seq}
    report = Reported(
        device=name, time="2026-02-01T00:00:00Z", profile="store-pc", agent="1", have=(have,),
        **{**seq, **fields},  # type: ignore[arg-type]
    )  # fmt: skip
    return Heard(f"v1/{TENANT}/d/{name}/reported", encode(report))
