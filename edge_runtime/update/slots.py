"""Two slots a name, A and B, and the small file that says which of them is active.

The file is replaced in one rename, so that a name has exactly one active version at every moment, on file
systems without links too. The other slot holds the version before, or the candidate for the next one. Loads
nothing and unpacks nothing.
"""

import shutil
from pathlib import Path

from pydantic import ValidationError

from edge_runtime.atomic import cannot_write, new_file
from edge_runtime.contract.deployment import Slot
from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.task import Declared
from edge_runtime.update.journal import sealed, unsealed
from edge_runtime.update.record import Version


class Pointer(Declared):
    """Which slot counts.

    Args:
        active: What runs; None: nothing was ever installed.
        candidate: What stands its trial; None: nothing does.
        a: What slot A holds.
        b: What slot B holds.
    """

    active: Slot | None = None
    candidate: Slot | None = None
    a: Version | None = None
    b: Version | None = None

    @property
    def free(self) -> Slot:
        """The slot that does not run."""
        return Slot.B if self.active is Slot.A else Slot.A

    def held(self, slot: Slot | None) -> Version | None:
        """What a slot holds."""
        return {None: None, Slot.A: self.a, Slot.B: self.b}[slot]

    def versions(self) -> tuple[Version, ...]:
        """Give all versions that are held."""
        return tuple(each for each in (self.a, self.b) if each is not None)

    def holding(self, slot: Slot, version: Version | None) -> "Pointer":
        """Give the pointer with another version in a slot."""
        return self.model_copy(update={slot.value.lower(): version})


class Slots:
    """The slots of one name.

    Args:
        folder: All slots of the device.
        kind: As in `Wanted`.
        name: As in `Wanted`.
    """

    def __init__(self, folder: Path, kind: Kind, name: str) -> None:
        self.kind: Kind = kind
        self.name = name
        self._folder = folder / kind / name
        self._file = self._folder / "pointer"

    def read(self) -> Pointer:
        """Read which slot counts.

        Raises:
            StorageError: The file cannot be read, or was damaged by the disk.
        """
        try:
            content = unsealed(self._file.read_bytes())
        except FileNotFoundError:
            return Pointer()
        except OSError as error:
            raise StorageError(f"{self._file}: cannot be read", got=error.strerror or str(error)) from error
        try:
            return Pointer.model_validate_json(content or b"")
        except ValidationError as error:
            raise StorageError(
                f"{self._file}: is damaged",
                expected="a line with its checksum",
                do="Check the disk; remove the folder and install the version again",
            ) from error

    def folder(self, slot: Slot) -> Path:
        """Say where a slot's files are."""
        return self._folder / slot.value

    def active(self) -> tuple[Version, Path] | None:
        """Give the active version and its folder; None: nothing was ever installed.

        Raises:
            StorageError: As for `read`.
        """
        pointer = self.read()
        version = pointer.held(pointer.active)
        if pointer.active is None or version is None:
            return None
        return version, self.folder(pointer.active)

    def vacate(self) -> Path:
        """Empty the slot that does not run.

        Returns:
            Its folder, which is not there.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """
        pointer = self.read()
        free = pointer.free
        emptied = pointer.holding(free, None).model_copy(update={"candidate": None})
        if emptied != pointer:  # first the name, then the files: nothing names half a folder
            self._write(emptied)
        folder = self.folder(free)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
        return folder

    def offer(self, version: Version) -> None:
        """Name what lies in the free slot as the candidate.

        Raises:
            StorageError: There is nothing in it, or the disk is full, read-only or broken.
        """
        pointer = self.read()
        if not self.folder(pointer.free).is_dir():
            raise StorageError(f"{self.folder(pointer.free)}: is gone", do="Check the disk")
        self._write(pointer.holding(pointer.free, version).model_copy(update={"candidate": pointer.free}))

    def commit(self, sha256: str) -> None:
        """Make the candidate the active version; the one before stays in its slot.

        Args:
            sha256: Of the candidate; where it is active already, nothing is done.

        Raises:
            StorageError: There is no such candidate, or the disk is full, read-only or broken.
        """
        pointer = self.read()
        active, candidate = pointer.held(pointer.active), pointer.held(pointer.candidate)
        if candidate is not None and candidate.sha256 == sha256:
            self._write(pointer.model_copy(update={"active": pointer.candidate, "candidate": None}))
        elif active is None or active.sha256 != sha256:
            raise StorageError(f"{self._file}: candidate", expected=sha256, got=str(candidate))

    def drop(self) -> None:
        """Give the candidate up, and what lies unnamed in the free slot.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """
        pointer = self.read()
        if pointer.candidate is not None or pointer.held(pointer.free) is None:
            self.vacate()

    @property
    def empty(self) -> bool:
        """Whether nothing is installed and nothing lies about.

        Raises:
            StorageError: As for `read`.
        """
        return self.read() == Pointer() and not any(self.folder(slot).exists() for slot in Slot)

    def forget(self) -> None:
        """Have neither version any more; their files stay until `sweep`.

        Raises:
            StorageError: The disk is full, read-only or broken.
        """
        if self.read() != Pointer():
            self._write(Pointer())

    def sweep(self) -> None:
        """Remove the files of both slots, which `forget` has let go of.

        Raises:
            StorageError: The disk is read-only or broken.
        """
        for slot in Slot:
            try:
                if self.folder(slot).exists():
                    shutil.rmtree(self.folder(slot))
            except OSError as error:
                raise cannot_write(self.folder(slot), error) from error

    def _write(self, pointer: Pointer) -> None:
        with new_file(self._file) as stream:
            stream.write(sealed(pointer.model_dump_json().encode()))


def all_slots(folder: Path) -> list[Slots]:
    """Find every name that has slots."""
    kinds: tuple[Kind, ...] = ("model", "settings", "labels")
    return [
        Slots(folder, kind, each.name)
        for kind in kinds
        if (folder / kind).is_dir()
        for each in sorted((folder / kind).iterdir())
        if each.is_dir()
    ]
