"""Writes a bundle folder: the models that steps made, with everything a device must know about them.

Converts, measures and signs nothing, and decides nothing: what it is given is what is shipped. The same
inputs give the same bytes, whenever and wherever they are written.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from converters.step import MODEL_FILES
from converters.store import OWN_NAMES
from edge_runtime.atomic import cannot_write, new_folder
from edge_runtime.bundle import MANIFEST, ModelBundle, digest, explain, open_bundle, unlisted
from edge_runtime.contract.bundle import (
    NAME_PATTERN,
    BundleManifest,
    FileRef,
    Format,
    Golden,
    Omission,
    Precision,
    Provenance,
    Receipt,
    Variant,
)
from edge_runtime.contract.errors import BundleError, ConversionError, StorageError
from edge_runtime.contract.task import Head, ImageInput, TaskSpec

TOKENIZER = "tokenizer.json"
GOLDEN_INPUTS = "golden/inputs.npz"
GOLDEN_OUTPUTS = "golden/outputs.npz"


@dataclass(frozen=True, slots=True)
class BuiltVariant:
    """A variant, and the folder that its last step filled.

    Args:
        id: Unique in the bundle; the variant goes to `variants/<id>/`.
        format: Its file format; `folder` holds `MODEL_FILES[format]`.
        precision: Its number type.
        folder: Everything in it is taken, but what the store keeps there and names that begin with a dot.
        profiles: Device profiles it serves; empty: all.
        input: Replaces the task's input, where this variant's differs.
        head: Replaces the task's head, where this variant's differs.
        output: Replaces the task's output name, where this variant's differs.
    """

    id: str
    format: Format
    precision: Precision
    folder: Path
    profiles: tuple[str, ...] = ()
    input: ImageInput | None = None
    head: Head | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class GoldenFiles:
    """Two `.npz` files, as `contract.bundle.Golden` describes them."""

    inputs: Path
    outputs: Path


def write(
    target: Path,
    *,
    name: str,
    version: str,
    licence: str,
    source: str,
    task: TaskSpec,
    variants: Sequence[BuiltVariant],
    receipts: Sequence[Receipt] = (),
    golden: GoldenFiles | None = None,
    tokenizer: Path | None = None,
    omitted: Sequence[Omission] = (),
    provenance: Provenance | None = None,
    seal: Callable[[Path], object] | None = None,
) -> ModelBundle:
    """Write a bundle, whole or not at all.

    It is made beside `target` and takes its place at the end: who is killed on the way leaves what was there
    before. An older bundle at `target` is replaced, its signature too; anything else there is refused.

    Args:
        target: The bundle's folder; its parents are made.
        name: The bundle's.
        version: The bundle's.
        licence: Of the model.
        source: Where the model came from, for a person.
        task: What the model does.
        variants: At least one, in the order of the manifest.
        receipts: What was measured of these variants, in the order of the manifest.
        golden: Inputs and the source model's outputs.
        tokenizer: A `tokenizer.json`.
        omitted: Variants that were asked for and are not here.
        provenance: Where the variants come from.
        seal: Called with the folder before it takes its place, e.g. to sign it; raises where it must not.

    Returns:
        The bundle at its place.

    Raises:
        BundleError: What was given makes no valid bundle, or something that is no bundle is at `target`.
        ConversionError: A variant's folder lacks its model, or a file is missing.
        StorageError: The disk is full, read-only or broken.
    """
    _check_ids([built.id for built in variants])
    with new_folder(target, may_replace=_only_bundles) as part:
        refs = [_place(part, built) for built in variants]
        try:
            manifest = BundleManifest(
                name=name,
                version=version,
                licence=licence,
                source=source,
                task=task,
                variants=tuple(refs),
                receipts=tuple(receipts),
                tokenizer=_file(part, TOKENIZER, tokenizer) if tokenizer else None,
                golden=_golden(part, golden) if golden else None,
                omitted=tuple(omitted),
                provenance=provenance,
            )
        except ValidationError as error:
            raise BundleError(
                f"bundle '{name}' {version}: {explain(error)}", do="Correct the recipe, then build again"
            ) from error
        (part / MANIFEST).write_bytes(canonical(manifest))
        if seal is not None:
            seal(part)
    return ModelBundle(target, manifest)


def require_place(target: Path) -> None:
    """Refuse a place where no bundle could be written, before there is anything to write.

    Args:
        target: The bundle's folder; its parents are made.

    Raises:
        StorageError: As `write`.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from error
    if target.is_dir():
        _only_bundles(target)
    elif target.exists():
        raise StorageError(f"{target}: is a file", do="Choose another place for the folder")


