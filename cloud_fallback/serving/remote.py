"""A repository behind a URL, by fsspec: what is there, and copies of it in a local cache.

A bundle's files are fetched once, into a folder named after the digest of its manifest, and are checked as a
packed bundle is: nothing that the manifest does not name, nothing longer than it says. Opens no model.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from edge_runtime.archive import MAX_BYTES, ZIP, Entry, open_any_bundle, receive
from edge_runtime.atomic import new_file
from edge_runtime.bundle import MANIFEST, ModelBundle, open_bundle
from edge_runtime.contract.errors import BundleError, ConfigError, StorageError

_BLOCK = 1 << 20
_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A bundle behind the URL.

    Args:
        path: As the file system names its folder or its `.zip`.
        url: For a person.
    """

    path: str
    url: str

    @property
    def name(self) -> str:
        """Of its folder or file, without an ending."""
        return PurePosixPath(self.path).name.removesuffix(ZIP)

    @property
    def packed(self) -> bool:
        """Whether it is a `.zip`."""
        return self.path.lower().endswith(ZIP)


class RemoteFolder:
    """A folder that fsspec opens.

    Args:
        url: Of the folder.
        cache: Where copies are kept; None: `edge-runtime/bundles` in the user's cache.
    """

    def __init__(self, url: str, cache: Path | None) -> None:
        self._url = url.rstrip("/")
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._cache = cache or home / "edge-runtime" / "bundles"
        self._opened: tuple[Any, str] | None = None

    def bundles(self) -> list[Place]:
        """List the bundles: folders with a manifest and archives, at the top and one below.

        Raises:
            StorageError: It cannot be listed.
            ConfigError: fsspec, or what it needs for this kind of URL, is missing.
        """
        files, root = self._fs()
        with _talking(self._url):
            files.invalidate_cache()
            if not files.exists(root):
                raise StorageError(
                    f"repository {self._url}: nothing is there", do="Check the URL and who may read it"
                )
            names = [str(name) for name in files.find(root, maxdepth=3)]
        found: list[Place] = []
        for name in sorted(names):
            # Not as a path: of `http://host`, which some file systems name files by, that makes `http:/host`.
            folder, _, file = name.rpartition("/")
            depth = name[len(root) :].strip("/").count("/") + 1
            if file == MANIFEST:
                found.append(self._place(folder if depth > 1 else root))
            elif file.lower().endswith(ZIP) and depth <= 2:
                found.append(self._place(name))
        return found

    def manifest(self, place: Place) -> bytes:
        """Read a bundle's manifest.

        Raises:
            StorageError: It cannot be fetched.
            BundleError: An archive is damaged.
        """
        if place.packed:
            folder = open_any_bundle(self._fetched(place), cache=self._cache).root
            return (folder / MANIFEST).read_bytes()
        files, _ = self._fs()
        with _talking(place.url), files.open(f"{place.path}/{MANIFEST}", "rb") as stream:
            return cast(bytes, stream.read(_MANIFEST_BYTES))

    def open(self, place: Place, *, trusted: Sequence[Path] | None) -> ModelBundle:
        """Open the local copy of a bundle, which is made if there is none.

        Args:
            place: Of `bundles`.
            trusted: As for `open_bundle`.

        Raises:
            BundleError: It is damaged, or not signed by who is trusted.
            StorageError: It cannot be fetched, or the cache cannot be written.
        """
        if place.packed:
            return open_any_bundle(self._fetched(place), trusted=trusted, cache=self._cache)
        folder = self._cache / hashlib.sha256(self.manifest(place)).hexdigest()
        if not folder.is_dir():
            receive(self._entries(place), folder, title=f"bundle {place.url}", trusted=trusted)
        return open_bundle(folder, trusted=trusted)

    def _fs(self) -> tuple[Any, str]:
        if self._opened is None:
            try:
                import fsspec.core  # noqa: PLC0415 - an extra, imported when a URL is given

                opened = cast(Any, fsspec.core).url_to_fs(self._url)
            except (ImportError, ValueError) as error:
                raise ConfigError(
                    f"repository {self._url}: cannot be opened here ({error})",
                    do="Install fsspec and the package of this kind of URL, such as s3fs for s3://",
                ) from error
            self._opened = opened[0], str(opened[1]).rstrip("/")
        return self._opened

    def _place(self, path: str) -> Place:
        files, _ = self._fs()
        return Place(path, str(files.unstrip_protocol(path)))

    def _entries(self, place: Place) -> list[Entry]:
        files, _ = self._fs()
        with _talking(place.url):
            names = [str(name) for name in files.find(place.path)]
        open_one: Callable[[str], IO[bytes]] = partial(files.open, mode="rb")
        return [Entry(name[len(place.path) :].lstrip("/"), partial(open_one, name)) for name in names]

    def _fetched(self, place: Place) -> Path:
        """Fetch an archive, unless the one that was fetched is still the one that is there."""
        files, _ = self._fs()
        with _talking(place.url):
            tag = str(files.ukey(place.path))
        name = hashlib.sha256(f"{place.url}\n{tag}".encode()).hexdigest()
        file = self._cache / "fetched" / f"{name}{ZIP}"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with _talking(place.url), files.open(place.path, "rb") as stream, new_file(file) as out:
                for block in _blocks(stream, place):
                    out.write(block)
        return file


def _blocks(stream: IO[bytes], place: Place) -> Iterator[bytes]:
    count = 0
    while block := stream.read(_BLOCK):
        count += len(block)
        if count > MAX_BYTES:
            raise BundleError(f"bundle {place.url}", expected=f"at most {MAX_BYTES:,} bytes", got="more")
        yield block


@contextmanager
def _talking(url: str) -> Generator[None]:
    """Turn what a file system raises into a sentence; each of them has errors of its own."""
    try:
        yield
    except (BundleError, StorageError):
        raise
    except Exception as error:
        raise StorageError(
            f"repository {url}: cannot be read", got=f"{type(error).__name__}: {error}"[:300],
            do="Check the URL, the credentials and the network",
        ) from error  # fmt: skip
