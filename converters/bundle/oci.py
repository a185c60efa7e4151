"""A bundle as an OCI image layout, so that any registry can carry it: `skopeo copy oci:FOLDER docker://…`.

Talks to no registry. The layout is that of the OCI image specification 1.1
(https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md):

    oci-layout              {"imageLayoutVersion": "1.0.0"}
    index.json              one manifest, its tag in `org.opencontainers.image.ref.name`
    blobs/sha256/<digest>   the image manifest, and every file of the bundle as it is

| part | media type |
|---|---|
| artifact | `application/vnd.edge-runtime.bundle.v1` |
| config, and the layer `bundle.json` | `application/vnd.edge-runtime.bundle.config.v1+json` |
| layer `bundle.sig` | `application/vnd.edge-runtime.bundle.signature.v1+json` |
| any other layer | `application/vnd.edge-runtime.bundle.file.v1` |

A layer's path is its `org.opencontainers.image.title`, so that `oras pull` leaves a bundle's folder.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from converters.bundle.archive import packed_names
from edge_runtime.archive import Entry, receive
from edge_runtime.atomic import new_folder
from edge_runtime.bundle import MANIFEST, ModelBundle, digest, explain, open_bundle
from edge_runtime.contract.errors import BundleError, StorageError
from edge_runtime.signature import SIGNATURE

LAYOUT = "oci-layout"
"""The file that makes a folder an OCI image layout."""
_INDEX = "index.json"
_ARTIFACT = "application/vnd.edge-runtime.bundle.v1"
_CONFIG = "application/vnd.edge-runtime.bundle.config.v1+json"
_SIGNED = "application/vnd.edge-runtime.bundle.signature.v1+json"
_FILE = "application/vnd.edge-runtime.bundle.file.v1"
_IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
_IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_TITLE = "org.opencontainers.image.title"
_TAG = "org.opencontainers.image.ref.name"
_MAX_DOCUMENT_BYTES = 4 << 20
"""Of a manifest, as registries bound it."""


class _Descriptor(BaseModel):
    """What a document says of a blob; other keys are somebody else's."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    kind: str | None = Field(default=None, alias="artifactType")
    annotations: dict[str, str] = {}


class _Index(BaseModel):
    manifests: tuple[_Descriptor, ...]


class _Image(BaseModel):
    layers: tuple[_Descriptor, ...]
    kind: str | None = Field(default=None, alias="artifactType")


_Document = TypeVar("_Document", bound=BaseModel)


def write_layout(folder: Path, target: Path) -> str:
    """Write a bundle as an OCI image layout, after checking that it is whole.

    Args:
        folder: The bundle's folder.
        target: The layout's folder; it must not exist, be empty, or be a layout, which is replaced.

    Returns:
        The digest of the image manifest, `sha256:…`; the same bundle always gives the same.

    Raises:
        BundleError: The bundle is damaged, or has files that its manifest does not name.
        StorageError: The disk is full, read-only or broken, or something else is at `target`.
    """
    bundle = open_bundle(folder)
    names = packed_names(bundle)
    with new_folder(target, may_replace=_only_layouts) as part:
        blobs = part / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        layers = [_layer(blobs, folder, name) for name in names]
        config = {key: value for key, value in layers[0].items() if key != "annotations"}
        told = bundle.manifest
        manifest = _canonical(
            {
                "schemaVersion": 2,
                "mediaType": _IMAGE_MANIFEST,
                "artifactType": _ARTIFACT,
                "config": config,
                "layers": layers,
                "annotations": {
                    _TITLE: told.name,
                    "org.opencontainers.image.version": told.version,
                    "org.opencontainers.image.licenses": told.licence,
                    "org.opencontainers.image.description": told.source,
                },
            }
        )
        sha256 = hashlib.sha256(manifest).hexdigest()
        (blobs / sha256).write_bytes(manifest)
        entry = _descriptor(_IMAGE_MANIFEST, sha256, len(manifest))
        # A tag has no `+`; image references replace it alike everywhere.
        entry |= {"artifactType": _ARTIFACT, "annotations": {_TAG: told.version.replace("+", "_")}}
        index = {"schemaVersion": 2, "mediaType": _IMAGE_INDEX, "manifests": [entry]}
        (part / _INDEX).write_bytes(_canonical(index))
        (part / LAYOUT).write_bytes(_canonical({"imageLayoutVersion": "1.0.0"}))
    return f"sha256:{sha256}"


