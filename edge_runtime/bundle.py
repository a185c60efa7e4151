"""Opening model bundles: a folder with `bundle.json` and the variants it names, or one bare model file.

Loads no model: whether a variant runs, and whether its shapes fit the task, the engine and the task say.
Checks digests, which show damage, of every file that the manifest names; and the signature, which shows an
author, where the caller says whom it trusts. Unpacks nothing: that is `archive`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edge_runtime.contract.bundle import BundleManifest, FileRef, Format, Precision, Variant
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.task import GenerationSpec, TaskSpec, TextSpec
from edge_runtime.signature import SIGNATURE, check_signature

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
_FOLDERS: Mapping[str, Format] = {"*.xml": Format.OPENVINO, "genai_config.json": Format.GENAI}
"""By what is in them: the formats that are a folder without an ending."""
_TOKENIZER = "tokenizer.json"
_MODEL_IN_FOLDER: Mapping[Format, str] = {
    Format.ONNX: "model.onnx",
    Format.ORT: "model.ort",
    Format.TFLITE: "model.tflite",
}
"""What an engine opens of a variant whose format is one file, but which has more files beside it."""
_SCHEMA_VERSION = 1
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
        """Give the place of a variant's file, or of its folder where the format is one."""
        place = self.root / variant.path
        inside = _MODEL_IN_FOLDER.get(variant.format)
        return place / inside if inside and place.is_dir() else place

    def parts(self) -> Iterator[tuple[str, Variant | FileRef]]:
        """Give everything that the manifest names, and what a person calls it."""
        for variant in self.manifest.variants:
            yield f"variant '{variant.id}'", variant
        golden, tokenizer = self.manifest.golden, self.manifest.tokenizer
        if tokenizer is not None:
            yield "the tokenizer", tokenizer
        if golden is not None:
            yield "the golden inputs", golden.inputs
            yield "the golden outputs", golden.outputs


def open_bundle(
    path: Path, *, trusted: Sequence[Path] | None = None, check_files: bool = True
) -> ModelBundle:
    """Open a bundle and check that every file it names is there, whole and unchanged.

    Args:
        path: The bundle's folder.
        trusted: Public keys (PEM files). The manifest must be signed by one of them, which is checked before
            anything else is read, and the folder must hold nothing that the manifest does not name; None: a
            signature is not asked for.
        check_files: False: the manifest alone is read.

    Raises:
        BundleError: The folder, its manifest or a file is missing, wrong or damaged; the signature is
            missing, or of nobody trusted; a file is not in the manifest.
        ConfigError: A key cannot be read, or the extra for signatures is missing.
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
    if trusted is not None:
        check_signature(content, path / SIGNATURE, trusted)
    bundle = ModelBundle(path, parse_manifest(content, str(file)))
    if trusted is not None:
        refuse_unlisted(bundle)
    if check_files:
        for title, part in bundle.parts():
            _check_part(bundle, title, part)
    return bundle


def parse_manifest(content: bytes, name: str) -> BundleManifest:
    """Read a manifest.

    Args:
        content: The bytes of `bundle.json`.
        name: What a message calls it.

    Raises:
        BundleError: It is no manifest, or of a version that this release does not know.
    """
    _refuse_newer(content, name)
    try:
        return BundleManifest.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(
            f"{name}: {explain(error)}", do="Correct the file, or build the bundle again"
        ) from error


def unlisted(bundle: ModelBundle) -> list[str]:
    """Find what lies in a bundle's folder and is not covered by its manifest: strangers and symbolic links.

    Args:
        bundle: The bundle; its signature is no stranger.

    Returns:
        Paths relative to the folder, sorted.
    """
    named = [part.path for _, part in bundle.parts()]
    files, folders = {MANIFEST, SIGNATURE, *named}, tuple(f"{name}/" for name in named)
    return sorted(
        name
        for path in bundle.root.rglob("*")
        for name in [path.relative_to(bundle.root).as_posix()]
        if path.is_symlink() or not (path.is_dir() or name in files or name.startswith(folders))
    )


def refuse_unlisted(bundle: ModelBundle) -> None:
    """Refuse a folder with files that no digest, and so no signature, covers.

    Raises:
        BundleError: There are such files.
    """
    strangers = unlisted(bundle)
    if strangers:
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        raise BundleError(
            f"bundle {bundle.root}: has files that its manifest does not name",
            got=", ".join(strangers[:3]) + more,
            do="Remove them, or build the bundle again",
        )


def wrap_model(file: Path, task: TaskSpec) -> ModelBundle:
    """Make a bundle in memory of one bare model file.

    Its version is the beginning of the file's digest, so a changed file is another version. Nothing tells the
    precision without loading the model; it is taken for fp32. The tokenizer of a text model is the
    `tokenizer.json` beside it, or in its folder.

    Args:
        file: The model; a folder for the formats that are one.
        task: What the model does.

    Raises:
        BundleError: The file is missing, unreadable, or of no known format.
    """
    kind = _format_of(file)
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
    tokenizer = _tokenizer_beside(file) if isinstance(task, TextSpec | GenerationSpec) else None
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
        tokenizer=tokenizer,
    )
    return ModelBundle(file.parent, manifest)


def _format_of(file: Path) -> Format | None:
    if file.is_dir():
        for inside, kind in _FOLDERS.items():
            if any(file.glob(inside)):
                return kind
    return _FORMATS.get(file.suffix.lower())


def _tokenizer_beside(file: Path) -> FileRef | None:
    """Find the tokenizer of a bare text model: inside its folder, or beside its file."""
    found = [place for place in (file / _TOKENIZER, file.parent / _TOKENIZER) if place.is_file()]
    if not found:
        return None
    sha256, size = digest(found[0])
    path = found[0].relative_to(file.parent).as_posix()
    return FileRef(path=path, sha256=sha256, size_bytes=size)


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


def _refuse_newer(content: bytes, name: str) -> None:
    """Say that a manifest is of a newer release, before its new keys are called unknown."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):  # the model says what is wrong, and where
        return
    version = document.get("schema_version") if isinstance(document, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(version, int) and version > _SCHEMA_VERSION:
        raise BundleError(
            f"{name}: was written for a newer edge-runtime",
            expected=f"schema_version {_SCHEMA_VERSION}",
            got=str(version),
            do="Update edge-runtime on this machine, or build the bundle with this release",
        )


def _check_part(bundle: ModelBundle, title: str, part: Variant | FileRef) -> None:
    path = bundle.root / part.path
    try:
        sha256, size = digest(path)
    except OSError as error:
        raise BundleError(
            f"{title} of bundle '{bundle.manifest.name}'",
            expected=f"a readable {path}",
            got=error.strerror or str(error),
            do="Copy the whole bundle again",
        ) from error
    expected, got = f"sha256 {part.sha256}", f"sha256 {sha256}"
    if size != part.size_bytes:
        expected, got = f"{part.size_bytes} bytes", f"{size} bytes"
    if expected != got:
        raise BundleError(
            f"{title} of bundle '{bundle.manifest.name}': {path} is damaged or was changed",
            expected=expected,
            got=got,
            do="Copy the bundle again; after changing a model, build a new version of it",
        )


def explain(error: ValidationError) -> str:
    """Say all that is wrong with a manifest, each with the key it is at."""
    return "; ".join(
        f"{'.'.join(map(str, detail['loc'])) or 'the file'}: "
        f"{'unknown key' if detail['type'] == 'extra_forbidden' else detail['msg']}"
        for detail in error.errors(include_url=False)
    )
