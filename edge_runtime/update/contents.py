"""Makes a slot's folder from a fetched file: bundles are unpacked, settings and labels checked and copied.

Trusts no archive, though its digest was signed: `edge_runtime.archive` does the unpacking.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_runtime.archive import UnsafeArchiveError, unpack
from edge_runtime.atomic import new_folder
from edge_runtime.bundle import open_bundle
from edge_runtime.contract.errors import BundleError, ConfigError, StorageError
from edge_runtime.contract.fleet import Wanted
from edge_runtime.contract.update import Failure, UpdateFailedError

SETTINGS = "store.yaml"
"""What settings are called in their slot."""
LABELS = "labels.txt"
"""What labels are called in their slot."""
_MAX_TEXT_BYTES = 8 << 20
"""Of settings or labels."""


class Contents:
    """What may be in a file of each kind.

    Args:
        trusted: Public keys (PEM files) of which one must have signed a bundle; None: the signed metadata is
            enough.
        check_settings: Raises ConfigError where a settings file is not valid.
    """

    def __init__(self, *, trusted: Sequence[Path] | None, check_settings: Callable[[Path], object]) -> None:
        self._trusted = trusted
        self._check_settings = check_settings

    def unpack(self, wanted: Wanted, file: Path, folder: Path) -> None:
        """Make a slot's folder, whole or not at all; as the port says."""
        if wanted.kind == "model":
            self._unpack_bundle(wanted, file, folder)
            return
        if file.stat().st_size > _MAX_TEXT_BYTES:
            raise _invalid(wanted, f"at most {_MAX_TEXT_BYTES:,} bytes", f"{file.stat().st_size:,}")
        with new_folder(folder, may_replace=_never) as part:
            if wanted.kind == "settings":
                shutil.copyfile(file, part / SETTINGS)
                try:
                    self._check_settings(part / SETTINGS)
                except ConfigError as error:
                    raise UpdateFailedError(Failure.CONFIG_INVALID, str(error)) from error
            else:
                _check_labels(wanted, file)
                shutil.copyfile(file, part / LABELS)

    def _unpack_bundle(self, wanted: Wanted, file: Path, folder: Path) -> None:
        try:
            name = unpack(file, folder).manifest.name
        except UnsafeArchiveError as error:
            raise UpdateFailedError(Failure.ARCHIVE_UNSAFE, str(error)) from error
        except BundleError as error:
            raise UpdateFailedError(Failure.ARCHIVE_BROKEN, str(error)) from error
        if name != wanted.name:
            raise UpdateFailedError(
                Failure.ARCHIVE_BROKEN,
                f"{wanted.target}: the bundle in it",
                expected=f"the name {wanted.name}",
                got=name,
                do="Publish it under its own name",
            )
        if self._trusted is None:
            return
        try:
            open_bundle(folder, trusted=self._trusted, check_files=False)
        except BundleError as error:
            raise UpdateFailedError(Failure.SIGNATURE, str(error)) from error


def _check_labels(wanted: Wanted, file: Path) -> None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _invalid(wanted, "UTF-8", str(error)) from error
    if not lines or not all(line.strip() for line in lines):
        raise _invalid(wanted, "one label a line", "an empty line or file")


def _invalid(wanted: Wanted, expected: str, got: str) -> UpdateFailedError:
    return UpdateFailedError(
        Failure.CONFIG_INVALID, f"{wanted.kind} {wanted.name} {wanted.version}", expected=expected, got=got
    )


def _never(folder: Path) -> None:
    raise StorageError(f"{folder}: is there already")
