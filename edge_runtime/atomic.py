"""Files and folders that appear whole or not at all: written beside their place, flushed, then renamed.

Knows nothing of what is inside. Of two processes that write one place the last one wins; threads that do so
are the caller's to prevent.
"""

import ctypes
import glob
import os
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from edge_runtime.contract.errors import StorageError

_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux's renameat2(2) and RENAME_SWAP of macOS's renamex_np(2)."""
_HERE = -100
"""AT_FDCWD of Linux."""


@contextmanager
def new_folder(target: Path, *, may_replace: Callable[[Path], object]) -> Generator[Path, None, None]:
    """Give an empty folder that takes the place of `target` when the block ends well.

    A block that raises leaves `target` as it was. So does a kill, at any moment, and the next writer removes
    what it left beside. Only where the file system cannot exchange two folders at once (Windows, some network
    disks) an older folder lies at `.NAME.PID.old` for the moment between two renames.

    Args:
        target: Where the folder goes; its parents are made.
        may_replace: Called before anything is written with `target` where that is a folder already; raises
            where it must stay.

    Raises:
        StorageError: The disk is full, read-only or broken, or `target` is a file.
    """
    target = target.resolve()  # `.` has no name to put another folder beside, and a link stays a link
    part, old = (target.with_name(f".{target.name}.{os.getpid()}.{kind}") for kind in ("part", "old"))
    try:
        if target.is_dir():
            may_replace(target)
        elif target.exists():
            raise StorageError(f"{target}: is a file", do="Choose another place for the folder")
        _sweep(target)
        part.mkdir(parents=True)
        try:
            yield part
            _flush(part)
            _put(part, target, old)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise cannot_write(target, error) from error


@contextmanager
def new_file(target: Path) -> Generator[IO[bytes], None, None]:
    """Give an empty file that takes the place of `target`, and of what is there, when the block ends well.

    Args:
        target: Where the file goes; its folder is made.

    Raises:
        StorageError: The disk is full, read-only or broken.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
        flush_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        with suppress(OSError):  # where it was never made, or is in its place
            part.unlink()


def _sweep(target: Path) -> None:
    """Remove what writers left that were killed, and what this process left."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        pid = left.suffixes[-2][1:] if len(left.suffixes) > 1 else ""
        if pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            shutil.rmtree(left, ignore_errors=True)


def cannot_write(path: Path, error: OSError) -> StorageError:
    """Make the error for a file or folder that cannot be written."""
    where = f" ({error.filename})" if error.filename and Path(str(error.filename)) != path else ""
    return StorageError(
        f"{path}: cannot be written",
        got=f"{error.strerror or error}{where}",
        do="Free the disk or allow this user to write there, then start again",
    )


def _put(part: Path, target: Path, old: Path) -> None:
    if not target.exists():
        part.rename(target)
    elif not _exchange(part, target):
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        part.rename(target)
    flush_folder(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step.

    Returns:
        Whether that was done; False where the system or the disk cannot.
    """
    if sys.platform == "win32":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return libc.renamex_np(*paths, _EXCHANGE) == 0
        return libc.renameat2(_HERE, paths[0], _HERE, paths[1], _EXCHANGE) == 0
    except AttributeError:  # a C library without the call
        return False


def _flush(folder: Path) -> None:
    """Bring files and entries to the disk, so that a power cut after the rename finds them whole."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            flush_folder(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """Have the names in a folder survive a loss of power.

    Raises:
        OSError: The disk is read-only or broken.
    """
    if sys.platform == "win32":  # which opens no folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
