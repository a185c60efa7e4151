"""Plans and results for a person, in tables, and the progress of steps. Decides nothing."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from converters.build import Built, Prepared
from converters.bundle.listing import Column, show_listing
from converters.bundle.show import mega
from converters.judged import Judged
from converters.planned import Plan
from converters.report.data import Outcome
from converters.runner import Failed, Watcher
from converters.verify.gate import AGREEMENT, COSINE, MEASURES
from edge_runtime.cli.shell import error_document

_PLAN = (
    Column("profile"),
    Column("engine"),
    Column("variant"),
    Column("expected", right=True),
    Column("why", folds=True),
)
_RESULT = (
    Column("variant"),
    Column("size", right=True),
    Column("parity", folds=True),
    Column("accuracy", folds=True),
    Column("latency"),
    Column("profile"),
    Column("verdict"),
)
_COLOURS = {Outcome.SHIPPED: "green", Outcome.UNVERIFIED: "yellow"}


def show_plan(prepared: Prepared, screen: Console) -> None:
    """Print who gets what, why, and what the steps are."""
    plan = prepared.plan
    sizes = {variant.id: variant.expected_bytes for variant in plan.variants}
    rows: list[tuple[str, ...]] = []
    before = ""
    for one in plan.choices:
        expected = f"~{mega(sizes[one.variant])}" if sizes[one.variant] else ""
        profile = "" if one.profile == before else one.profile
        rows.append((profile, one.engine, one.variant, expected, escape(one.why)))
        before = one.profile
    show_listing(_PLAN, rows, screen)
    for line in _refusals(plan):
        screen.print(line, style="dim", markup=False, soft_wrap=True)
    names = ", ".join(step.id for step in plan.steps)
    screen.print(f"\n{len(plan.steps)} steps: {names}; then each variant is measured", markup=False)


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """Give the plan for machines."""
    plan = prepared.plan
    return {
        "source": {"kind": prepared.facts.kind, "size_bytes": prepared.facts.size_bytes},
        "steps": [
            {"id": step.id, "function": step.function, "tool": step.tool, "needs": dict(step.needs)}
            for step in plan.steps
        ],
        "variants": plan.variants,
        "choices": plan.choices,
        "refusals": plan.refusals,
    }


def show_result(built: Built, screen: Console) -> None:
    """Print a row for each variant and profile, then what is wrong with any."""
    rows: list[tuple[str, ...]] = []
    for one in built.variants:
        name, numbers = _title(one), (_size(one), _parity(one), _accuracy(one), _latency(one))
        for profile in one.planned.profiles:
            outcome = one.verdict(profile).outcome
            colour = _COLOURS.get(outcome, "red")
            rows.append((escape(name), *numbers, profile, f"[{colour}]{outcome}[/]"))
            name, numbers = "", ("", "", "", "")
    show_listing(_RESULT, rows, screen)
    for why, names in _together(
        (f"{one.outcome}: {one.why}" if one.why else "", one) for one in built.variants
    ):
        screen.print(f"{names}: {why}", markup=False, soft_wrap=True)
    for warning, names in _together((text, one) for one in built.variants for text in one.warnings):
        screen.print(f"{names}: {warning}", markup=False, style="yellow", soft_wrap=True)
    for warning in built.warnings:
        screen.print(f"Warning: {warning}", markup=False, style="yellow", soft_wrap=True)


def result_document(built: Built, out: Path) -> dict[str, Any]:
    """Give the result for machines; `error` is there where there is no bundle, as for any other command."""
    failed = built.failure
    return {
        **({"error": error_document(failed)} if failed is not None else {}),
        "bundle": str(out) if built.bundle is not None else None,
        "report": str(built.report),
        "seconds": round(built.seconds, 3),
        "steps": built.steps,
        "cached": built.cached,
        "warnings": built.warnings,
        "variants": [
            {
                "id": one.planned.id,
                "format": one.planned.format,
                "precision": one.precision,
                "profiles": one.planned.profiles,
                "outcome": one.outcome,
                "verdicts": {profile: one.verdict(profile) for profile in one.planned.profiles},
                "why": one.why,
                "error": _failure_document(one.failure) if one.failure is not None else None,
                "size_bytes": one.size_bytes,
                "receipts": one.receipts,
                "warnings": one.warnings,
            }
            for one in built.variants
        ],
    }


def _failure_document(failure: Failed) -> dict[str, Any]:
    """Give a step's failure: the error with its parts, the tool's own name for it, and where its log is."""
    log = failure.log if failure.log is not None and failure.log.is_file() else None
    return {**error_document(failure.error), "kind": failure.kind, "log": log}


@contextmanager
def progress(screen: Console) -> Generator[Watcher, None, None]:
    """Show a bar for each step that runs, and give whom to tell; a kept result is no news."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen) as bars:
        rows: dict[str, TaskID] = {}

        def tell(step: str, share: float, doing: str) -> None:
            if doing == "cached" and step not in rows:
                return
            if step not in rows:
                rows[step] = bars.add_task(step, total=1.0, doing=doing)
            bars.update(rows[step], completed=share, doing=doing)

        yield tell


def _together(said: Iterable[tuple[str, Judged]]) -> Iterator[tuple[str, str]]:
    """Say once what several variants have in common: a line, and their ids."""
    found: dict[str, list[str]] = {}
    for text, one in said:
        if text:
            found.setdefault(text, []).append(one.planned.id)
    yield from ((text, ", ".join(names)) for text, names in found.items())


def _refusals(plan: Plan) -> Iterator[str]:
    for one in plan.refusals:
        engine = f" with {one.engine}" if one.engine else ""
        yield f"{one.profile}{engine}: no {one.what}: {one.why}"


def _title(one: Judged) -> str:
    changed = one.precision is not one.planned.precision
    return f"{one.planned.id} ({one.precision})" if changed else one.planned.id


def _size(one: Judged) -> str:
    return "" if one.size_bytes is None else mega(one.size_bytes)


def _least(one: Judged, prefix: str) -> float | None:
    found: Iterable[float] = (
        value for receipt in one.receipts for key, value in receipt.parity.items() if key.startswith(prefix)
    )
    return min(found, default=None)


def _parity(one: Judged) -> str:
    cosine, same = _least(one, COSINE), _least(one, AGREEMENT)
    parts = [
        f"cosine {cosine:.4f}" if cosine is not None else "",
        f"same {same:.0%}" if same is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _accuracy(one: Judged) -> str:
    for receipt in one.receipts:
        for measure in MEASURES:
            if measure in receipt.accuracy:
                return f"{measure} {receipt.accuracy[measure]:.3f}"
    return ""


def _latency(one: Judged) -> str:
    timed = [(receipt.latency.p50_ms, receipt) for receipt in one.receipts if receipt.latency]
    if not timed:
        return ""
    fastest, receipt = min(timed, key=lambda pair: pair[0])
    ratio = receipt.latency.times_fp32 if receipt.latency else None
    return f"{fastest:.2f} ms {receipt.engine}" + (f", {ratio:.2f} × fp32" if ratio is not None else "")
