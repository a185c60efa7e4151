"""The report of a conversion: right numbers, one file, nothing from outside that the page would obey."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.report import LayerError, Outcome, ReportData, ReportVariant, Verdict, page, write
from converters.report.charts import Point, axis, scatter
from edge_runtime.contract.bundle import Latency, Provenance, Receipt
from edge_runtime.contract.errors import StorageError

VOID = {"meta", "br"}
HOSTILE = '<script>alert("x")</script>&'


class Page(HTMLParser):
    """Checks that every tag is closed, and collects texts, titles and what the page would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.titles: list[str] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(word for word in self.words if word)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        known = dict(attrs)
        assert not any(name.startswith("on") for name in known)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        self.titles.append(known.get("title") or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(" ".join(data.split()))


def receipt(variant: str, engine: str, ap: float, p50_ms: float, cosine: float = 0.99) -> Receipt:
    return Receipt(
        variant=variant,
        engine=engine,
        machine="a desk",
        measured_at="2026-01-01T00:00:00Z",
        parity={"cosine.boxes": 1.0, "cosine.scores": cosine, "agreement.boxes": 0.97},
        accuracy={"ap": ap, "ap50": 0.6, "source.ap": 0.41},
        latency=Latency(p50_ms=p50_ms, p95_ms=p50_ms * 2, threads=1, runs=50),
        peak_memory_bytes=int(p50_ms * 1e7),
    )


def data(said: str = "") -> ReportData:
    shipped = Verdict(Outcome.SHIPPED)
    return ReportData(
        name=f"shop{said}",
        version="1.2.3",
        task="detection",
        source=f"made for a test{said}",
        variants=(
            ReportVariant(
                f"onnx-fp32{said}",
                "onnx",
                "fp32",
                {f"store-pc-cpu{said}": shipped, "raspberry-pi-5": shipped},
                20_000_000,
                [receipt("a", "onnxruntime", 0.405, 40), receipt("a", "openvino", 0.404, 30.5)],
            ),
            ReportVariant(
                "onnx-int8",
                "onnx",
                "int8",
                {"raspberry-pi-5": Verdict(Outcome.LEFT_OUT, f"AP fell by 0.1{said}")},
                5_000_000,
                [receipt("b", "onnxruntime", 0.31, 20, 0.9)],
                layers=[
                    LayerError(f"/conv{n}{said}", 20.0 - n, "fp32" if n == 0 else "int8") for n in range(20)
                ],
                layer_unit="lost boxes",
                warnings=[f"few samples{said}"],
            ),
            ReportVariant(
                "coreml-fp16",
                "coreml",
                "fp16",
                {"iphone-recent": Verdict(Outcome.UNVERIFIED, "no Mac")},
                9_000,
            ),
            ReportVariant("tflite-int8", "tflite", "int8", {"android-mid": Verdict(Outcome.FAILED)}),
        ),
        source_size_bytes=20_000_000,
        facts={f"Machine{said}": f"a desk{said}"},
        provenance=Provenance(
            source_sha256="ab" * 32, recipe={f"name{said}": said}, tools={f"onnx{said}": f"1.23{said}"}
        ),
    )


def test_the_page_holds_the_numbers() -> None:
    found = Page(page(data()))
    assert found.open == []
    for said in (
        "shop 1.2.3 2 of 4 variants for 4 device profiles",
        "9,000 bytes smallest: coreml-fp16, 0% of the source",
        "30.5 ms fastest: onnx-fp32",
        "0.404 lowest AP: onnx-fp32; the source has 0.41",
        "2 left out or failed, of 4",
        # Of several engines: the worst answer, the best time and the memory that goes with it.
        "1 onnx-fp32 onnx, fp32 20.0 MB 0.9900 0.9700 0.404 30.5 305.0 MB ✓ store-pc-cpu ✓ raspberry-pi-5",
        "2 onnx-int8 onnx, int8 5.00 MB 0.9000 0.9700 0.31 20 200.0 MB ✗ raspberry-pi-5",
        "3 coreml-fp16 coreml, fp16 9,000 bytes – – – – – ? iphone-recent",
        "onnx-int8 left out for raspberry-pi-5 AP fell by 0.1",
        "tflite-int8 failed for android-mid no reason was given",
        "coreml-fp16 not verified here for iphone-recent no Mac",
        "onnx-int8 warning few samples",
        "The 16 worst of 20 layers by lost boxes; 1 in green kept fp32.",
        "/conv0 fp32 20 /conv1 19",
        "a openvino 30.5 61 1 50 a desk",
        "parity.cosine.scores 0.99",
        "Machine a desk",
        "Source SHA-256 abab",
    ):
        assert said in found.text, said
    assert "/conv16" not in found.text
    assert "1 onnx-fp32: 0.404 at 30.5" in found.titles
    assert "AP fell by 0.1" in found.titles


def test_the_page_needs_nothing_and_runs_nothing() -> None:
    html = page(data(HOSTILE))
    found = Page(html)
    assert found.open == []
    assert not found.tags & {"script", "link", "iframe", "object", "embed", "img"}
    assert found.sources == []
    assert not re.search(r"url\(|@import|http", html)
    assert html.count("&lt;script&gt;") >= 15


def test_nothing_came_of_it() -> None:
    bare = ReportData("shop", "1", "detection", "x", ())
    found = Page(page(bare))
    assert found.open == []
    assert "0 of 0 variants for 0 device profiles" in found.text
    assert "Nothing was measured." in found.text
    unmeasured = ReportVariant("x", "onnx", "fp32", {"p": Verdict(Outcome.UNVERIFIED)}, 100)
    assert "What it costs" not in Page(page(ReportData("shop", "1", "d", "x", (unmeasured,)))).text


def test_without_labels_the_plots_show_agreement() -> None:
    one = receipt("x", "onnxruntime", 0.4, 10).model_copy(update={"accuracy": {}})
    variant = ReportVariant("x", "onnx", "fp32", {"p": Verdict(Outcome.SHIPPED)}, 100, [one])
    found = Page(page(ReportData("shop", "1", "d", "x", (variant,))))
    assert "agreement with the source against size, MB" in found.text
    assert "source has" not in found.text


def test_a_share_is_drawn_on_an_axis_that_ends_at_one() -> None:
    for values in ((1.0, 1.0), (0.98, 0.98), (1.0000002, 0.9999999), (0.41, 1.0)):
        points = [Point(n, n, y, f"{n}", True) for n, y in enumerate(values, 1)]
        html = scatter(points, x="size", y="agreement", level=None, level_name="", most=1.0)
        ruler = re.search(r'<div class="y">(.*?)</div>', html)
        assert ruler is not None
        ticks = [float(tick) for tick in re.findall(r">([\d.]+)<", ruler[1])]
        assert max(ticks) == 1.0, values
        places = [
            float(place)
            for place in re.findall(r"<i class=\"point\" style=\"left:[\d.]+%;bottom:([\d.]+)", html)
        ]
        assert all(0 <= place <= 100 for place in places)


def variant(
    name: str, *receipts: Receipt, warnings: Sequence[str] = (), size_bytes: int = 100
) -> ReportVariant:
    verdicts = {"p": Verdict(Outcome.SHIPPED)}
    return ReportVariant(name, "onnx", "fp32", verdicts, size_bytes, receipts, warnings=warnings)


def test_a_latency_below_a_tenth_of_a_millisecond_is_a_number() -> None:
    one = variant("x", receipt("x", "onnxruntime", 0.4, 0.0213))
    found = Page(page(ReportData("shop", "1", "d", "x", (one,))))
    assert "x onnxruntime 0.0213 0.0426 1 50 a desk" in found.text
    assert "0.0 " not in found.text


def test_what_variants_have_in_common_is_said_once() -> None:
    failed = {"p": Verdict(Outcome.FAILED, "no such operator")}
    lost = [ReportVariant(name, "tflite", "fp32", failed) for name in ("c", "d")]
    other = ReportVariant("e", "tflite", "fp32", {"q": Verdict(Outcome.FAILED, "no such operator")})
    warned = [variant(name, warnings=["few samples", "few samples"]) for name in ("a", "b")]
    found = Page(page(ReportData("shop", "1", "d", "x", (*warned, *lost, other))))
    assert found.text.count("few samples") == found.text.count("no such operator") == 1
    assert "a, b warning few samples" in found.text
    assert "c, d failed for p; e failed for q no such operator" in found.text


def test_a_tile_names_all_that_tie() -> None:
    def lead(*sizes: int) -> str:
        variants = [variant(f"v{n}", size_bytes=size) for n, size in enumerate(sizes)]
        text = Page(page(ReportData("shop", "1", "d", "x", variants))).text
        return text.partition("smallest: ")[2].partition(" 0 left out")[0]

    assert lead(100, 200) == "v0"
    assert lead(100, 100) == "v0 and v1"
    assert lead(5, 5, 5) == "v0 and 2 others"
    assert lead(7, 5, 5) == "v1 and v2"
    assert lead(7, 5, 5, 5) == "v1 and 2 others"
    # They differ, and nobody sees it.
    assert lead(5_000_001, 5_000_002) == "v0 and v1"


def test_it_is_written_whole_or_not(tmp_path: Path) -> None:
    write(tmp_path / "new" / "report.html", data())
    assert (tmp_path / "new" / "report.html").read_text("utf-8") == page(data())
    with pytest.raises(StorageError, match="cannot be written"):
        write(tmp_path / "new" / "report.html" / "x.html", data())


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_axes_hold_their_range(low: float, span: float) -> None:
    ticks = axis(low, low + span)
    slack = 1e-6 * max(abs(low), abs(low + span), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(ticks)


def test_points_that_would_hide_each_other_share_a_mark() -> None:
    points = [Point(n, x, y, f"{n}", True) for n, x, y in ((1, 10, 0.5), (2, 10.1, 0.5), (3, 5, 0.1))]
    html = scatter(points, x="size", y="AP", level=0.5, level_name="source")
    assert re.findall(r">([\d ]+)</i>", html) == ["1 2", "3"]
