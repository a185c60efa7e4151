"""The page of the conversion matrix: `docs/conversion-matrix.md`, made of what `convert_matrix.py` found."""

from collections.abc import Mapping, Sequence
from typing import Any

from architectures import ARCHITECTURES, CALIBRATION, LENGTH, SIDE, VERIFICATION

_HEAD = """# Conversion matrix

What this project's own build makes of many architectures, and how alike the results answer. The page is
written by `make bench-convert`; nothing on it is edited by hand.

{summary}

A cell shows the cosine of the answers with the source's (the worst output, median over {count} inputs that
calibration did not see), then the share of inputs with the same first class (of boxes found again, for a
detector; of nothing, for an encoder), then the file's size. The source is torch itself, running the module;
of an ONNX file it is onnxruntime. ONNX runs in onnxruntime, TFLite in LiteRT. Core ML exists on Apple
systems only: its programs run in this project's evaluator (`converters/verify/mil.py`), which rounds to
float16 where the program says so, and shows no device's own rounding.

A cell counts if the model was made, answers every input, and keeps these limits:

| precision | least cosine | least agreement |
|---|---|---|
{limits}

int8 is static, with {calibration} calibration samples, for pictures; for texts, weights are int8 and
activations are measured at every run, which is what a build chooses there; in Core ML it means weights
only. In a detector, the last layers stay float.
"""
_WEIGHTS = """
## Where the weights come from

{real}

The other {count} are small nets of transformers' own classes, trained here for some seconds: for pictures
of {side} × {side} on Fashion-MNIST, for texts of {length} tokens on tweets and their sentiment. That is not
to make them good: a net with random weights answers every input with nearly the same numbers, and every
comparison would pass. It also means that their first classes lie closer together than those of a real
model: the harder test.

timm's models are not among them: its package needs torchvision, whose published wheel does not load beside
the CPU build of torch. Neither is a model that comes quantized, such as the SSD-MobileNet-v1 that is around
as TFLite: a build takes it as it is and makes nothing smaller of it.
"""


def page(
    table: Mapping[str, Mapping[str, Any]], limits: Sequence[tuple[str, float, float]], goal: float
) -> str:
    """Write the page.

    Args:
        table: Name of an architecture -> cell -> `convert_matrix.Cell`.
        limits: Precision, least cosine, least agreement.
        goal: Least share of cells.
    """
    cells = [cell for row in table.values() for cell in row.values()]
    good = sum(cell.ok for cell in cells)
    summary = (
        f"**{good} of {len(cells)} cells hold ({good / len(cells):.1%}; the goal is {goal:.0%})**, "
        f"{len(table)} architectures × {len(next(iter(table.values())))} targets."
    )
    text = _HEAD.format(
        summary=summary,
        count=VERIFICATION,
        calibration=CALIBRATION,
        limits="\n".join(f"| {name} | {cosine:g} | {share:.3g} |" for name, cosine, share in limits),
    )
    return text + _matrix(table) + _failures(table) + _sources(table)


def _matrix(table: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(next(iter(table.values())))
    lines = [
        "",
        "## The cells",
        "",
        f"| | {' | '.join(name.replace('-', ' ') for name in names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    lines += [
        f"| {row} | {' | '.join(_shown(found[name]) for name in names)} |" for row, found in table.items()
    ]
    return "\n".join(lines) + "\n"


def _shown(cell: Any) -> str:
    parts = [] if cell.ok else ["**✗**"]
    if cell.cosine is not None:
        parts.append(f"{cell.cosine:.5f}" if cell.cosine > 0.99 else f"{cell.cosine:.3f}")
    if cell.agreement is not None:
        parts.append(f"{cell.agreement:.0%}")
    if cell.size:
        parts.append(f"{cell.size / 1e6:.2f} MB")
    return " · ".join(parts)


def _failures(table: Mapping[str, Mapping[str, Any]]) -> str:
    failed = [
        f"- {row}, {name.replace('-', ' ')}: {cell.reason}"
        for row, found in table.items()
        for name, cell in found.items()
        if not cell.ok
    ]
    return "\n## What failed, and why\n\n" + ("\n".join(failed) if failed else "Nothing.") + "\n"


def _sources(table: Mapping[str, Mapping[str, Any]]) -> str:
    real = [ARCHITECTURES[name] for name in table if not ARCHITECTURES[name].trained]
    return _WEIGHTS.format(
        real="\n".join(f"- {one.name}: {one.weights}" for one in real),
        count=len(table) - len(real),
        side=SIDE,
        length=LENGTH,
    )
