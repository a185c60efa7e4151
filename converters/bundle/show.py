"""Prints bundles, checks and differences for a person.

Reads no bundle and compares nothing.
"""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from converters.bundle.delta import Method, Update
from converters.bundle.diff import BundleDiff, Kind, Pair, VariantChange, labels_of
from converters.bundle.listing import Column, show_listing
from converters.bundle.verify import Verified
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Receipt
from edge_runtime.signature import SIGNATURE, read_signature, short_id

_OPERATORS = 8
_VARIANTS = (
    Column("variant"),
    Column("format"),
    Column("precision"),
    Column("size", right=True),
    Column("for", folds=True),
)
_RECEIPTS = (
    Column("measured"),
    Column("engine"),
    Column("p50", right=True),
    Column("memory", right=True),
    Column("parity", folds=True),
    Column("accuracy", folds=True),
    Column("machine", folds=True),
)
_DIFFERENCES = (
    Column("variant"),
    Column(""),
    Column("size", right=True),
    Column("update sends", right=True),
    Column("how", folds=True),
)
_COLOURS = {Kind.ADDED: "green", Kind.REMOVED: "red", Kind.CHANGED: "yellow", Kind.SAME: "dim"}


def show_bundle(bundle: ModelBundle, screen: Console) -> None:
    """Print what is in a bundle."""
    told = bundle.manifest
    screen.print(f"[bold]{told.name} {told.version}[/], {told.task.kind}, licence {escape(told.licence)}")
    screen.print(told.source, style="dim", markup=False)
    labels = labels_of(bundle)
    if labels:
        more = f" and {len(labels) - 6} more" if len(labels) > 6 else ""
        screen.print(f"labels: {', '.join(labels[:6])}{more}", markup=False)
    rows = [
        (one.id, one.format, one.precision, mega(one.size_bytes), ", ".join(one.profiles) or "every device")
        for one in told.variants
    ]
    screen.print()
    show_listing(_VARIANTS, rows, screen)
    if told.receipts:
        _show_receipts(told.receipts, screen)
    for one in told.omitted:
        screen.print(f"\nleft out {one.id} ({', '.join(one.profiles)}): {one.why}", markup=False)
    beside = [title for title, part in bundle.parts() if part not in told.variants]
    signature = bundle.root / SIGNATURE
    signed = f"by key {short_id(read_signature(signature).key_id)}" if signature.exists() else "by nobody"
    also = f"with {', '.join(beside)}; " if beside else ""
    screen.print(f"\n{also}signed {signed} (verify checks it)")
    if told.provenance is not None:
        tools = ", ".join(f"{tool} {version}" for tool, version in sorted(told.provenance.tools.items()))
        screen.print(f"made with {tools or 'nothing it names'}", style="dim", markup=False)


def _show_receipts(receipts: Iterable[Receipt], screen: Console) -> None:
    rows = [
        (
            one.variant,
            one.engine,
            f"{number(one.latency.p50_ms)} ms" if one.latency else "–",
            mega(one.peak_memory_bytes) if one.peak_memory_bytes else "–",
            _pairs(one.parity.items()),
            _pairs(one.accuracy.items()),
            escape(one.machine),
        )
        for one in receipts
    ]
    screen.print()
    show_listing(_RECEIPTS, rows, screen)


def show_check(check: Verified, screen: Console) -> None:
    """Print what a check found."""
    screen.print(
        f"[green]sound[/] {check.name} {check.version}: {check.files} files, {check.size_bytes:,} bytes,"
        " every digest right, nothing else there",
        soft_wrap=True,
    )
    if check.key_id is None:
        screen.print("[yellow]not signed[/]: edge-runtime bundle sign")
    elif check.trusted:
        screen.print(f"[green]signed[/] by the trusted key {check.key_id}", soft_wrap=True)
    else:
        screen.print(
            f"[yellow]signature not checked[/]: says key {check.key_id}; give its public key with --key",
            soft_wrap=True,
        )


def show_diff(diff: BundleDiff, screen: Console) -> None:
    """Print what changed."""
    screen.print(f"[bold]{diff.old}[/] → [bold]{diff.new}[/]\n")
    if diff.about:
        about = _table("field", "before", "after")
        for name, (old, new) in diff.about.items():
            about.add_row(name, _short(old), _short(new))
        screen.print(about, "", sep="\n")
    if diff.labels_added or diff.labels_removed:
        added, removed = (", ".join(labels) or "none" for labels in (diff.labels_added, diff.labels_removed))
        screen.print(f"labels added: {added}; removed: {removed}", markup=False)
    if diff.labels_moved:
        screen.print("[red]labels moved[/]: the same class number now means something else")
    rows: list[tuple[str, ...]] = []
    for one in diff.variants:
        sends = "–" if one.update is None else mega(one.update.size_bytes)
        kind = f"[{_COLOURS[one.kind]}]{one.kind}[/]"
        rows.append((one.id, kind, _sizes(one.size_bytes), sends, _how(one.update)))
    show_listing(_DIFFERENCES, rows, screen)
    for one in diff.variants:
        _show_variant(one, screen)
    if not diff.can_compress:
        screen.print(
            "\nzstd is not installed, so updates are counted whole: pip install 'edge-runtime[convert]'",
            style="dim",
            markup=False,
        )


def _show_variant(change: VariantChange, screen: Console) -> None:
    measures = {key: pair for key, pair in change.measures.items() if pair[0] != pair[1]}
    if not (measures or change.operators or change.notes):
        return
    screen.print(f"\n[bold]{change.id}[/]")
    if measures:
        table = _table("measure", ">before", ">after")
        for key, (old, new) in measures.items():
            table.add_row(key, number(old), number(new))
        screen.print(table)
    if change.operators and change.kind is Kind.CHANGED:
        said = [f"{name} {old or 0} → {new or 0}" for name, (old, new) in change.operators.items()]
        more = f" and {len(said) - _OPERATORS} more" if len(said) > _OPERATORS else ""
        screen.print(f"operators: {', '.join(said[:_OPERATORS])}{more}", markup=False)
    for note in change.notes:
        screen.print(note, style="dim", markup=False)


def mega(size_bytes: int) -> str:
    """Write a size: `812 bytes`, `39.1 kB`, `4.40 MB`."""
    if size_bytes < 1e4:
        return f"{size_bytes:,} bytes"
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes < 1e7 else f"{size_bytes / 1e6:,.1f} MB"


def number(value: float | None) -> str:
    """Write a measure with four digits that matter; whole numbers whole."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1000 else f"{value:.4g}"


def _sizes(sizes: Pair[int]) -> str:
    old, new = sizes
    if old is None or new is None or old == new:
        return mega(new if new is not None else old or 0)
    return f"{mega(old)} → {mega(new)} ({(new - old) / max(old, 1):+.1%})"


def _how(update: Update | None) -> str:
    if update is None:
        return ""
    said = {
        Method.NONE: "nothing to send",
        Method.PATCH: "zstd patch from the old one",
        Method.COMPRESSED: "zstd",
        Method.WHOLE: "whole",
    }
    return ", ".join(said[method] for method in Method if method in update.methods)


def _pairs(items: Iterable[tuple[str, float]]) -> str:
    return escape(", ".join(f"{key} {number(value)}" for key, value in items)) or "–"


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return escape(text if len(text) <= 60 else f"{text[:59]}…")


def _table(*columns: str) -> Table:
    """Make a table; a column's name that begins with `>` has its cells to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        right = name.startswith(">")
        table.add_column(name.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return table
