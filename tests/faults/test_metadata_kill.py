"""The device is killed at every touch that metadata makes of the disk, or loses power: it believes on."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_fallback.fleet.trust.ceremony import next_root
from cloud_fallback.fleet.trust.roles import seal
from edge_runtime.contract.errors import StorageError
from edge_runtime.update.metadata import TufMetadata
from tests.simulators.trust import NOW_S, Fleet

TOUCHES = ("replace", "symlink", "remove", "unlink", "fsync", "mkdir")


class KilledError(BaseException):
    """The process ends here."""


class Killer:
    """Stands between metadata and the disk; strikes at the touch `at`, before or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0
        self.synced: set[int] = set()
        for name in TOUCHES:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def touch(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.at and not self.after:
                raise KilledError
            result = real(*args, **kwargs)
            if name == "fsync":
                self.synced.add(os.fstat(args[0]).st_ino)
            if self.count == self.at:
                raise KilledError
            return result

        return touch

    def lose(self, folder: Path) -> None:
        """Forget what was never flushed, as a loss of power does."""
        for each in folder.rglob("*"):
            if each.is_file() and not each.is_symlink() and each.stat().st_ino not in self.synced:
                os.truncate(each, 0)


class Story:
    """A device that knows release 1; then there are a second root and release 2."""

    def __init__(self, folder: Path) -> None:
        self.fleet = Fleet(folder)
        self.folder = folder / "tuf"
        self.folder.mkdir()
        (self.folder / "root.json").write_bytes(self.fleet.first.root)
        self.one = self.fleet.release(1)
        self.look(self.one, 1)
        self.fleet.now_s += 1
        root = seal(next_root(self.fleet.first.root, NOW_S), self.fleet.root_keys)
        self.fleet.repository.accept("root", root, self.fleet.now_s)
        self.two = self.fleet.release(2)

    def look(self, path: str, counter: int) -> int:
        def answer(request: httpx.Request) -> httpx.Response:
            content = self.fleet.repository.read(request.url.path.removeprefix("/tuf/"))
            if content is None:
                return httpx.Response(404)
            return httpx.Response(200, stream=httpx.ByteStream(content))

        metadata = TufMetadata(
            self.folder,
            "https://manager.test/tuf",
            lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)),
        )
        return metadata.look_up(self.fleet.wanted(path, counter), self.fleet.now_s).counter


@pytest.mark.parametrize("mode", ["before", "after", "power"])
def test_every_touch_of_the_disk(tmp_path: Path, mode: str) -> None:
    struck = 0
    for at in range(1, 200):
        story = Story(tmp_path / f"{mode}-{at}")
        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, at, after=mode == "after")
            try:
                assert story.look(story.two, 2) == 2
            except KilledError:
                struck += 1
        if killer.count < at:
            break
        if mode == "power":
            killer.lose(story.folder / "cache")
        assert story.look(story.two, 2) == 2, f"after a strike at touch {at}"
        assert not list((story.folder / "cache").glob("tmp*"))
    assert struck > 15, "the hook saw the roles, the roots and their flushing"


def test_a_full_disk_is_said_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    story = Story(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "NamedTemporaryFile", full)
        with pytest.raises(StorageError, match="No space left"):
            story.look(story.two, 2)
    assert story.look(story.two, 2) == 2
