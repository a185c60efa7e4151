"""Puts the report of a conversion together: one HTML file that needs no network, no script and no other file.

Decides and measures nothing; every word from outside is escaped on its way in.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TypeAlias, TypeVar

from converters.bundle.show import mega, number
from converters.report.charts import Point, bars, scatter
from converters.report.data import Outcome, ReportData, ReportVariant
from converters.report.numbers import (
    accuracy_of,
    in_bundle,
    latency_of,
    measure_of,
    megabytes_of,
    memory_of,
    parity_of,
    source_accuracy,
)
from converters.verify.gate import AGREEMENT, COSINE
from edge_runtime.atomic import new_file
from edge_runtime.sinks.report_charts import table

_LAYERS = 16
_NAMES = {"ap": "AP", "top1": "top-1", "spearman": "Spearman", "macro_f1": "macro F1"}
"""What a person calls the measures of `verify.gate.MEASURES`."""
_Column: TypeAlias = tuple[str, Callable[[ReportVariant], str]]
_MARKS = {Outcome.SHIPPED: "ok", Outcome.UNVERIFIED: "open", Outcome.LEFT_OUT: "bad", Outcome.FAILED: "bad"}
_SIGNS = {Outcome.SHIPPED: "✓", Outcome.UNVERIFIED: "?", Outcome.LEFT_OUT: "✗", Outcome.FAILED: "✗"}


def write(path: Path, data: ReportData) -> None:
    """Write the page, replacing an older one; nobody ever reads half of it.

    Args:
        path: The HTML file; its folder is made.
        data: What it is about.

    Raises:
        StorageError: It cannot be written.
    """
    with new_file(path) as stream:
        stream.write(page(data).encode())


def page(data: ReportData) -> str:
    """Write the page.

    Args:
        data: What it is about; its variants may be none.

    Returns:
        HTML.
    """
    template = Template(files("converters.report").joinpath("report.html").read_text("utf-8"))
    facts = {"Source": data.source, "Task": data.task, **data.facts}
    return template.substitute(
        title=escape(f"{data.name} {data.version}"),
        lead=escape(_lead(data)),
        tiles=_tiles(data),
        variants=_variants(data),
        plots=_plots(data),
        missing=_missing(data),
        layers="".join(map(_layers, data.variants)),
        measured=_measured(data),
        facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items()),
        provenance=_provenance(data),
    )


def _lead(data: ReportData) -> str:
    profiles = {profile for variant in data.variants for profile in variant.verdicts}
    inside = sum(in_bundle(variant) for variant in data.variants)
    return f"{inside} of {len(data.variants)} variants for {_count(len(profiles), 'device profile')}"


def _tiles(data: ReportData) -> str:
    inside = [variant for variant in data.variants if in_bundle(variant)]
    tiles: list[tuple[str, str]] = []
    sizes = [(one.size_bytes, one.id) for one in inside if one.size_bytes is not None]
    if sizes:
        size, names = _least(sizes, mega)
        of = f", {size / data.source_size_bytes:.0%} of the source" if data.source_size_bytes else ""
        tiles.append((mega(size), f"smallest: {names}{of}"))
    times = [(ms, one.id) for one in inside if (ms := latency_of(one)) is not None]
    if times:
        ms, names = _least(times, "{:.3g}".format)
        tiles.append((f"{ms:.3g} ms", f"fastest: {names}, one inference here"))
    measure = measure_of(data)
    right = [(value, one.id) for one in inside if (value := accuracy_of(one, measure)) is not None]
    if right:
        value, names = _least(right, number)
        source = number(source_accuracy(data))
        tiles.append((number(value), f"lowest {_NAMES[measure]}: {names}; the source has {source}"))
    lost = len(data.variants) - len(inside)
    tiles.append((str(lost), f"left out or failed, of {len(data.variants)}"))
    return "".join(f"<div><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in tiles)


_Value = TypeVar("_Value", int, float)


def _least(values: Sequence[tuple[_Value, str]], shown: Callable[[_Value], str]) -> tuple[_Value, str]:
    """Give the least value, and who has it; all who do, where they look the same on the page."""
    least, _ = min(values)
    first, *others = (name for value, name in values if shown(value) == shown(least))
    if not others:
        return least, first
    return least, f"{first} and {others[0] if len(others) == 1 else f'{len(others)} others'}"


def _variants(data: ReportData) -> str:
    measure = measure_of(data)
    accuracy: list[_Column] = (
        [(_NAMES[measure], lambda one: number(accuracy_of(one, measure)))] if measure else []
    )
    columns: list[_Column] = [
        ("size", lambda one: mega(one.size_bytes) if one.size_bytes is not None else "–"),
        ("worst cosine", lambda one: _likeness(one, COSINE)),
        ("agreement", lambda one: _likeness(one, AGREEMENT)),
        *accuracy,
        ("p50, ms", lambda one: number(latency_of(one))),
        ("memory", lambda one: mega(memory) if (memory := memory_of(one)) else "–"),
    ]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title, _ in columns)
    rows = "".join(
        f'<tr><td class="no">{index}</td><th scope="row">{escape(one.id)}'
        f"<small>{escape(one.format)}, {escape(one.precision)}</small></th>"
        + "".join(f'<td data-name="{escape(title)}">{escape(cell(one))}</td>' for title, cell in columns)
        + f'<td class="words">{_chips(one)}</td></tr>'
        for index, one in enumerate(data.variants, 1)
    )
    legend = "; ".join(
        f"{_SIGNS[one]} {one}" for one in (Outcome.SHIPPED, Outcome.UNVERIFIED, Outcome.LEFT_OUT)
    )
    return (
        '<div class="scroll"><table class="variants"><thead><tr><th class="no" scope="col">#</th>'
        f'<th scope="col">variant</th>{head}<th scope="col" class="words">device profiles</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div><p>{legend} or failed. Latency and peak memory are of the"
        " fastest engine on the machine of this conversion, not of the device.</p>"
    )


def _chips(variant: ReportVariant) -> str:
    return "".join(
        f'<span class="chip {_MARKS[verdict.outcome]}" title="{escape(verdict.why or verdict.outcome)}">'
        f"{_SIGNS[verdict.outcome]} {escape(profile)}</span>"
        for profile, verdict in variant.verdicts.items()
    )


def _plots(data: ReportData) -> str:
    """Draw quality against size and latency: accuracy where there is any, else agreement, else likeness."""
    measure = measure_of(data)
    ways: list[tuple[str, Callable[[ReportVariant], float | None]]] = [
        ("agreement with the source", lambda one: parity_of(one, AGREEMENT)),
        ("worst cosine to the source", lambda one: parity_of(one, COSINE)),
    ]
    if measure:
        ways.insert(0, (_NAMES[measure], lambda one: accuracy_of(one, measure)))
    name, height = next(
        (way for way in ways if any(way[1](one) is not None for one in data.variants)), ways[-1]
    )
    level = source_accuracy(data) if measure else None
    plots = [
        scatter(points, x=x, y=name, level=level, level_name="source", most=1.0)
        for x, width in (("size, MB", megabytes_of), ("latency, ms", latency_of))
        if (points := list(_points(data, width, height)))
    ]
    return (
        f'<section><h2>What it costs</h2><div class="plots">{"".join(plots)}</div></section>' if plots else ""
    )


def _points(
    data: ReportData,
    width: Callable[[ReportVariant], float | None],
    height: Callable[[ReportVariant], float | None],
) -> Iterator[Point]:
    for index, one in enumerate(data.variants, 1):
        x, y = width(one), height(one)
        if x is not None and y is not None:
            said = f"{index} {one.id}: {number(y)} at {number(x)}"
            yield Point(index, x, y, said, in_bundle(one))


def _missing(data: ReportData) -> str:
    """List what is not as it should be; what several variants have in common is said once."""
    items: dict[str, dict[str, list[str]]] = {}
    for one in data.variants:
        for (outcome, why), profiles in _reasons(one).items():
            became = f"{outcome} for {', '.join(profiles)}"
            items.setdefault(why or "no reason was given", {}).setdefault(became, []).append(one.id)
    for one in data.variants:
        for warning in dict.fromkeys(one.warnings):
            items.setdefault(warning, {}).setdefault("warning", []).append(one.id)
    if not items:
        return ""
    lines = "".join(
        f"<li>{'; '.join(_whose(became, names) for became, names in whose.items())}"
        f"<span>{escape(why)}</span></li>"
        for why, whose in items.items()
    )
    return f'<section><h2>What failed or is open</h2><ul class="why">{lines}</ul></section>'


def _whose(became: str, names: Sequence[str]) -> str:
    return f"<b>{escape(', '.join(names))}</b> {escape(became)}"


def _reasons(variant: ReportVariant) -> dict[tuple[Outcome, str], list[str]]:
    """Group profiles by what became of the variant there, where that was not all it should be."""
    found: dict[tuple[Outcome, str], list[str]] = {}
    for profile, verdict in variant.verdicts.items():
        if verdict.outcome is not Outcome.SHIPPED:
            found.setdefault((verdict.outcome, verdict.why), []).append(profile)
    return found


def _layers(variant: ReportVariant) -> str:
    if not variant.layers:
        return ""
    worst = sorted(variant.layers, key=lambda layer: -layer.error)
    kept = {layer.name: layer.precision for layer in worst if layer.precision.startswith("fp")}
    said = f"The {min(_LAYERS, len(worst))} worst of {_count(len(worst), 'layer')} by {variant.layer_unit}"
    if kept:
        said += f"; {len(kept)} in green kept {' and '.join(sorted(set(kept.values())))}"
    rows = [(layer.name, layer.error, kept.get(layer.name, "")) for layer in worst[:_LAYERS]]
    return f"<section><h2>Layers of {escape(variant.id)}</h2><p>{escape(said)}.</p>{bars(rows)}</section>"


def _measured(data: ReportData) -> str:
    receipts = [receipt for variant in data.variants for receipt in variant.receipts]
    if not receipts:
        return "<p>Nothing was measured.</p>"
    speed = [
        (
            one.variant,
            one.engine,
            number(one.latency.p50_ms),
            number(one.latency.p95_ms),
            str(one.latency.threads),
            str(one.latency.runs),
            one.machine,
        )
        for one in receipts
        if one.latency
    ]
    told = [
        (one.variant, one.engine, f"{kind}.{key}", number(value))
        for one in receipts
        for kind, values in (("parity", one.parity), ("accuracy", one.accuracy))
        for key, value in values.items()
    ]
    shown = _speeds(speed) if speed else ""
    every = table(("Variant", "engine", "measure", "value"), told)
    return f"{shown}<details><summary>All {len(told)} numbers</summary>{every}</details>"


_SPEEDS = ("Variant", "engine", "p50, ms", "p95, ms", "threads", "runs", "machine")
_WORDY = frozenset({"engine", "machine"})


def _speeds(rows: Sequence[Sequence[str]]) -> str:
    """Write the table of latencies. A number has four digits that matter: some models take 20 µs."""
    kinds = [' class="words"' if title in _WORDY else "" for title in _SPEEDS]
    titles = "".join(
        f'<th scope="col"{kind}>{escape(title)}</th>' for title, kind in zip(_SPEEDS, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        + "</tr>"
        for first, *rest in rows
    )
    return (
        '<div class="scroll"><table class="speeds"><caption>Latency of one inference</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _provenance(data: ReportData) -> str:
    found = data.provenance
    if found is None:
        return ""
    tools = table(("Tool", "version"), sorted(found.tools.items())) if found.tools else ""
    recipe = escape(json.dumps(dict(found.recipe), indent=2, sort_keys=True, ensure_ascii=False))
    return (
        f"<dl><dt>Source SHA-256</dt><dd>{escape(found.source_sha256)}</dd></dl>{tools}"
        f"<details><summary>Recipe</summary><pre>{recipe}</pre></details>"
    )


def _likeness(variant: ReportVariant, prefix: str) -> str:
    lowest = parity_of(variant, prefix)
    return "–" if lowest is None else f"{lowest:.4f}"


def _count(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'' if number_of == 1 else 's'}"
