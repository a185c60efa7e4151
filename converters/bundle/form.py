"""The three forms of a bundle: a folder, a `.zip`, an OCI image layout; each is opened by way of a folder.

Writes none of them: `writer`, `archive` and `oci` do.
"""

import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from converters.bundle.oci import LAYOUT, read_layout
from edge_runtime.archive import ZIP, unpack
from edge_runtime.atomic import cannot_write, new_file, new_folder
from edge_runtime.bundle import ModelBundle, open_bundle, shipped_bundle
from edge_runtime.contract.errors import BundleError, StorageError


class Form(StrEnum):
    """What a bundle is on disk."""

    FOLDER = "folder"
    ZIP = "zip"
    OCI = "oci"


def form_of(path: Path) -> Form:
    """Tell the form from the path; what is nothing else is a folder, whose opening says what is wrong."""
    if path.is_file() or path.suffix.lower() == ZIP:
        return Form.FOLDER if path.is_dir() else Form.ZIP
    return Form.OCI if (path / LAYOUT).is_file() else Form.FOLDER


def find(name: str) -> Path:
    """Give the place of what a person named: a path, or a bundle that comes with edge-runtime."""
    return shipped_bundle(name) or Path(name)


@contextmanager
def opened(path: Path, *, trusted: Sequence[Path] | None = None) -> Generator[ModelBundle]:
    """Open a bundle of any form for a while; a packed one lies among the temporary files until then.

    Args:
        path: The bundle.
        trusted: As for `edge_runtime.bundle.open_bundle`.

    Raises:
        BundleError: It is damaged, hostile or no bundle.
        ConfigError: As for `open_bundle`.
        StorageError: There is no room to unpack it.
    """
    if form_of(path) is Form.FOLDER:
        yield open_bundle(path, trusted=trusted)
        return
    try:
        place = tempfile.TemporaryDirectory(prefix="edge-runtime-bundle-")
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from error
    with place as folder:
        yield extract(path, Path(folder) / "bundle", trusted=trusted)


def extract(path: Path, target: Path, *, trusted: Sequence[Path] | None = None) -> ModelBundle:
    """Make a folder of a packed bundle, whole or not at all.

    Args:
        path: A `.zip` or an OCI image layout.
        target: The folder to make; it must not exist, or be empty.
        trusted: As for `edge_runtime.bundle.open_bundle`.

    Raises:
        BundleError: It is damaged, hostile or no bundle.
        ConfigError: As for `open_bundle`.
        StorageError: The disk is full, read-only or broken, `target` is taken, or the bundle is a folder.
    """
    match form_of(path):
        case Form.ZIP:
            return unpack(path, target, trusted=trusted)
        case Form.OCI:
            return read_layout(path, target, trusted=trusted)
        case Form.FOLDER:
            open_bundle(path, trusted=trusted)
            raise StorageError(f"{path}: is a folder already", do="Copy it, or name one variant of it")


def take_variant(bundle: ModelBundle, variant_id: str, target: Path) -> None:
    """Copy one variant's model out of a bundle.

    Args:
        bundle: The bundle.
        variant_id: The variant's.
        target: Becomes the model's file, or its folder where it is one. Nothing may be there.

    Raises:
        BundleError: The bundle has no such variant.
        StorageError: The disk is full, read-only or broken, or something is at `target`.
    """
    known = {variant.id: variant for variant in bundle.manifest.variants}
    if variant_id not in known:
        raise BundleError(
            f"bundle '{bundle.manifest.name}': has no variant '{variant_id}'", expected=" or ".join(known)
        )
    if target.exists():
        raise StorageError(f"{target}: is there already", do="Choose another place, or remove it")
    source = bundle.root / known[variant_id].path
    if source.is_dir():
        with new_folder(target, may_replace=lambda _: None) as part:
            shutil.copytree(source, part, dirs_exist_ok=True, copy_function=shutil.copyfile)
        return
    with new_file(target) as out, source.open("rb") as stream:
        shutil.copyfileobj(stream, out)
