"""An updater's stories: what a device ends with, and what it says about it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import Delta
from edge_runtime.contract.update import Failure, State, UpdateFailedError
from edge_runtime.update.delta import make_delta
from edge_runtime.update.health import Evidence
from tests.simulators.range_server import Files, serving
from tests.simulators.updates import NIGHT, World, desired, release, removed, sha, wanted, whole

OLD, NEW = release(1), release(2)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "new").write_bytes(NEW)
    make_delta(tmp_path / "old", tmp_path / "new", tmp_path / "patch")
    patch = (tmp_path / "patch").read_bytes()
    with serving(Files({"labels-1": OLD, "labels-2": NEW, "patch": patch})) as files:
        yield files


def patch_of(files: Files) -> Delta:
    patch = files.content["patch"]
    return Delta(base_sha256=sha(OLD), target="patch", size_bytes=len(patch), sha256=sha(patch))


def installed(files: Files, root: Path) -> World:
    """A device with the first release."""
    world = World(files.url)
    updater = world.updater(root)
    updater.desire(desired(1, wanted(1, OLD)))
    world.settle(updater)
    assert whole(root) == sha(OLD)
    return world


def test_a_first_version_and_a_patch_to_the_second(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    updater = world.updater(root)
    updater.desire(desired(2, wanted(2, NEW, (patch_of(files),), full_allowed=False)))
    world.settle(updater)
    (have,) = updater.have()
    assert (have.state, have.version, have.code) == (State.COMMITTED, "2.0.0", None)
    assert whole(root) == sha(NEW)
    assert [path for path, _ in files.asked] == ["labels-1", "patch"]
    assert world.adopted == [sha(OLD), sha(NEW)]
    assert {each.name for each in (root / "objects").iterdir()} == {sha(OLD), sha(NEW)}, "N-1 stays"
    again = world.updater(root)
    again.desire(desired(3, wanted(3, OLD)))
    world.settle(again)
    assert whole(root) == sha(OLD)
    assert len(files.asked) == 2, "going back fetches nothing"


def spoilt(files: Files, how: str, tmp_path: Path) -> Delta:
    """A patch that was signed, and what became of it."""
    patch = patch_of(files)
    content = files.content["patch"]
    if how == "gone":
        del files.content["patch"]
    elif how == "damaged":
        files.content["patch"] = content[:-1] + bytes([content[-1] ^ 1])
    elif how == "leads elsewhere":
        (tmp_path / "else").write_bytes(NEW[::-1])
        make_delta(tmp_path / "old", tmp_path / "else", tmp_path / "patch")
        files.content["patch"] = (tmp_path / "patch").read_bytes()
        patch = patch_of(files)
    return patch


@pytest.mark.parametrize("how", ["gone", "damaged", "leads elsewhere"])
@pytest.mark.parametrize("full_allowed", [True, False])
def test_where_a_patch_fails_the_whole_is_fetched_if_that_is_allowed(
    files: Files, tmp_path: Path, how: str, full_allowed: bool
) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    updater = world.updater(root)
    patch = spoilt(files, how, tmp_path)
    updater.desire(desired(2, wanted(2, NEW, (patch,), full_allowed=full_allowed)))
    world.settle(updater)
    (have,) = updater.have()
    paths = [path for path, _ in files.asked]
    if full_allowed:
        assert (have.state, have.version, have.code) == (State.COMMITTED, "2.0.0", None)
        assert paths == ["labels-1", "patch", "labels-2"]
        assert whole(root) == sha(NEW)
    else:
        assert have.state in {State.FAILED, State.REJECTED}
        assert have.code in {Failure.DOWNLOAD_FAILED, Failure.DIGEST}
        assert paths == ["labels-1", "patch"]
        assert whole(root) == sha(OLD)


@pytest.mark.parametrize(
    ("change", "state", "code"),
    [
        ({"evidence": Evidence(not_finite=1)}, State.ROLLED_BACK, Failure.NOT_A_NUMBER),
        ({"evidence": UpdateFailedError(Failure.OPEN_FAILED, "no")}, State.ROLLED_BACK, Failure.OPEN_FAILED),
        ({"refuses": UpdateFailedError(Failure.DIGEST, "no")}, State.REJECTED, Failure.DIGEST),
        ({"profiles": ("other",)}, State.REJECTED, Failure.WRONG_PROFILE),
        ({"free": 10}, State.FAILED, Failure.NO_DISK),
        ({"time_s": 5.0}, State.FAILED, Failure.CLOCK_BEHIND),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_and_the_old_version_stays(
    change: dict[str, object], state: State, code: Failure, files: Files, tmp_path: Path
) -> None:
    root = tmp_path / "device"
    world = World(files.url, proves_s=100.0)
    updater = world.updater(root)
    updater.desire(desired(1, wanted(1, OLD)))
    world.settle(updater)
    for name, value in change.items():
        setattr(world, name, value)
    updater.desire(desired(2, wanted(2, NEW)))
    world.settle(updater)
    (have,) = updater.have()
    assert (have.state, have.code, have.version) == (state, code, "1.0.0")
    assert have.detail
    assert whole(root) == sha(OLD)
    assert world.adopted == [sha(OLD)]
    asked = len(files.asked)
    world.settle(world.updater(root))
    assert len(files.asked) == asked, "the same deployment is not tried again"


def test_it_waits_for_its_window_and_can_be_cancelled_there(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    updater = world.updater(root)
    updater.desire(desired(2, wanted(2, NEW, window=NIGHT)))
    world.settle(updater)
    assert updater.have()[0].state is State.WAITING_WINDOW
    restarted = world.updater(root)
    world.settle(restarted)
    assert restarted.have()[0].state is State.WAITING_WINDOW
    restarted.cancel("dep-2")
    world.settle(restarted)
    assert (restarted.have()[0].state, restarted.have()[0].code) == (State.CANCELLED, Failure.CANCELLED)
    restarted.desire(desired(3, wanted(2, NEW, window=NIGHT, deployment="again")))
    world.settle(restarted)
    world.wall = world.wall.replace(hour=23)
    world.steady += 60
    world.settle(restarted)
    assert (restarted.have()[0].state, whole(root)) == (State.COMMITTED, sha(NEW))


def test_something_newer_takes_the_place_of_what_is_under_way(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "device"
    world = World(files.url)
    updater = world.updater(root)
    updater.desire(desired(1, wanted(1, OLD, window=NIGHT)))
    world.settle(updater)
    updater.desire(desired(2, wanted(2, NEW)))
    world.settle(updater)
    assert whole(root) == sha(NEW)
    with pytest.raises(UpdateFailedError) as caught:
        updater.desire(desired(2, wanted(1, OLD)))
    assert caught.value.code is Failure.MESSAGE_STALE


def test_no_version_is_good_any_more(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    updater = world.updater(root)
    updater.desire(desired(2, wanted(2, NEW)))
    world.settle(updater)
    updater.desire(removed(3))
    world.settle(updater)
    (have,) = updater.have()
    assert (have.version, have.counter, have.state, have.deployment) == (None, 0, State.IDLE, None)
    assert world.restored == 1
    assert whole(root) is None
    assert list((root / "objects").iterdir()) == []
    assert [each.name for each in (root / "slots/labels/detector").iterdir()] == ["pointer"]
    again = world.updater(root)
    world.settle(again)
    assert world.restored == 1, "once is enough"
    again.desire(desired(4, wanted(2, NEW)))
    world.settle(again)
    assert whole(root) == sha(NEW), "the same deployment may come back"


def test_what_is_removed_is_given_up_first_and_what_is_wanted_too_stays(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    updater = world.updater(root)
    updater.desire(desired(2, wanted(2, NEW, window=NIGHT)))
    world.settle(updater)
    updater.desire(removed(3, wanted(2, NEW, window=NIGHT)))
    world.settle(updater)
    assert (updater.have()[0].state, whole(root)) == (State.WAITING_WINDOW, sha(OLD))
    updater.desire(removed(4))
    world.settle(updater)
    (have,) = updater.have()
    assert (have.version, have.state, have.code) == (None, State.CANCELLED, Failure.CANCELLED)
    assert whole(root) is None


def test_going_back_is_tried_until_it_works(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    world.refuses_to_restore = True
    updater = world.updater(root)
    updater.desire(removed(2))
    for _ in range(20):
        world.steady += updater.step()
    (have,) = updater.have()
    assert have.version is None
    assert (have.code, have.detail) == (Failure.STORAGE, "what was installed is gone")
    world.refuses_to_restore = False
    world.steady += 1000
    world.settle(updater)
    (have,) = updater.have()
    assert (have.code, have.detail, world.restored) == (None, "", 1)


def test_a_trial_that_is_stopped_is_no_crash(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    world.evidence = None
    for seq in range(2, 6):
        updater = world.updater(root)
        if seq == 2:
            updater.desire(desired(seq, wanted(2, NEW)))
        world.on_trial = updater.stop
        for _ in range(12):
            updater.step()
        assert updater.have()[0].state is State.TRIAL
    world.evidence, world.on_trial = Evidence(), lambda: None
    world.settle(world.updater(root))
    assert whole(root) == sha(NEW)


def test_a_message_that_the_journal_had_no_room_for_is_not_lost(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "device"
    world = installed(files, root)
    updater = world.updater(root)
    updater.desire(desired(2, wanted(2, NEW)))

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        for _ in range(3):
            with pytest.raises(StorageError):
                updater.step()
        assert whole(root) == sha(OLD)
    world.settle(updater)
    assert whole(root) == sha(NEW)
