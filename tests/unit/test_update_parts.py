"""The parts of an update: journal, slots, patches, preflight, trial, contents, windows."""

import io
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.contract.bundle import BundleManifest
from edge_runtime.contract.deployment import Slot
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.fleet import Delta, Trial, Window
from edge_runtime.contract.update import Failure, State, UpdateFailedError
from edge_runtime.update.contents import Contents
from edge_runtime.update.delta import apply_delta, make_delta
from edge_runtime.update.health import Evidence, judge
from edge_runtime.update.journal import Journal
from edge_runtime.update.preflight import Facts, check
from edge_runtime.update.record import Ended, Record, Trusted, Update, Version
from edge_runtime.update.slots import Slots
from edge_runtime.update.window import is_open
from tests.simulators.range_server import Files, serving
from tests.simulators.updates import World, desired, release, sha, wanted, whole

OLD, NEW = release(1), release(2)


def record(seq: int) -> Record:
    ended = Ended(deployment="d", state=State.FAILED, code=Failure.NO_DISK, detail="x" * 50)
    return Record(seq=seq, trusted_time_s=1.5, updates=(Update(kind="model", name="m", ended=ended),))


def test_the_last_whole_record_wins_wherever_the_file_ends(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    assert journal.read() == Record()
    ends = [0]
    for seq in range(3):
        journal.write(record(seq))
        ends.append(path.stat().st_size)
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        torn = Journal(path)
        seq = sum(size >= end for end in ends) - 2
        assert torn.read() == (record(seq) if seq >= 0 else Record())
        assert torn.damaged == (size not in ends)
    path.write_bytes(content[:-3])
    torn = Journal(path)
    torn.read()
    torn.write(record(7))
    assert Journal(path).read() == record(7)
    flipped = bytearray(path.read_bytes())
    flipped[-20] ^= 1
    path.write_bytes(flipped)
    assert Journal(path).read() == record(1)


def test_a_journal_stays_small(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.read()
    for seq in range(1500):
        journal.write(record(seq))
    assert (tmp_path / "journal").stat().st_size <= 64 * 2**10
    assert Journal(tmp_path / "journal").read() == record(1499)


def test_a_lost_journal_loses_no_version(tmp_path: Path) -> None:
    with serving(Files({"labels-1": OLD})) as files:
        world = World(files.url)
        updater = world.updater(tmp_path)
        updater.desire(desired(1, wanted(1, OLD)))
        world.settle(updater)
    (tmp_path / "journal").write_bytes(b"\0" * 500)
    again = world.updater(tmp_path)
    assert again.journal_damaged
    assert (again.have()[0].version, whole(tmp_path)) == ("1.0.0", sha(OLD))


def test_a_damaged_pointer_is_an_error_and_nothing_is_removed(tmp_path: Path) -> None:
    slots = Slots(tmp_path, "model", "m")
    (slots.vacate() / "x").mkdir(parents=True)
    slots.offer(Version(version="1", sha256="0" * 64, counter=1))
    slots.commit("0" * 64)
    slots.commit("0" * 64)
    assert slots.active() is not None
    with pytest.raises(StorageError):
        slots.commit("1" * 64)
    pointer = tmp_path / "model" / "m" / "pointer"
    pointer.write_bytes(pointer.read_bytes().replace(b'"counter":1', b'"counter":2'))
    with pytest.raises(StorageError):
        slots.drop()
    assert slots.folder(used(slots)).is_dir()


def used(slots: Slots) -> Slot:
    return Slot.A if slots.folder(Slot.A).is_dir() else Slot.B


def test_a_patch_leads_to_the_new_file_from_its_base_only(tmp_path: Path) -> None:
    for name, content in (("old", OLD), ("new", NEW), ("other", OLD[::-1])):
        (tmp_path / name).write_bytes(content)
    old, new, patch = tmp_path / "old", tmp_path / "new", tmp_path / "patch"
    assert make_delta(old, new, patch) < len(NEW) // 10
    size, room = len(NEW), 1 << 20

    def code(base: Path, size: int = size, room: int = room) -> Failure:
        with pytest.raises(UpdateFailedError) as caught:
            apply_delta(base, patch, io.BytesIO(), size_bytes=size, max_memory_bytes=room)
        return caught.value.code

    out = io.BytesIO()
    assert apply_delta(old, patch, out, size_bytes=size, max_memory_bytes=room)
    assert out.getvalue() == NEW
    assert not apply_delta(
        old, patch, io.BytesIO(), size_bytes=size, max_memory_bytes=room, stop=lambda: True
    )
    assert code(tmp_path / "other") is Failure.DELTA_BROKEN
    assert code(old, size=size - 1) is Failure.DELTA_BROKEN
    assert code(old, size=size + 1) is Failure.DELTA_BROKEN
    assert code(old, room=1000) is Failure.NO_MEMORY
    patch.write_bytes(patch.read_bytes()[:-9])
    assert code(old) is Failure.DELTA_BROKEN
    patch.write_bytes(b"not zstd")
    assert code(old) is Failure.DELTA_BROKEN
    (tmp_path / "tiny").write_bytes(b"x")
    with pytest.raises(ConfigError):
        make_delta(tmp_path / "tiny", new, patch)


PATCH = Delta(base_sha256=sha(OLD), target="p", size_bytes=100, sha256="1" * 64)
WANTED = wanted(2, NEW, (PATCH,))


def trusted(**change: object) -> Trusted:
    base = {"sha256": sha(NEW), "size_bytes": len(NEW), "counter": 2, "tenant": "acme",
            "unpacked_bytes": 1000, "memory_bytes": 500, "patches": ("1" * 64,)}  # fmt: skip
    return Trusted.model_validate({**base, **change})


def facts(**change: Any) -> Facts:
    active = Version(version="1", sha256=sha(OLD), counter=1)
    base: dict[str, Any] = {
        "profile": "pc", "tenant": "acme", "active": active, "present": {sha(OLD): len(OLD)},
        "free_bytes": 1 << 30, "reserve_bytes": 0, "free_memory_bytes": 1 << 30, "fetched_bytes": {},
    }  # fmt: skip
    return Facts(**{**base, **change})


@pytest.mark.parametrize(
    ("signed", "here", "code"),
    [
        ({"sha256": "2" * 64}, {}, Failure.METADATA_MIX_AND_MATCH),
        ({"size_bytes": 1}, {}, Failure.METADATA_MIX_AND_MATCH),
        ({"counter": 3}, {}, Failure.METADATA_MIX_AND_MATCH),
        ({"tenant": "rival"}, {}, Failure.WRONG_TENANT),
        ({"profiles": ("a", "b")}, {}, Failure.WRONG_PROFILE),
        ({}, {"active": Version(version="2", sha256="3" * 64, counter=2)}, Failure.DOWNGRADE),
        ({}, {"free_memory_bytes": 499}, Failure.NO_MEMORY),
        ({}, {"free_bytes": 100 + len(NEW) + 999}, Failure.NO_DISK),
        ({}, {"free_bytes": 100 + len(NEW) + 1000, "reserve_bytes": 1}, Failure.NO_DISK),
        ({}, {"free_bytes": len(NEW) + 999, "present": {}}, Failure.NO_DISK),
        ({}, {"free_bytes": 999, "present": {sha(NEW): 1}}, Failure.NO_DISK),
    ],
)
def test_what_preflight_refuses(signed: dict[str, object], here: dict[str, Any], code: Failure) -> None:
    with pytest.raises(UpdateFailedError) as caught:
        check(WANTED, trusted(**signed), facts(**here))
    assert caught.value.code is code


def test_preflight_picks_the_smallest_that_fits() -> None:
    def source(signed: Trusted | None = None, **here: Any) -> str | None:
        found = check(WANTED, signed or trusted(), facts(**here))
        return found.target if found else None

    assert source() == "p"
    assert source(free_bytes=100 + len(NEW) + 1000) == "p"
    assert source(free_bytes=60 + len(NEW) + 1000, fetched_bytes={"1" * 64: 40}) == "p"
    assert source(present={}) == "labels-2"
    assert source(trusted(patches=())) == "labels-2", "a patch that nobody signed"
    assert source(free_memory_bytes=len(OLD)) == "labels-2", "no memory to undo it"
    assert source(present={sha(NEW): 1}) is None
    with pytest.raises(UpdateFailedError) as caught:
        check(WANTED.model_copy(update={"full_allowed": False}), trusted(), facts(present={}))
    assert caught.value.code is Failure.DELTA_WRONG_BASE


@pytest.mark.parametrize(
    ("evidence", "code", "number"),
    [
        (Evidence(), None, ""),
        (Evidence(not_finite=3, golden_wrong=1), Failure.NOT_A_NUMBER, "3 outputs"),
        (Evidence(golden=8, golden_wrong=2, golden_worst="w"), Failure.GOLDEN_MISMATCH, "2 of 8"),
        (Evidence(calls=100, errors=1), None, ""),
        (Evidence(calls=100, errors=2), Failure.TOO_MANY_ERRORS, "2 of 100 calls failed: 0.02, limit 0.01"),
        (Evidence(latency_p95_ms=15, old_latency_p95_ms=10), None, ""),
        (Evidence(latency_p95_ms=16, old_latency_p95_ms=10), Failure.TOO_SLOW, "1.6 times, limit 1.5"),
        (Evidence(latency_p95_ms=16), None, ""),
        (Evidence(memory_bytes=400, old_memory_bytes=200), Failure.TOO_MUCH_MEMORY, "2 times"),
        (Evidence(compared=10, agreed=9), None, ""),
        (Evidence(compared=10, agreed=8), Failure.SHADOW_DISAGREES, "8 of 10"),
    ],
)
def test_verdicts_name_the_number(evidence: Evidence, code: Failure | None, number: str) -> None:
    needs = Trial(min_agreement=0.9 if evidence.compared else 0.0)
    found = judge(evidence, needs)
    assert (found.code if found else None) is code
    assert number in (found.detail if found else "")


def test_little_to_compare_on_is_no_agreement_where_one_is_asked_for() -> None:
    few = Evidence(compared=9, agreed=0)
    found = judge(few, Trial(min_agreement=0.5))
    assert found is not None
    assert found.code is Failure.SHADOW_DISAGREES
    assert judge(few, Trial()) is None


def test_a_version_that_agrees_in_nothing_is_caught_unless_that_is_meant() -> None:
    blind = Evidence(compared=26, agreed=0)
    found = judge(blind, Trial())
    assert found is not None
    assert "0 of 26" in found.detail
    assert judge(blind, Trial(min_agreement=0.0)) is None


@pytest.mark.parametrize(
    ("days", "day", "clock", "open_"),
    [
        ((), 5, "22:00", True), ((), 5, "03:59", True), ((), 5, "04:00", False), ((), 5, "21:59", False),
        ((0,), 5, "23:00", True), ((0,), 6, "03:00", True), ((0,), 6, "23:00", False),
        ((0,), 5, "03:00", False),
    ],
)  # fmt: skip
def test_a_night_belongs_to_the_day_it_begins(
    days: tuple[int, ...], day: int, clock: str, open_: bool
) -> None:
    local = datetime.fromisoformat(f"2026-01-{day:02}T{clock}")  # the 5th is a Monday
    assert is_open(Window(start="22:00", end="04:00", days=days), local) is open_


def zipped(name: str, content: bytes = b"x", mode: int = 0o100644) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)

    return write


def holding(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def bomb(path: Path) -> None:
    """A bundle whose model is far longer than its manifest says."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", manifest("detector", b"small"))
        archive.writestr("model.onnx", bytes(1 << 20))


def manifest(name: str, content: bytes) -> str:
    sha256, size = sha(content), len(content)
    made = BundleManifest.model_validate(
        {
            "name": name, "version": "1.0.0", "licence": "MIT", "source": "test", "task": {"kind": "tensors"},
            "variants": [
                {"id": "onnx", "format": "onnx", "precision": "fp32", "path": "model.onnx",
                 "sha256": sha256, "size_bytes": size},
            ],
        }
    )  # fmt: skip
    return made.model_dump_json()


def packed(path: Path, name: str = "detector") -> None:
    """A sound bundle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle.json", manifest(name, b"small"))
        archive.writestr("model.onnx", b"small")


def test_a_sound_bundle_becomes_a_slot_and_one_of_another_name_does_not(tmp_path: Path) -> None:
    contents = Contents(trusted=None, check_settings=lambda path: None)
    packed(tmp_path / "file")
    contents.unpack(wanted(1, b"x", kind="model"), tmp_path / "file", tmp_path / "slot")
    assert {each.name for each in (tmp_path / "slot").iterdir()} == {"bundle.json", "model.onnx"}
    packed(tmp_path / "other", "another")
    with pytest.raises(UpdateFailedError, match="expected the name detector, got another") as caught:
        contents.unpack(wanted(1, b"x", kind="model"), tmp_path / "other", tmp_path / "slot2")
    assert caught.value.code is Failure.ARCHIVE_BROKEN


@pytest.mark.parametrize(
    ("kind", "write", "code"),
    [
        ("model", bomb, Failure.ARCHIVE_UNSAFE),
        ("model", zipped("../evil"), Failure.ARCHIVE_UNSAFE),
        ("model", zipped("/etc/evil"), Failure.ARCHIVE_UNSAFE),
        ("model", zipped("link", mode=0o120777), Failure.ARCHIVE_UNSAFE),
        ("model", zipped("fine"), Failure.ARCHIVE_BROKEN),
        ("model", holding(b"no zip"), Failure.ARCHIVE_BROKEN),
        ("labels", holding(b""), Failure.CONFIG_INVALID),
        ("labels", holding(b"\xff"), Failure.CONFIG_INVALID),
        ("settings", holding(b"x"), Failure.CONFIG_INVALID),
    ],
)  # fmt: skip
def test_contents_that_are_refused(
    kind: str, write: Callable[[Path], object], code: Failure, tmp_path: Path
) -> None:
    def refuse(path: Path) -> None:
        raise ConfigError(f"{path.name}: cameras")

    write(tmp_path / "file")
    with pytest.raises(UpdateFailedError) as caught:
        Contents(trusted=None, check_settings=refuse).unpack(
            wanted(1, b"x", kind=kind), tmp_path / "file", tmp_path / "slot"
        )
    assert caught.value.code is code
    assert not (tmp_path / "slot").exists()
