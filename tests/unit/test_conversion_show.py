"""What a conversion prints stays readable on a narrow terminal: a number or a name is never broken."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from converters.build import Built
from converters.bundle.listing import Column, show_listing
from converters.judged import Judged
from converters.planned import PlannedVariant
from converters.report.data import Outcome, Verdict
from converters.show import show_result
from edge_runtime.contract.bundle import Format, Latency, Precision, Receipt

PROFILES = ("raspberry-pi-5", "store-pc-nvidia")


def receipt() -> Receipt:
    return Receipt(
        variant="openvino-mixed",
        engine="onnxruntime",
        machine="a desk",
        measured_at="2026-01-01T00:00:00Z",
        parity={"cosine.scores": 0.99871, "agreement.boxes": 0.9906},
        accuracy={"macro_f1": 0.91234, "source.macro_f1": 0.92},
        latency=Latency(p50_ms=156.437, p95_ms=170, threads=1, runs=10, times_fp32=0.4064),
    )


def built() -> Built:
    name, formats = "openvino-mixed", (Format.OPENVINO, Precision.MIXED)
    plan = PlannedVariant(name, *formats, name, None, ("openvino",), PROFILES, 0)
    verdicts = {name: Verdict(Outcome.UNVERIFIED, "its accuracy") for name in PROFILES}
    one = Judged(
        plan,
        Outcome.UNVERIFIED,
        "its accuracy",
        Precision.MIXED,
        5_730_000,
        (receipt(),),
        verdicts=verdicts,
    )
    return Built(None, Path("report"), (one,), (), 1.0)


def printed(width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width)
    show_result(built(), screen)
    text = screen.file
    assert isinstance(text, io.StringIO)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
def test_results_are_whole_at_every_width(width: int) -> None:
    lines = printed(width)
    for said in (
        "openvino-mixed",
        "5.73 MB",
        "cosine 0.9987, same 99%",
        "macro_f1 0.912",
        "156.44 ms onnxruntime, 0.41 × fp32",
        *PROFILES,
    ):
        assert any(said in line for line in lines), said
    assert sum("not verified here" in line for line in lines) == len(PROFILES) + 1
    assert max(map(len, lines)) <= width


def test_a_wide_screen_has_a_row_for_each_profile() -> None:
    head, first, second, why = printed(200)
    assert head.split() == ["variant", "size", "parity", "accuracy", "latency", "profile", "verdict"]
    assert first.startswith("openvino-mixed")
    assert second.split(maxsplit=1) == ["store-pc-nvidia", "not verified here"]
    assert why == "openvino-mixed: not verified here: its accuracy"


def test_a_block_leaves_out_what_is_not_known() -> None:
    screen = Console(file=io.StringIO(), width=24)
    columns = (Column("variant"), Column("size", right=True), Column("said", folds=True))
    rows = [("a-long-name-of-a-model", "5.73 MB", "–"), ("", "", "two words")]
    show_listing(columns, rows, screen)
    text = screen.file
    assert isinstance(text, io.StringIO)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert lines == ["a-long-name-of-a-model", "  size  5.73 MB", "  said  two words"]
