"""Packing for a page: one variant's files, `manifest.json`, and the loader that checks them against it.

Brings no engine: a page gets it from npm, in the version that the manifest names. Converts nothing.
"""

import shutil
from collections.abc import Iterator, Sequence
from importlib.resources import as_file
from pathlib import Path
from typing import cast

from converters.browser.manifest import LOADER, MANIFEST, Backend, WebEngine, WebManifest
from converters.browser.packages import PACKAGES, PAGE
from converters.browser.session import model_files
from converters.browser.tensors import FORMATS, describe
from edge_runtime.atomic import new_folder
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Receipt, Variant
from edge_runtime.contract.device import DeviceProfile, EngineSupport
from edge_runtime.contract.errors import BundleError, ConfigError, EngineError, StorageError

_MEASURED = "wasm"
"""The backend that receipts of browsers are measured with."""


def pack(
    bundle: ModelBundle, profile: DeviceProfile, target: Path, *, variant: str | None = None
) -> WebManifest:
    """Write what a page needs of a bundle, whole or not at all.

    Args:
        bundle: The bundle.
        profile: One whose engines are those of a browser.
        target: The folder to make; it must not exist, or be empty.
        variant: The id of the variant; None: of those that serve the profile the first, in its order,
            that its engines take.

    Raises:
        BundleError: No variant is for this profile.
        ConfigError: The profile is not a browser's.
        EngineError: The engine takes no such inputs or outputs.
        StorageError: The disk is full, read-only or broken, or `target` is taken.
    """
    supports = [one for one in profile.engines if one.engine in PACKAGES]
    if not supports:
        raise ConfigError(
            f"profile '{profile.name}' is not a browser's",
            expected=f"one with the engine {' or '.join(PACKAGES)}",
            got=", ".join(one.engine for one in profile.engines) or "no engine",
            do="Name browser-wasm or browser-webgpu",
        )
    chosen, manifest = _first_fitting(bundle, profile, supports, variant)

    def refuse(folder: Path) -> None:
        if any(folder.iterdir()):
            raise StorageError(f"{folder}: is there already, and not empty", do="Choose another folder")

    model = bundle.path(chosen)
    with new_folder(target, may_replace=refuse) as part:
        for file in manifest.files:
            shutil.copyfile(model.parent / file.path, part / file.path)
        if bundle.manifest.tokenizer is not None:
            shutil.copyfile(bundle.root / bundle.manifest.tokenizer.path, part / "tokenizer.json")
        with as_file(PAGE / LOADER) as loader:
            shutil.copyfile(loader, part / LOADER)
        text = manifest.model_dump_json(indent=2)
        (part / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def _first_fitting(
    bundle: ModelBundle, profile: DeviceProfile, supports: Sequence[EngineSupport], variant: str | None
) -> tuple[Variant, WebManifest]:
    """Take the first variant, in the profile's order, whose tensors its engine takes."""
    found = list(_candidates(bundle, profile, supports, variant))
    if not found:
        wanted = f"variant '{variant}'" if variant else "variant"
        raise BundleError(
            f"bundle '{bundle.manifest.name}': has no {wanted} for profile '{profile.name}'",
            expected=" or ".join(f"{kind} for {one.engine}" for one in supports for kind in one.formats),
            got=", ".join(f"{one.id} ({one.format})" for one in bundle.manifest.variants),
            do=f"Convert it again with --profile {profile.name}",
        )
    errors: list[EngineError] = []
    for support, chosen in found:
        try:
            return chosen, _manifest(bundle, profile, support, chosen)
        except EngineError as error:
            errors.append(error)
    raise errors[0]


def _candidates(
    bundle: ModelBundle, profile: DeviceProfile, supports: Sequence[EngineSupport], variant: str | None
) -> Iterator[tuple[EngineSupport, Variant]]:
    for support in supports:
        kinds = [kind for kind in support.formats if kind in FORMATS[support.engine]]
        fitting = [
            one
            for one in bundle.manifest.variants
            if one.format in kinds
            and (one.id == variant if variant else not one.profiles or profile.name in one.profiles)
            and (variant or one.precision in support.precisions)
        ]
        order = {precision: at for at, precision in enumerate(support.precisions)}
        fitting.sort(key=lambda one: (order.get(one.precision, len(order)), kinds.index(one.format)))
        yield from ((support, one) for one in fitting)


def _manifest(
    bundle: ModelBundle, profile: DeviceProfile, support: EngineSupport, chosen: Variant
) -> WebManifest:
    engine = cast(WebEngine, support.engine)
    model, whole = bundle.path(chosen), bundle.manifest
    inputs, outputs = describe(model, engine)
    receipts = [one for one in whole.receipts if (one.variant, one.engine) == (chosen.id, engine)]
    files = model_files(model) if (bundle.root / chosen.path).is_dir() else model_files(model)[:1]
    tokenizer = whole.tokenizer
    return WebManifest(
        name=whole.name,
        version=whole.version,
        licence=whole.licence,
        profile=profile.name,
        variant=chosen.id,
        format=chosen.format,
        precision=chosen.precision,
        engine=engine,
        package=PACKAGES[engine],
        backends=tuple(_backend(name, receipts) for name in support.providers or (_MEASURED,)),
        files=files,
        tokenizer=None if tokenizer is None else tokenizer.model_copy(update={"path": "tokenizer.json"}),
        inputs=inputs,
        outputs=outputs,
        task=whole.task_of(chosen),
    )


def _backend(name: str, receipts: Sequence[Receipt]) -> Backend:
    if name == _MEASURED and receipts:
        return Backend(name=name, status="verified", receipt=receipts[0])
    return Backend(name=name, status="declared, not verified")
