"""Repository: the bundles of a folder, or of a folder behind a URL, by model and version.

    DIR/bundle.json                    one bundle
    DIR/<any>/bundle.json              a model
    DIR/<any>/<any>/bundle.json        a version of a model
    DIR/<any>.zip, DIR/<any>/<any>.zip the same, packed

Names and versions are those in the manifests: they are what is signed, folders are only order. What lies
behind a URL (anything fsspec opens: `s3://`, `gs://`, `https://` with an index) is copied to a local cache
first, each bundle under its manifest's digest, so nothing is fetched twice or half. Loads no model.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias, cast

from cloud_fallback.serving.remote import RemoteFolder
from edge_runtime.archive import ZIP, open_any_bundle
from edge_runtime.bundle import MANIFEST, ModelBundle, parse_manifest
from edge_runtime.contract.bundle import BundleManifest, Format
from edge_runtime.contract.errors import BundleError, EdgeRuntimeError, StorageError

SERVED_FORMATS = frozenset({Format.ONNX, Format.ORT, Format.TFLITE, Format.OPENVINO})
"""Formats whose files are data: graphs and weights. Nothing that runs code when it is opened is served."""
_MANIFEST_BYTES = 16 << 20

Digest: TypeAlias = str


@dataclass(frozen=True, slots=True)
class Found:
    """A bundle in the repository.

    Args:
        model: Its manifest's name.
        version: Its manifest's version.
        digest: SHA-256 of its manifest: another one is another bundle, whatever its version says.
        place: For a person.
        open: Opens it, checks its files and, where keys are trusted, its signature.
    """

    model: str
    version: str
    digest: Digest
    place: str
    open: Callable[[], ModelBundle]


@dataclass(frozen=True, slots=True)
class Broken:
    """Something in the repository that looks like a bundle and cannot be served.

    Args:
        name: Its manifest's name, or its folder's where there is no manifest to be read.
        version: Its manifest's; empty: unknown.
        why: What is wrong.
    """

    name: str
    version: str
    why: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a repository.

    Args:
        models: By name, then by version, oldest first.
        broken: What cannot be served.
    """

    models: Mapping[str, Mapping[str, Found]]
    broken: Sequence[Broken]


class Repository:
    """Finds and opens bundles.

    Args:
        source: A folder, a `.zip`, or a URL of a folder.
        trusted: Public keys (PEM files), one of which must have signed a bundle; None: a signature is not
            asked for.
        cache: Where unpacked and fetched bundles are kept; None: `edge-runtime/bundles` in the user's cache.

    Attributes:
        source: As it was given.
    """

    def __init__(
        self, source: str | Path, *, trusted: Sequence[Path] | None = None, cache: Path | None = None
    ) -> None:
        self.source = str(source)
        self._trusted = trusted
        self._cache = cache
        self._remote = RemoteFolder(source, cache) if isinstance(source, str) and "://" in source else None
        self._root = Path() if self._remote else Path(source)

    def scan(self) -> Contents:
        """Look what is there; reads manifests only.

        Raises:
            StorageError: The folder or the URL cannot be listed.
        """
        models: dict[str, dict[str, Found]] = {}
        broken: list[Broken] = []
        for each in self._remote_bundles() if self._remote else self._local_bundles():
            if isinstance(each, Broken):
                broken.append(each)
                continue
            known = models.setdefault(each.model, {}).setdefault(each.version, each)
            if known.digest != each.digest:
                why = f"{each.place} has the name and version of another bundle, {known.place}"
                broken.append(Broken(each.model, each.version, why))
        ordered = {
            name: dict(sorted(versions.items(), key=lambda item: version_order(item[0])))
            for name, versions in sorted(models.items())
        }
        return Contents(ordered, broken)

    def _local_bundles(self) -> Iterator[Found | Broken]:
        try:
            places = list(_bundles_in(self._root))
        except OSError as error:
            raise StorageError(
                f"repository {self._root}",
                expected="a folder of bundles that can be read",
                got=error.strerror or str(error),
                do="Name the folder that holds the models' folders: --bundles DIR",
            ) from error
        for path in places:
            name = path.stem if path.suffix.lower() == ZIP else path.name
            open_it = partial(open_any_bundle, path, trusted=self._trusted, cache=self._cache)
            yield _found(name, str(path), partial(_read_manifest, path), open_it)

    def _remote_bundles(self) -> Iterator[Found | Broken]:
        remote = cast(RemoteFolder, self._remote)
        for place in remote.bundles():
            open_it = partial(remote.open, place, trusted=self._trusted)
            yield _found(place.name, place.url, partial(remote.manifest, place), open_it)


def servable(bundle: ModelBundle) -> ModelBundle:
    """Leave the variants of a bundle that may be served here.

    Raises:
        BundleError: There is none.
    """
    manifest = bundle.manifest
    kept = tuple(variant for variant in manifest.variants if variant.format in SERVED_FORMATS)
    if not kept:
        raise BundleError(
            f"model '{manifest.name}': has no variant that can be served",
            expected=", ".join(sorted(SERVED_FORMATS)),
            got=", ".join(sorted({variant.format for variant in manifest.variants})),
            do="Build it for a profile of a server: edge-runtime convert --profile",
        )
    ids = {variant.id for variant in kept}
    receipts = tuple(receipt for receipt in manifest.receipts if receipt.variant in ids)
    return ModelBundle(bundle.root, manifest.model_copy(update={"variants": kept, "receipts": receipts}))


@lru_cache(4096)
def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Give a key that sorts versions as people count: 1.9 before 1.10, 1.0-rc before 1.0."""
    core, _, extra = version.partition("-")
    parts = [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[^\d.+]+", core)
    ]
    return (*parts, (0, 0, extra) if extra else (0, 1, ""))


def _bundles_in(root: Path) -> Iterator[Path]:
    if root.is_file() or (root / MANIFEST).is_file():
        yield root
        return
    for child in sorted(root.iterdir()):
        if child.name.startswith("."):
            continue
        if _is_bundle(child):
            yield child
        elif child.is_dir():
            yield from (each for each in sorted(child.iterdir()) if _is_bundle(each))


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file() if path.is_dir() else path.suffix.lower() == ZIP


def _read_manifest(path: Path) -> bytes:
    if path.is_dir():
        return (path / MANIFEST).read_bytes()
    with zipfile.ZipFile(path) as archive, archive.open(MANIFEST) as stream:
        return stream.read(_MANIFEST_BYTES)


def _found(
    name: str, place: str, read: Callable[[], bytes], open_it: Callable[[], ModelBundle]
) -> Found | Broken:
    manifest: BundleManifest | None = None
    try:
        content = read()
        manifest = parse_manifest(content, f"{MANIFEST} of {place}")
    except EdgeRuntimeError as error:
        return Broken(name, "", str(error))
    except (OSError, zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:
        return Broken(name, "", f"{place}: {MANIFEST} cannot be read: {error}")
    digest = hashlib.sha256(content).hexdigest()
    return Found(manifest.name, manifest.version, digest, place, open_it)
