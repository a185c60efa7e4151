"""What changed between two versions of a bundle.

Judges nothing and runs no model: it compares what the two say of themselves, and their files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar

from pydantic import JsonValue

from converters.bundle.delta import Update, can_compress, update_of
from converters.bundle.operators import operators
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Receipt, Variant
from edge_runtime.contract.errors import BundleError, ConversionError, StorageError

_T = TypeVar("_T")
Pair: TypeAlias = tuple[_T | None, _T | None]
"""A value before and after; None where there was none."""


class Kind(StrEnum):
    """What happened to a variant."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class VariantChange:
    """What happened to one variant.

    Args:
        id: The variant's, by which the two bundles' are paired.
        kind: SAME: not one byte of it.
        size_bytes: Of its files.
        measures: What a receipt of either has, by name: `accuracy.top1`, `parity.cosine`, `latency.p50_ms`,
            `memory.peak_bytes`. Latency and memory only where engine and machine are the same.
        operators: How often an operator is in it, of those whose count changed.
        update: What a device that has the old one is sent; None: it is removed.
        notes: What could not be compared, and why; one line each.
    """

    id: str
    kind: Kind
    size_bytes: Pair[int]
    measures: Mapping[str, Pair[float]] = field(default_factory=dict[str, Pair[float]])
    operators: Mapping[str, Pair[int]] = field(default_factory=dict[str, Pair[int]])
    update: Update | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleDiff:
    """What changed between two bundles.

    Args:
        old: Name and version of the first.
        new: Name and version of the second.
        about: Fields of the manifest that are no variant and no receipt (`licence`, `task.min_score`, …).
        labels_added: New to the task's labels.
        labels_removed: No longer among them.
        labels_moved: Whether a label that both have stands for another class number.
        variants: Those of the new bundle in its order, then those that are gone.
        can_compress: Whether zstd was here to measure patches.
    """

    old: str
    new: str
    about: Mapping[str, Pair[JsonValue]]
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]
    labels_moved: bool
    variants: tuple[VariantChange, ...]
    can_compress: bool


def compare(old: ModelBundle, new: ModelBundle) -> BundleDiff:
    """Compare two bundles.

    Args:
        old: The one that devices have.
        new: The one that they would get.

    Raises:
        StorageError: A file cannot be read.
    """
    before, after = labels_of(old), labels_of(new)
    known = {variant.id: variant for variant in old.manifest.variants}
    changes = [_variant(old, new, known.pop(variant.id, None), variant) for variant in new.manifest.variants]
    gone = [VariantChange(one.id, Kind.REMOVED, (one.size_bytes, None)) for one in known.values()]
    return BundleDiff(
        _title(old),
        _title(new),
        changed(_about(old), _about(new)),
        tuple(label for label in after if label not in before),
        tuple(label for label in before if label not in after),
        any(before.index(label) != after.index(label) for label in set(before) & set(after)),
        (*changes, *gone),
        can_compress(),
    )


def labels_of(bundle: ModelBundle) -> Sequence[str]:
    """Give the labels of a bundle's task; none where it has none."""
    return getattr(bundle.manifest.task, "labels", ())


def changed(old: Mapping[str, _T], new: Mapping[str, _T]) -> dict[str, Pair[_T]]:
    """Give what differs between two mappings, by key."""
    keys = [*old, *(key for key in new if key not in old)]
    pairs = {key: (old.get(key), new.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _title(bundle: ModelBundle) -> str:
    return f"{bundle.manifest.name} {bundle.manifest.version}"


def _about(bundle: ModelBundle) -> dict[str, JsonValue]:
    told: dict[str, JsonValue] = bundle.manifest.model_dump(
        mode="json", exclude={"variants": True, "receipts": True, "task": {"labels"}}
    )
    return dict(_flat(told))


def _flat(tree: Mapping[str, JsonValue], above: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Write a tree as `path.to.leaf` and leaf; a list is a leaf."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _variant(old: ModelBundle, new: ModelBundle, before: Variant | None, after: Variant) -> VariantChange:
    notes: list[str] = []
    then = _receipts(old, before) if before is not None else ()
    measures = _measures(then, _receipts(new, after), notes)
    same = before is not None and (before.sha256, before.path) == (after.sha256, after.path)
    try:
        update = update_of(old.root / before.path if before is not None else None, new.root / after.path)
    except OSError as error:
        raise StorageError(
            f"variant '{after.id}': cannot be read", got=error.strerror or str(error)
        ) from error
    return VariantChange(
        after.id,
        Kind.ADDED if before is None else Kind.SAME if same else Kind.CHANGED,
        (before.size_bytes if before is not None else None, after.size_bytes),
        measures,
        {} if same else changed(_operators(old, before, notes), _operators(new, after, notes)),
        update,
        tuple(dict.fromkeys(notes)),
    )


def _receipts(bundle: ModelBundle, variant: Variant) -> tuple[Receipt, ...]:
    return tuple(receipt for receipt in bundle.manifest.receipts if receipt.variant == variant.id)


def _measures(
    before: Sequence[Receipt], after: Sequence[Receipt], notes: list[str]
) -> dict[str, Pair[float]]:
    """Pair what receipts say: those of one engine and machine where there are such, else the first."""
    pairs = [
        (then, now)
        for then in before
        for now in after
        if (then.engine, then.machine) == (now.engine, now.machine)
    ]
    first = (next(iter(before), None), next(iter(after), None))
    then, now = next(iter(pairs), first)
    old, new = _quality(then), _quality(now)
    if pairs:
        old, new = old | _speed(then), new | _speed(now)
    elif then is not None and now is not None and (_speed(then) or _speed(now)):
        notes.append(
            f"latency is not compared: was measured with {then.engine} on {then.machine},"
            f" now with {now.engine} on {now.machine}"
        )
    elif then is None:
        new |= _speed(now)
    return {key: (old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])}


def _quality(receipt: Receipt | None) -> dict[str, float]:
    if receipt is None:
        return {}
    accuracy = {f"accuracy.{key}": value for key, value in receipt.accuracy.items()}
    return accuracy | {f"parity.{key}": value for key, value in receipt.parity.items()}


def _speed(receipt: Receipt | None) -> dict[str, float]:
    found: dict[str, float] = {}
    if receipt is not None and receipt.latency is not None:
        found |= {"latency.p50_ms": receipt.latency.p50_ms, "latency.p95_ms": receipt.latency.p95_ms}
    if receipt is not None and receipt.peak_memory_bytes is not None:
        found["memory.peak_bytes"] = receipt.peak_memory_bytes
    return found


def _operators(bundle: ModelBundle, variant: Variant | None, notes: list[str]) -> Mapping[str, int]:
    if variant is None:
        return {}
    try:
        return operators(bundle.path(variant), variant.format)
    except (BundleError, ConversionError) as error:
        notes.append(str(error))
        return {}