def read_layout(layout: Path, target: Path, *, trusted: Sequence[Path] | None = None) -> ModelBundle:
    """Make a bundle's folder of an OCI image layout, whole or not at all.

    Args:
        layout: The layout's folder, with one bundle in it.
        target: The folder to make; it must not exist, or be empty.
        trusted: As for `edge_runtime.bundle.open_bundle`.

    Raises:
        BundleError: The layout is damaged or hostile, holds no bundle or several, or an unsound one.
        ConfigError: As for `open_bundle`.
        StorageError: The disk is full, read-only or broken, or something is at `target`.
    """
    index = _load(layout / _INDEX, _Index)
    found = [one for one in index.manifests if one.kind in {_ARTIFACT, None}]
    if len(found) != 1:
        raise BundleError(
            f"layout {layout}",
            expected="one bundle",
            got=str(len(found)),
            do="Copy one tag into a layout of its own: skopeo copy",
        )
    image = _load(_blob(layout, found[0]), _Image, found[0].digest)
    if image.kind != _ARTIFACT:
        raise BundleError(f"layout {layout}", expected=f"an {_ARTIFACT}", got=image.kind or "another image")
    return receive(
        [_entry(layout, layer) for layer in image.layers], target, title=f"layout {layout}", trusted=trusted
    )


def _layer(blobs: Path, folder: Path, name: str) -> dict[str, Any]:
    sha256, size = digest(folder / name)
    shutil.copyfile(folder / name, blobs / sha256)
    kind = {MANIFEST: _CONFIG, SIGNATURE: _SIGNED}.get(name, _FILE)
    return _descriptor(kind, sha256, size) | {"annotations": {_TITLE: name}}


def _descriptor(kind: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": size}


def _canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _entry(layout: Path, layer: _Descriptor) -> Entry:
    if _TITLE not in layer.annotations:
        raise BundleError(f"layout {layout}: a layer has no {_TITLE}", do="Write the layout again")
    return Entry(layer.annotations[_TITLE], partial(_open, _blob(layout, layer), layer.digest))


def _open(blob: Path, expected: str) -> IO[bytes]:
    try:
        return _Checked(blob, expected)
    except OSError as error:
        raise BundleError(
            f"blob {blob}", expected="a readable file", got=error.strerror, do="Copy the layout again"
        ) from error


class _Checked(io.FileIO):
    """A blob that says at its end whether it was what its name says."""

    def __init__(self, blob: Path, expected: str) -> None:
        super().__init__(blob)
        self._blob = blob
        self._expected = expected
        self._hash = hashlib.sha256()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and check at the end."""
        block = super().read(-1 if size is None else size) or b""
        self._hash.update(block)
        got = f"sha256:{self._hash.hexdigest()}"
        at_end = not block or self.tell() == os.fstat(self.fileno()).st_size
        if at_end and got != self._expected:
            raise BundleError(
                f"blob {self._blob}: is damaged or was changed",
                expected=self._expected,
                got=got,
                do="Copy the layout again",
            )
        return block


def _load(file: Path, kind: type[_Document], expected: str | None = None) -> _Document:
    """Read a document of the layout; of a blob, after checking its digest."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_DOCUMENT_BYTES)
    except OSError as error:
        raise BundleError(
            f"layout file {file}",
            expected="a readable file",
            got=error.strerror,
            do="Give the folder of an OCI image layout",
        ) from error
    got = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if expected not in {None, got}:
        raise BundleError(
            f"blob {file}: is damaged or was changed", expected=expected, got=got, do="Copy the layout again"
        )
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(f"layout file {file}: {explain(error)}", do="Copy the layout again") from error


def _blob(layout: Path, descriptor: _Descriptor) -> Path:
    return layout / "blobs" / "sha256" / descriptor.digest.removeprefix("sha256:")


def _only_layouts(target: Path) -> None:
    names = {entry.name for entry in target.iterdir()}
    if names and names != {LAYOUT, _INDEX, "blobs"}:
        raise StorageError(
            f"{target}: is there already and is no OCI layout", do="Choose another place, or remove it"
        )
