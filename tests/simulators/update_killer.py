"""Runs one update again and again, and spoils it at every touch of the disk, one after the other.

`python -m tests.simulators.update_killer URL FOLDER STORY MODE` prints how many touches there were and what
went wrong. Each run is a child process of its own, which begins on a copy of a device with the first release.
"""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import Delta
from edge_runtime.contract.update import State
from edge_runtime.update.health import Evidence
from tests.simulators.updates import World, desired, release, removed, sha, wanted, whole

OLD, NEW = release(1), release(2)
TOUCHES = ("write", "fsync", "replace", "rename", "ftruncate", "unlink", "mkdir", "rmdir")
FULL = {"write", "fsync", "mkdir"}
"""Fail on a full disk; names can still be changed and removed."""
KILLED, SPOILED = 77, 78
GOOD = {
    "whole": (sha(NEW), State.COMMITTED), "patch": (sha(NEW), State.COMMITTED),
    "spoilt patch": (sha(NEW), State.COMMITTED), "rollback": (sha(OLD), State.ROLLED_BACK),
    "removed": (None, State.IDLE),
}  # fmt: skip
"""What is active after each story, and how its update ended."""


class Spoiler:
    """Stands between a process and its disk, and strikes at the touch `at`."""

    def __init__(self, root: Path, mode: str, at: int) -> None:
        self.root, self.mode, self.at, self.count = root, mode, at, 0
        self.synced = {each.stat().st_ino: each.stat().st_size for each in root.rglob("*") if each.is_file()}
        self.real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in TOUCHES}

    def __enter__(self) -> "Spoiler":
        for name in TOUCHES:
            setattr(os, name, self.wrapped(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self.real.items():
            setattr(os, name, real)

    def wrapped(self, name: str) -> Callable[..., Any]:
        def touch(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.mode == "full" and self.count >= self.at and name in FULL:
                if name == "write":  # a full disk takes what still fits
                    self.real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.count == self.at and self.mode == "torn":
                if name == "write":
                    self.real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                os._exit(KILLED)
            if self.count == self.at and self.mode == "power":
                self.lose()
                os._exit(KILLED)
            if name == "unlink":
                self.synced.pop(
                    os.stat(args[0], dir_fd=kwargs.get("dir_fd")).st_ino, None
                ) if os.path.lexists(args[0]) else None
            result = self.real[name](*args, **kwargs)
            if name == "fsync":
                found = os.fstat(args[0])
                self.synced[found.st_ino] = found.st_size
            if self.count == self.at and self.mode == "after":
                os._exit(KILLED)
            return result

        return touch

    def lose(self) -> None:
        """Forget what was written and never flushed, as a loss of power does."""
        for each in self.root.rglob("*"):
            if each.is_file() and each.stat().st_size > self.synced.get(each.stat().st_ino, 0):
                os.truncate(each, self.synced.get(each.stat().st_ino, 0))


def world_of(url: str, story: str) -> World:
    bad = Evidence(not_finite=1) if story == "rollback" else Evidence()
    return World(url, evidence=bad)


def second(url: str, story: str, deployment: str = "second") -> Any:
    deltas: tuple[Delta, ...] = ()
    if story in {"patch", "spoilt patch"}:
        patch = Path(os.environ["PATCH"]).read_bytes()
        deltas = (Delta(base_sha256=sha(OLD), target="patch", size_bytes=len(patch), sha256=sha(patch)),)
    return wanted(2, NEW, deltas, deployment=deployment)


def update(root: Path, url: str, story: str) -> None:
    world = world_of(url, story)
    updater = world.updater(root)
    if updater.desired_seq < 2:
        updater.desire(removed(2) if story == "removed" else desired(2, second(url, story)))
    world.settle(updater)


def run(root: Path, url: str, story: str, mode: str, at: int) -> None:
    """The child's part: ends with `KILLED` where the strike came, and with 0 where it never did."""
    with Spoiler(root, mode, at) as spoiler:
        try:
            update(root, url, story)
        except StorageError:
            assert mode == "full"
        except AssertionError:
            assert mode == "full", "it did not settle"
        struck = spoiler.count >= at
    os._exit(SPOILED if struck else 0)


def strike(template: Path, root: Path, url: str, story: str, mode: str, at: int) -> tuple[bool, str | None]:
    """Spoil one run; say whether that touch exists, and what went wrong."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template, root)
    child = os.fork()
    if child == 0:
        try:
            run(root, url, story, mode, at)
        except BaseException as error:  # noqa: BLE001, told to the parent by the exit status
            print(f"{at}: {error!r}", file=sys.stderr)
            os._exit(3)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        return False, None
    good, ends = GOOD[story]
    try:
        assert code in {KILLED, SPOILED}, f"exit status {code}"
        assert whole(root) in {sha(OLD), good}, "right after the strike"
        update(root, url, story)
        have = world_of(url, story).updater(root).have()[0]
        if mode == "full" and have.state in {State.FAILED, State.ROLLED_BACK}:
            assert whole(root) == sha(OLD)
            world = world_of(url, story)
            updater = world.updater(root)
            updater.desire(desired(3, second(url, story, "third")))
            world.settle(updater)
            have = updater.have()[0]
        assert whole(root) == good, "after the restart"
        assert have.state is ends, f"state {have.state}, {have.code}: {have.detail}"
    except (AssertionError, StorageError) as error:
        return True, f"{mode} {at}: {error}"
    return True, None


def main(url: str, folder: Path, story: str, mode: str) -> None:
    template, root = folder / "template", folder / "device"
    world = World(url)
    first = world.updater(template)
    first.desire(desired(1, wanted(1, OLD)))
    world.settle(first)
    violations: list[str] = []
    for at in range(1, 1000):
        there, wrong = strike(template, root, url, story, mode, at)
        if not there:
            print(json.dumps({"touches": at - 1, "violations": violations}))
            return
        if wrong:
            violations.append(wrong)
    raise AssertionError("the update never ends")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4])