def canonical(manifest: BundleManifest) -> bytes:
    """Write a manifest the one way it is written: sorted keys, two spaces, UTF-8, no absent values.

    Returns:
        The bytes of `bundle.json`, which are what a signature signs.

    Raises:
        BundleError: A number of it is NaN or infinite.
    """
    document = manifest.model_dump(mode="json", exclude_none=True)
    # `exclude_none` reaches into the recipe, where a null is the recipe's own.
    if manifest.provenance is not None:
        document["provenance"]["recipe"] = json.loads(json.dumps(dict(manifest.provenance.recipe)))
    try:
        text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:  # JSON knows no NaN
        raise BundleError(
            f"bundle '{manifest.name}' {manifest.version}: a receipt has a number that is none",
            expected="finite numbers",
            got="NaN or infinity",
            do="Leave out what could not be measured",
        ) from error
    return f"{text}\n".encode()


def _check_ids(ids: Sequence[str]) -> None:
    """Refuse ids before they become folders."""
    for index, name in enumerate(ids):
        twice = name in ids[:index]
        if twice or not re.fullmatch(NAME_PATTERN, name):
            raise ConversionError(
                f"variant '{name}'",
                expected=f"ids that differ and match {NAME_PATTERN}",
                got="it twice" if twice else "another",
                do="This is a bug of the plan: report it",
            )


def _place(part: Path, built: BuiltVariant) -> Variant:
    """Copy a variant, and describe what was copied.

    A model that is one file or one package is named itself; one of several files (external data, OpenVINO) is
    named by its folder, so that the digest covers them all.
    """
    model = MODEL_FILES[built.format]
    if not (built.folder / model).exists():
        raise ConversionError(
            f"variant '{built.id}'",
            expected=f"{model} in {built.folder}",
            got=", ".join(sorted(_names(built.folder))) or "an empty folder",
            do="This is a bug of the step that makes it: report it",
        )
    folder = part / "variants" / built.id
    folder.mkdir(parents=True)
    names = sorted(
        name for name in _names(built.folder) if name not in OWN_NAMES and not name.startswith(".")
    )
    for name in names:
        _copy(built.folder / name, folder / name)
    placed = folder / model if names == [model] and built.format is not Format.OPENVINO else folder
    sha256, size = digest(placed)
    return Variant(
        id=built.id,
        format=built.format,
        precision=built.precision,
        path=placed.relative_to(part).as_posix(),
        sha256=sha256,
        size_bytes=size,
        profiles=built.profiles,
        input=built.input,
        head=built.head,
        output=built.output,
    )


def _golden(part: Path, golden: GoldenFiles) -> Golden:
    return Golden(
        inputs=_file(part, GOLDEN_INPUTS, golden.inputs), outputs=_file(part, GOLDEN_OUTPUTS, golden.outputs)
    )


def _file(part: Path, name: str, source: Path) -> FileRef:
    if not source.is_file():
        raise ConversionError(f"{name} of the bundle", expected=f"a file {source}", got="none")
    placed = part / name
    placed.parent.mkdir(exist_ok=True)
    _copy(source, placed)
    sha256, size = digest(placed)
    return FileRef(path=name, sha256=sha256, size_bytes=size)


def _names(folder: Path) -> Iterable[str]:
    return (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()


def _copy(source: Path, target: Path) -> None:
    """Copy content alone: modes and times of the source would make other bytes of a packed bundle."""
    if source.is_dir():
        target.mkdir()
        for entry in sorted(source.iterdir()):
            _copy(entry, target / entry.name)
    else:
        shutil.copyfile(source, target)


def _only_bundles(target: Path) -> None:
    """Refuse to replace what this project did not write."""
    if not any(target.iterdir()):
        return
    try:
        strangers = unlisted(open_bundle(target, check_files=False))
    except BundleError as error:
        raise StorageError(
            f"{target}: is there already and is no bundle",
            got=error.problem,
            do="Choose another place, or remove it",
        ) from error
    if strangers:
        raise StorageError(
            f"{target}: has files that are no part of the bundle there",
            got=", ".join(strangers[:5]),
            do="Move them elsewhere: replacing the bundle would delete them",
        )
