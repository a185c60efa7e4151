"""The page of the conversion matrix: `docs/conversion-matrix.md`, made of what `convert_matrix.py` found."""

from collections.abc import Mapping, Sequence
from typing import Any

from architectures import ARCHITECTURES, CALIBRATION, LEARNT, LENGTH, SIDE, VERIFICATION

_HEAD = """# Conversion matrix

What this project's own build makes of many architectures, and how alike the results answer. The page is
written by `make bench-convert`; nothing on it is edited by hand.

{summary}

A cell shows the cosine of the answers with the source's (the worst output, median over {count} inputs that
calibration did not see), then the share of inputs with the same first class (of boxes found again, for a
detector; of nothing, for an encoder), then the file's size; ✗ marks a cell that does not count. The source
is torch itself, running the module; of an ONNX file it is onnxruntime. ONNX runs in onnxruntime, TFLite in
LiteRT. Core ML exists on Apple systems only: its programs run in this project's evaluator
(`converters/verify/mil.py`), which rounds to float16 where the program says so, and shows no device's own
rounding.

A cell counts if the model was made, answers every input, and keeps these limits:

| precision | least cosine | least agreement |
|---|---|---|
{limits}

int8 is what a build chooses: static for pictures, with {calibration} calibration samples; cells marked
*dynamic* have weights in int8 and activations measured at every run: those of texts, and in TFLite those of
nets that attend or normalize each sample, which static int8 spoils there. In Core ML int8 is of weights
only. In a detector, the last layers stay float. The page measures no speed: where convolutions do most of
the work, dynamic int8 took 1.3 to 1.6 times fp32's time in LiteRT here (Levit, Bit, MobileViT), and a build
measures that and does not ship it.
"""
_WEIGHTS = """
## Where the weights come from

{real}

Those of photographs are compared on cuts of real ones in which the source's first class leads by a tenth or
more: most cuts of a street show none of a thousand classes, and a first class that leads by nothing says
nothing.

The other {count} are small nets of transformers' own classes. Their first weights are random; then they are
trained here for some seconds, for pictures of {side} × {side} on Fashion-MNIST, for texts of {length}
tokens on tweets, their length and sentiment, until {learnt:.0%} of the answers are right. That is not to
make them good: a net with random weights answers every input with nearly the same numbers, and every
comparison would pass. It also means that their first classes lie closer together than those of a real
model: the harder test.

timm's models are not among them: its package (1.0.31 was tried) imports torchvision, whose published wheel
is built for CUDA and does not load beside the CPU build of torch. Neither is a model that comes quantized,
such as the SSD-MobileNet-v1 that is around as TFLite: a build takes it as it is and makes nothing smaller
of it.
"""


REASONS: Mapping[tuple[str, str], str] = {
    ("MobileNetV2", "onnx-int8"): "One of 16 first classes changes, which led by 0.12; and the scores"
    " move more than the limit. Its channels differ much in range, and were not trained for 8 bits. Remedy,"
    " tried: `mixed` with an `accuracy_drop` of 0.0001 gives back 2 of 53 layers: no class changes, cosine"
    " 0.994, the same size, and still 0.4 to 0.5 of fp32's time.",
    ("MobileNetV2", "tflite-int8"): "Three of 16 first classes change, that led by up to 0.43."
    " Remedy, tried: `mixed` gives the last layer back, which has a third of the weights: no class changes,"
    " cosine 0.993, 7.9 MB, and still half of fp32's time.",
    ("EfficientNet-Lite0", "onnx-int8"): "No first class changes, but the scores move more than the limit."
    " Remedy, tried: `mixed` with an `accuracy_drop` of 0.0005 gives back 15 of 50 layers: cosine 0.999,"
    " 5.9 MB, 0.6 of fp32's time.",
    ("EfficientNet-Lite0", "tflite-int8"): "Three of 16 first classes change, that led by up to 0.59."
    " Remedy, tried: `mixed` with an `accuracy_drop` of 0.0005 gives back 9 of 51 parts: no class changes,"
    " cosine 0.999, 9.8 MB, half of fp32's time.",
    ("MobileViTV2", "tflite-fp32 tflite-int8"): "Its `torch.nn.functional.fold` becomes a scatter, for which"
    " LiteRT has no kernel. Remedy: write the folding as a reshape and a transposition, which is the same for"
    " patches that do not overlap; or take ONNX or Core ML.",
}
"""Architecture, its cells -> why they fail, and the remedy; found by looking; look again when they change."""


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
    if cell.dynamic:
        parts.append("*dynamic*")
    if cell.size:
        parts.append(f"{cell.size / 1e6:.2f} MB")
    return " · ".join(parts)


def _failures(table: Mapping[str, Mapping[str, Any]]) -> str:
    failed = [
        f"- **{row}, {name.replace('-', ' ')}**: {cell.reason}. {why(row, name)}"
        for row, found in table.items()
        for name, cell in found.items()
        if not cell.ok
    ]
    return "\n## What failed, and why\n\n" + ("\n".join(failed) if failed else "Nothing.") + "\n"


def why(row: str, cell: str) -> str:
    """Explain a cell that fails, as far as somebody looked into it, and say what to do instead."""
    return next(
        (text for (name, cells), text in REASONS.items() if name == row and cell in cells.split()),
        "Nobody has looked into it yet.",
    )


def _sources(table: Mapping[str, Mapping[str, Any]]) -> str:
    real = [ARCHITECTURES[name] for name in table if not ARCHITECTURES[name].trained]
    return _WEIGHTS.format(
        real="\n".join(f"- {one.name}: {one.weights}" for one in real),
        count=len(table) - len(real),
        side=SIDE,
        length=LENGTH,
        learnt=LEARNT,
    )
