"""Receipts that a device fills in itself, marked with its machine and profile. Measures nothing."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge_runtime.bundle import MANIFEST
from edge_runtime.contract.bundle import BundleManifest, Latency, Receipt
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import StorageError
from edge_runtime.engines.registry import DEFAULT_PROVIDER
from edge_runtime.engines.select import Choice


def measured(
    choice: Choice, profile: DeviceProfile, latency: Latency, peak_memory_bytes: int | None
) -> Receipt | None:
    """Write down what one way to run a model took.

    Args:
        choice: The variant, its engine and provider.
        profile: This device.
        latency: What was measured.
        peak_memory_bytes: What was measured.

    Returns:
        None for a provider that is neither the engine's default nor an accelerator of the profile: a receipt
        has no place for its name, so that it would speak for the default.
    """
    machine = profile.cpu.name
    if choice.provider != DEFAULT_PROVIDER[choice.engine]:
        if not profile.accelerators:
            return None
        machine = profile.accelerators[0].name
    return Receipt(
        variant=choice.variant,
        engine=choice.engine,
        machine=machine,
        profile=profile.name,
        measured_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        latency=latency,
        peak_memory_bytes=peak_memory_bytes,
    )


def with_receipts(manifest: BundleManifest, receipts: Sequence[Receipt]) -> BundleManifest:
    """Give a manifest with receipts added.

    A newer one takes the place of an older of the same variant, engine and machine, and keeps its parity and
    accuracy, which another measurement of speed does not undo.
    """
    kept = {(one.variant, one.engine, one.machine): one for one in manifest.receipts}
    for one in receipts:
        key = one.variant, one.engine, one.machine
        older = kept.get(key)
        if older is not None:
            one = one.model_copy(  # noqa: PLW2901
                update={"parity": one.parity or older.parity, "accuracy": one.accuracy or older.accuracy}
            )
        kept[key] = one
    return manifest.model_copy(update={"receipts": tuple(kept.values())})


def write_receipts(file: Path, manifest: BundleManifest, receipts: Sequence[Receipt]) -> None:
    """Write receipts for whoever made the bundle.

    Args:
        file: `bundle.json`: the whole manifest with the receipts added, not signed any more; any other name:
            a list of the receipts alone.
        manifest: The bundle's.
        receipts: What was measured.

    Raises:
        StorageError: The file cannot be written.
    """
    if file.name == MANIFEST:
        text = with_receipts(manifest, receipts).model_dump_json(indent=2, exclude_none=True)
    else:
        text = json.dumps([one.model_dump(mode="json") for one in receipts], indent=2)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}") from error
