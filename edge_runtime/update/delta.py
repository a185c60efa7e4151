"""Patches: zstd with the old file as the prefix of the new one (its `--patch-from`).

Decides neither whether a patch pays nor whether its result is right: the digest of the whole file does.
"""

import mmap
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from edge_runtime.atomic import cannot_write, new_file
from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.preflight import patch_memory_bytes, window_log

MIN_BASE_BYTES = 8
"""zstd takes no shorter prefix."""
MAX_BYTES = 1 << 30
"""Of base and result together: zstd's window is 2 GiB at most, and a device has to hold it."""
_BLOCK = 1 << 18


def make_delta(base: Path, new: Path, patch: Path) -> int:
    """Make the patch that leads from one file to another.

    Args:
        base: The file that devices have; at least 8 bytes.
        new: The file that they should have.
        patch: Where the patch goes.

    Returns:
        Its size in bytes; it may be larger than `new`, and then nobody should fetch it.

    Raises:
        ConfigError: zstd is not installed, or a file is too small or too large for a patch.
        StorageError: A file cannot be read or written.
    """
    zstd = _zstd()
    both = base.stat().st_size + new.stat().st_size
    if base.stat().st_size < MIN_BASE_BYTES or new.stat().st_size == 0 or both > MAX_BYTES:
        raise ConfigError(
            f"patch from {base} to {new}",
            expected=f"a base of {MIN_BASE_BYTES} bytes or more, and {MAX_BYTES:,} together",
            got=f"{base.stat().st_size:,} and {new.stat().st_size:,}",
            do="Publish the whole file",
        )
    parameter = zstd.CompressionParameter
    options = {
        parameter.window_log: window_log(both),
        # Finds matches anywhere in the old file; without it only near the same place.
        parameter.enable_long_distance_matching: 1,
        parameter.checksum_flag: 1,
    }
    with _mapped(base) as old, _mapped(new) as content:
        prefix = zstd.ZstdDict(old, is_raw=True).as_prefix
        made: bytes = zstd.compress(content, options=options, zstd_dict=prefix)
    with new_file(patch) as stream:
        stream.write(made)
    return len(made)


def apply_delta(
    base: Path,
    patch: Path,
    out: IO[bytes],
    *,
    size_bytes: int,
    max_memory_bytes: int,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Make the new file from the old one and a patch.

    Args:
        base: The file that the patch starts from.
        patch: As `make_delta` made it.
        out: Takes the new file.
        size_bytes: Of the new file; not a byte more is written.
        max_memory_bytes: Bound of what this may take.
        stop: Asked between blocks; where it says so, the rest is not made.

    Returns:
        Whether all of it was made.

    Raises:
        ConfigError: zstd is not installed.
        StorageError: A file cannot be read, or `out` cannot be written.
        UpdateFailedError: The patch is damaged, starts from another file, or needs more memory.
    """
    zstd = _zstd()
    needed = patch_memory_bytes(base.stat().st_size, size_bytes)
    if needed > max_memory_bytes:
        raise UpdateFailedError(
            Failure.NO_MEMORY,
            f"patch {patch.name}",
            expected=f"{needed:,} bytes of memory",
            got=f"{max_memory_bytes:,}",
        )
    options = {zstd.DecompressionParameter.window_log_max: window_log(size_bytes)}
    try:
        with _mapped(base) as old, patch.open("rb") as stream:
            machine = zstd.ZstdDecompressor(
                zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix, options=options
            )
            return _undo(machine, stream, out, size_bytes, stop)
    except zstd.ZstdError as error:
        raise _broken(patch, str(error)) from error
    except EOFError as error:
        raise _broken(patch, "it ends too early") from error
    except OSError as error:
        raise cannot_write(patch, error) from error


def _undo(machine: Any, stream: IO[bytes], out: IO[bytes], size_bytes: int, stop: Callable[[], bool]) -> bool:
    left = size_bytes
    while not machine.eof:
        if stop():
            return False
        block = stream.read(_BLOCK) if machine.needs_input else b""
        if machine.needs_input and not block:
            raise EOFError
        made = machine.decompress(block, max_length=min(_BLOCK, left + 1))
        left -= len(made)
        if left < 0:
            raise _broken(Path(stream.name), f"more than the {size_bytes:,} bytes promised")
        out.write(made)
    if left:
        raise _broken(Path(stream.name), f"{size_bytes - left:,} bytes of {size_bytes:,}")
    return True


def _broken(patch: Path, got: str) -> UpdateFailedError:
    return UpdateFailedError(
        Failure.DELTA_BROKEN, f"patch {patch.name}", expected="a zstd patch for this base", got=got
    )


@contextmanager
def _mapped(path: Path) -> Generator[mmap.mmap]:
    """Give a file's bytes without holding them twice."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read", got=str(error)) from error


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        with suppress(ImportError):
            return import_module(name)
    raise ConfigError(
        "patches", expected="zstd", got="none installed", do="Install it: pip install 'edge-runtime[fleet]'"
    )
