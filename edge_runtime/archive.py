"""Packed bundles: a `.zip` becomes a folder, or nothing at all.

Trusts no archive: no name may leave the folder, no entry may be anything but a plain file that the manifest
names, and none may be longer than the manifest says, so that no bomb goes off. Packs nothing:
`converters.bundle.archive` does.
"""

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from edge_runtime.atomic import new_folder
from edge_runtime.bundle import MANIFEST, ModelBundle, open_bundle, parse_manifest
from edge_runtime.contract.errors import BundleError, StorageError
from edge_runtime.signature import SIGNATURE

ZIP = ".zip"
MAX_BYTES = 64 << 30
"""A bundle that says it is larger is no bundle."""
_MANIFEST_BYTES = 16 << 20
_SIGNATURE_BYTES = 64 << 10
_MAX_ENTRIES = 10_000
_MAX_RATIO = 200
"""Weights deflate to 0.5 of their size, sparse ones to 0.05; deflate's limit is 1/1032."""
_SMALL_BYTES = 64 << 20
"""Below this no ratio matters."""
_BLOCK = 1 << 20
_RESERVED = frozenset('<>:"|?*')
"""Windows has no file of such a name; a colon names a drive or a stream."""


class UnsafeArchiveError(BundleError):
    """An archive is not merely damaged: it would write outside its folder, or fill the disk."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a packed bundle.

    Args:
        name: Relative to the bundle, with slashes.
        open: Gives its content, which may be longer than anything says.
    """

    name: str
    open: Callable[[], IO[bytes]]


def open_any_bundle(
    path: Path, *, trusted: Sequence[Path] | None = None, cache: Path | None = None
) -> ModelBundle:
    """Open a bundle's folder, or its `.zip` by way of a folder that is kept.

    Args:
        path: A folder or a `.zip`.
        trusted: As for `open_bundle`.
        cache: Where unpacked bundles are kept, each under its archive's digest; None: `edge-runtime/bundles`
            in the user's cache (`XDG_CACHE_HOME`). Nothing is removed from it.

    Raises:
        BundleError: As for `open_bundle` and `unpack`.
        ConfigError: As for `open_bundle`.
        StorageError: The cache cannot be written.
    """
    if path.suffix.lower() != ZIP or path.is_dir():
        return open_bundle(path, trusted=trusted)
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(
            f"bundle {path}", expected="a readable file", got=error.strerror or str(error)
        ) from error
    folder = (cache or _user_cache()) / sha256
    if not folder.is_dir():
        unpack(path, folder, trusted=trusted)
    return open_bundle(folder, trusted=trusted)


def unpack(archive: Path, target: Path, *, trusted: Sequence[Path] | None = None) -> ModelBundle:
    """Unpack a `.zip` and check it, whole or not at all.

    Args:
        archive: The file.
        target: The folder to make; it must not exist, or be empty.
        trusted: As for `open_bundle`.

    Raises:
        BundleError: The archive is damaged or hostile, or what is in it is no sound bundle.
        ConfigError: As for `open_bundle`.
        StorageError: The disk is full, read-only or broken, or something is at `target`.
    """
    with _opened(archive) as file:
        entries = _entries(file, archive)
        return receive(
            entries, target, title=f"archive {archive}", packed=archive.stat().st_size, trusted=trusted
        )


def receive(
    entries: Sequence[Entry],
    target: Path,
    *,
    title: str,
    packed: int | None = None,
    trusted: Sequence[Path] | None = None,
) -> ModelBundle:
    """Write a packed bundle's files into a folder, and check them, whole or not at all.

    Args:
        entries: The files, in any order.
        target: The folder to make; it must not exist, or be empty.
        title: What messages call the package.
        packed: Its size in bytes, which bounds what may come out of it; None: it is not compressed.
        trusted: As for `open_bundle`.

    Raises:
        BundleError: A name, a size or the content is not what it should be.
        ConfigError: As for `open_bundle`.
        StorageError: The disk is full, read-only or broken, or something is at `target`.
    """
    by_name = _checked_names(entries, title)
    first = by_name.get(MANIFEST)
    if first is None:
        raise BundleError(
            title,
            expected=f"a packed bundle, with {MANIFEST} at its top",
            got=", ".join(sorted(by_name)[:3]) or "an empty one",
            do="Pack the folder itself, not the folder around it: edge-runtime bundle pack",
        )
    with new_folder(target, may_replace=_only_empty) as part, _called(part, title):
        content = _manifest(first, part, title)
        limits = _Limits(ModelBundle(part, parse_manifest(content, f"{MANIFEST} in {title}")), title, packed)
        limits.check_room(part)
        for name, entry in by_name.items():
            if name != MANIFEST:
                _write(entry, part / name, limits, title)
        bundle = open_bundle(part, trusted=trusted)
    return ModelBundle(target, bundle.manifest)


def why_unsafe(name: str) -> str | None:
    """Say why a name must not be written into a folder.

    Args:
        name: As the package has it.

    Returns:
        The reason; None for a plain relative name.
    """
    parts = PurePosixPath(name).parts
    if not parts or any(ord(sign) < 32 for sign in name):
        return "is empty or has control characters"
    if name.startswith("/") or "\\" in name or _RESERVED & set(name):
        return "is absolute, or of another system"
    if ".." in parts:
        return "leaves the folder"
    if "/".join(parts) != name:
        return "is not in its plainest form"
    return None


@contextmanager
def _called(part: Path, title: str) -> Generator[None]:
    """Call a package by its name in messages, not by the folder that it is unpacked into for the while."""
    try:
        yield
    except BundleError as error:
        problem, expected, got = (
            (text or "").replace(f"bundle {part}", title).replace(f"{part}{os.sep}", "")
            for text in (error.problem, error.expected, error.got)
        )
        if title not in problem:
            problem = f"{title}: {problem}"
        raise type(error)(problem, expected=expected or None, got=got or None, do=error.do) from error


