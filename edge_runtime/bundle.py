"""Opening model bundles: a folder with `bundle.json` and the variants it names, or one bare model file.

Loads no model: whether a variant runs, and whether its shapes fit the task, the engine and the task say.
Checks digests, which show damage; signatures, which show an author, are not checked here.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edge_runtime.contract.bundle import BundleManifest, Format, Precision, Variant
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.task import TaskSpec

MANIFEST = "bundle.json"
"""The file that makes a folder a bundle."""

_SHIPPED = Path(__file__).parent / "models"
_FORMATS: Mapping[str, Format] = {
    ".onnx": Format.ONNX,
    ".ort": Format.ORT,
    ".tflite": Format.TFLITE,
    ".xml": Format.OPENVINO,
    ".mlmodel": Format.COREML,
    ".mlpackage": Format.COREML,
}
_VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A bundle on disk whose files are what its manifest says.

    Args:
        root: The bundle's folder.
        manifest: What `bundle.json` says.
    """

    root: Path
    manifest: BundleManifest

    def path(self, variant: Variant) -> Path:
        """Give the place of a variant's file or folder."""
        return self.root / variant.path


def open_bundle(path: Path) -> ModelBundle:
    """Open a bundle and check that every variant is there, whole and unchanged.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: The folder, its manifest or a variant is missing, wrong or damaged.
    """
    file = path / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"bundle {path}",
            expected=f"a folder with a readable {MANIFEST}",
            got=error.strerror or str(error),
            do="Give the folder of a bundle; a bare model file needs its task as well",
        ) from error
    try:
        manifest = BundleManifest.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(
            f"{file}: {_explain(error)}", do="Correct the file, or build the bundle again"
        ) from error
    bundle = ModelBundle(path, manifest)
    for variant in manifest.variants:
        _check_variant(bundle, variant)
    return bundle


def wrap_model(file: Path, task: TaskSpec) -> ModelBundle:
    """Make a bundle in memory of one bare model file.

    Its version is the beginning of the file's digest, so a changed file is another version. Nothing tells the
    precision without loading the model; it is taken for fp32.

    Args:
        file: The model; a folder for the formats that are one.
        task: What the model does.

    Raises:
        BundleError: The file is missing, unreadable, or of no known format.
    """
    kind = Format.OPENVINO if file.is_dir() and any(file.glob("*.xml")) else _FORMATS.get(file.suffix.lower())
    if kind is None:
        raise BundleError(
            f"model {file}",
            expected=f"a file that ends in {', '.join(_FORMATS)}",
            got=file.suffix or "no ending",
            do="Convert the model, or rename the file",
        )
    try:
        sha256, size = digest(file)
    except OSError as error:
        raise BundleError(f"model {file}", expected="a readable file", got=error.strerror) from error
    variant = Variant(
        id=f"{kind}-fp32",
        format=kind,
        precision=Precision.FP32,
        path=file.name,
        sha256=sha256,
        size_bytes=size,
    )
    manifest = BundleManifest(
        name=re.sub(r"[^a-z0-9]+", "-", file.stem.lower())[:64].strip("-") or "model",
        version=sha256[:_VERSION_DIGITS],
        licence="unknown",
        source=str(file),
        task=task,
        variants=(variant,),
    )
    return ModelBundle(file.parent, manifest)


def shipped_bundle(name: str) -> Path | None:
    """Find a bundle that comes with this package.

    Args:
        name: Its name, e.g. `efficientdet-lite0`.

    Returns:
        Its folder; None when none of that name is shipped.
    """
    return next((file.parent for file in _SHIPPED.glob(f"*/{MANIFEST}") if file.parent.name == name), None)


def digest(path: Path) -> tuple[str, int]:
    """Fingerprint a variant.

    Args:
        path: A file; or a folder, whose fingerprint is the SHA-256 of one line `<sha256>  <relative path>`
            for each file in it, sorted by path, each ended by a newline.

    Returns:
        SHA-256 in hexadecimal, and the size in bytes.

    Raises:
        OSError: It is missing or cannot be read.
    """
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    parts = [(name, *digest(file)) for name, file in files]
    listing = "".join(f"{sha256}  {name}\n" for name, sha256, _ in parts)
    return hashlib.sha256(listing.encode()).hexdigest(), sum(size for _, _, size in parts)


def _check_variant(bundle: ModelBundle, variant: Variant) -> None:
    path = bundle.path(variant)
    try:
        sha256, size = digest(path)
    except OSError as error:
        raise BundleError(
            f"variant '{variant.id}' of bundle '{bundle.manifest.name}'",
            expected=f"a readable {path}",
            got=error.strerror or str(error),
            do="Copy the whole bundle again",
        ) from error
    expected, got = f"sha256 {variant.sha256}", f"sha256 {sha256}"
    if size != variant.size_bytes:
        expected, got = f"{variant.size_bytes} bytes", f"{size} bytes"
    if expected != got:
        raise BundleError(
            f"variant '{variant.id}' of bundle '{bundle.manifest.name}': {path} is damaged or was changed",
            expected=expected,
            got=got,
            do="Copy the bundle again; after changing a model, build a new version of it",
        )


def _explain(error: ValidationError) -> str:
    """Say all that is wrong, each with the key it is at."""
    return "; ".join(
        f"{'.'.join(map(str, detail['loc'])) or 'the file'}: "
        f"{'unknown key' if detail['type'] == 'extra_forbidden' else detail['msg']}"
        for detail in error.errors(include_url=False)
    )