class _Limits:
    """How many bytes each file of a bundle may still have.

    A file has exactly what the manifest says; the files of a folder variant share what it says of the folder.
    """

    def __init__(self, bundle: ModelBundle, title: str, packed: int | None) -> None:
        self._left = {part.path: part.size_bytes for _, part in bundle.parts()}
        self._left[SIGNATURE] = _SIGNATURE_BYTES
        self._title = title
        self.total = sum(self._left.values())
        ratio = self.total / packed if packed else 0
        if self.total > MAX_BYTES or (self.total > _SMALL_BYTES and ratio > _MAX_RATIO):
            raise UnsafeArchiveError(
                f"{title}: says it holds {self.total:,} bytes",
                expected=f"at most {MAX_BYTES:,}, and {_MAX_RATIO} times its packed size",
                got=f"{ratio:,.0f} times its packed size",
                do="Do not unpack it: this is how a zip bomb looks",
            )

    def check_room(self, folder: Path) -> None:
        """Refuse early what the disk has no room for."""
        free = shutil.disk_usage(folder).free
        if self.total > free:
            raise StorageError(
                f"{folder.parent}: has no room for {self._title}",
                expected=f"{self.total:,} bytes free",
                got=f"{free:,}",
                do="Free the disk",
            )

    def owner(self, name: str) -> str:
        """Give what the manifest names of a file: itself, or the folder it is in."""
        above = (str(parent) for parent in PurePosixPath(name).parents)
        owner = next((one for one in (name, *above) if one in self._left), None)
        if owner is None:
            raise BundleError(
                f"{self._title}: has a file that its manifest does not name",
                got=name,
                do="Pack the bundle again: edge-runtime bundle pack",
            )
        return owner

    def take(self, owner: str, name: str, count: int) -> None:
        """Count bytes of a file."""
        self._left[owner] -= count
        if self._left[owner] < 0:
            raise UnsafeArchiveError(
                f"{self._title}: '{name}' is longer than its manifest says",
                do="Do not unpack it: it is damaged, or a zip bomb",
            )


def _checked_names(entries: Iterable[Entry], title: str) -> dict[str, Entry]:
    """Refuse what is no plain relative name, and two names that are one file on some disk."""
    found: dict[str, Entry] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        folded = PurePosixPath(entry.name.casefold())
        above = {str(parent) for parent in folded.parents}
        why = why_unsafe(entry.name)
        if why is None and str(folded) in files:
            why = "is there twice"
        elif why is None and (str(folded) in folders or above & files):
            why = "is a file and a folder"
        if why is not None:
            raise UnsafeArchiveError(f"{title}: the name {entry.name!r} {why}", do="Do not unpack it")
        files.add(str(folded))
        folders |= above
        found[entry.name] = entry
    return found


def _manifest(entry: Entry, part: Path, title: str) -> bytes:
    with _reading(title), entry.open() as stream:
        content = stream.read(_MANIFEST_BYTES + 1)
    if len(content) > _MANIFEST_BYTES:
        raise BundleError(f"{title}: its {MANIFEST} is longer than {_MANIFEST_BYTES:,} bytes")
    (part / MANIFEST).write_bytes(content)
    return content


def _write(entry: Entry, path: Path, limits: _Limits, title: str) -> None:
    owner = limits.owner(entry.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for block in _blocks(entry, title):
            limits.take(owner, entry.name, len(block))
            out.write(block)


def _blocks(entry: Entry, title: str) -> Iterator[bytes]:
    with _reading(title), entry.open() as stream:
        while block := stream.read(_BLOCK):
            yield block


@contextmanager
def _opened(archive: Path) -> Generator[zipfile.ZipFile]:
    with _reading(f"archive {archive}"):
        try:
            file = zipfile.ZipFile(archive)
        except OSError as error:
            raise BundleError(
                f"archive {archive}", expected="a readable file", got=error.strerror or str(error)
            ) from error
    with file:
        yield file


@contextmanager
def _reading(title: str) -> Generator[None]:
    """Turn what zipfile raises into a sentence; OSError: a damaged offset, or a damaged disk."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise BundleError(
            f"{title}: is damaged or no archive", got=str(error), do="Copy or download it again"
        ) from error


def _entries(file: zipfile.ZipFile, archive: Path) -> list[Entry]:
    # `filename` is what zipfile made of a name; `orig_filename` is what was written, tricks included.
    infos = [info for info in file.infolist() if not info.orig_filename.endswith("/")]
    if len(infos) > _MAX_ENTRIES:
        raise BundleError(
            f"archive {archive}", expected=f"at most {_MAX_ENTRIES:,} files", got=f"{len(infos):,}"
        )
    for info in infos:
        mode = info.external_attr >> 16
        why = ""
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            raise UnsafeArchiveError(
                f"archive {archive}: '{info.filename}' is a symbolic link or a device, not a file",
                do="Do not unpack it",
            )
        if info.flag_bits & 0x1:
            why = "is encrypted"
        elif info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            why = "is compressed in a way that is not deflate"
        if why:
            raise BundleError(
                f"archive {archive}: '{info.filename}' {why}", do="Pack it again: edge-runtime bundle pack"
            )
    return [Entry(info.orig_filename, partial(file.open, info)) for info in infos]


def _only_empty(target: Path) -> None:
    if any(target.iterdir()):
        raise StorageError(f"{target}: is there already", do="Choose another place, or remove it")


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "edge-runtime" / "bundles"
