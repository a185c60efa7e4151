"""The report: right numbers, one file, nothing from outside that the page would obey."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.errors import StorageError
from edge_runtime.contract.event import LineCrossed, Subject, ZoneEntered, ZoneLeft
from edge_runtime.contract.frame import Frame, Picture
from edge_runtime.contract.result import Tracks
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import AgentStatus, CameraState, CameraStatus, DropCause, SinkStatus, Timing
from edge_runtime.sinks.drawing import Overlay
from edge_runtime.sinks.report import ReportSink
from edge_runtime.sinks.report_charts import area_chart, clock
from edge_runtime.sinks.report_ledger import CountsOverTime

VOID = {"meta", "img", "br", "path", "rect"}
HOSTILE = '<script>alert("x")</script>&'


class Page(HTMLParser):
    """Checks that every tag is closed, and collects the text and what the page would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.images_without_text = 0
        self.feed(html)
        self.close()
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        known = dict(attrs)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        self.images_without_text += tag == "img" and not known.get("alt")
        assert not any(name.startswith("on") for name in known)
        if tag not in VOID or tag in {"path", "rect"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data.strip())


def tracks(*ids: int) -> Tracks:
    boxes = np.array([[20 + 10 * i, 20, 40 + 10 * i, 80] for i in range(len(ids))], np.float32).reshape(-1, 4)
    count = len(ids)
    return Tracks(
        np.array(ids, np.int64), boxes, np.ones(count, np.float32), np.zeros(count, np.int32), ("person",)
    )


def scene(camera: str, second: float, seen: Tracks) -> Scene:
    picture = Picture.from_bgr(np.full((90, 160, 3), 120, np.uint8))
    ns = round(second * 1e9)
    return Scene(
        Frame(camera, 0, ns, 1_767_225_600_000_000_000 + ns, 0, picture), seen, {"aisle": len(seen)}, {}
    )


def zone(
    kind: type[ZoneEntered] | type[ZoneLeft], camera: str, second: float, **more: object
) -> ZoneEntered | ZoneLeft:
    return kind.model_validate(
        {
            "id": f"{kind}{second}",
            "site": "s",
            "camera": camera,
            "time": "2026-01-01T00:00:00.000Z",
            "pts_ns": round(second * 1e9),
            "model": "m",
            "model_version": "1",
            "subject": {"track": 1, "label": "person", "confidence": 0.9, "box": (0, 0, 0.1, 0.1)},
            "zone": "aisle",
            **more,
        }
    )


def crossing(camera: str, name: str) -> LineCrossed:
    return LineCrossed(
        id=name,
        site="s",
        camera=camera,
        time="2026-01-01T00:00:00.000Z",
        pts_ns=4_000_000_000,
        model="m",
        model_version="1",
        subject=Subject(track=1, label="person", confidence=0.9, box=(0, 0, 0.1, 0.1)),
        line="door",
        direction="a_to_b",
        name=name,
    )


def agent(*cameras: str) -> AgentStatus:
    return AgentStatus(
        tuple(
            CameraStatus(
                name,
                CameraState.ENDED,
                decoded=1234,
                inferred=1200,
                dropped={DropCause.STILL: 34},
                latency=Timing(21.5, 31.5, 41.5),
                inference=Timing(17.5, 18.5, 19.5),
                cpu_ms=12.5,
            )
            for name in cameras
        ),
        (SinkStatus("mqtt", written=7, waiting=5, dropped=3, trouble=HOSTILE),),
        61.0,
        1.25,
        123_000_000,
    )


def test_the_page_holds_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    report = ReportSink(path, {"entrance": Overlay()}, title="Demo")
    for second in range(10):
        report.show(scene("entrance", second, tracks(1, 2) if second < 5 else tracks(3)))
    report.write(
        [zone(ZoneEntered, "entrance", 1, occupancy=2), zone(ZoneEntered, "entrance", 2, occupancy=5)]
    )
    report.write([zone(ZoneLeft, "entrance", 6, occupancy=4, dwell_s=4.5), crossing("entrance", "in")])
    assert report.status().written == 4
    files = report.finish(agent("entrance"), {"Machine": "test bench"})
    report.close()
    assert files == (path, tmp_path / "new" / "heatmap-entrance.png")
    page = Page(path.read_text("utf-8"))
    assert page.open == []
    for said in (
        "Demo",
        "3 people followed",
        "4 events",
        "Busiest moment, 0:00: 2 people",
        "aisle 2 1 0 5 4.5",
    ):
        assert said in page.text
    for said in (
        "door in 1",
        "entrance 21.5 31.5 41.5 17.5 18.5 12.5",
        "entrance 1,234 1,200 34",
        "mqtt 7 5 3",
    ):
        assert said in page.text
    assert "Machine test bench" in page.text
    # Objects 1 and then 3 stood at the same place all the time; events in between take nothing away.
    assert "longest in one place 9.0 s" in page.text
    assert page.images_without_text == 0
    image = cv2.imread(str(files[1]))
    assert image is not None
    # The heatmap glows where objects stood (bottom centre of the boxes), and is grey elsewhere.
    assert image[475, 180].max() - image[475, 180].min() > 60
    assert np.ptp(image[50, 900]) == 0


def test_the_page_needs_nothing_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report = ReportSink(path, {}, title=HOSTILE)
    camera = "<script>camera"  # settings let no such name through; the page does not count on it
    report.show(scene(camera, 0, tracks(1)))
    report.write([zone(ZoneEntered, camera, 1, occupancy=1, zone=HOSTILE), crossing(camera, HOSTILE)])
    status = agent(HOSTILE)
    report.finish(status, {HOSTILE: HOSTILE})
    html = path.read_text("utf-8")
    page = Page(html)
    assert page.open == []
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import|http", html)
    assert html.count("&lt;script&gt;") >= 8


def test_a_camera_that_showed_nothing_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report = ReportSink(path, {"silent": Overlay()})
    assert report.finish(agent("silent"), {}) == (path,)
    assert "No picture was looked at." in Page(path.read_text("utf-8")).text


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    report = ReportSink(tmp_path / "taken" / "report.html", {})
    with pytest.raises(StorageError, match="cannot write the report"):
        report.finish(agent(), {})


def test_counts_halve_their_resolution_instead_of_growing() -> None:
    counts = CountsOverTime(bins=4)
    for second in range(9):
        counts.add(second, second)
    assert counts.bin_s == 4
    assert counts.means.tolist() == [1.5, 5.5, 8.0]


@given(st.lists(st.tuples(st.floats(0, 10_000), st.integers(0, 50)), min_size=1, max_size=50))
def test_means_stay_between_the_counts(scenes: list[tuple[float, int]]) -> None:
    counts = CountsOverTime(bins=16)
    for second, count in sorted(scenes):
        counts.add(second, count)
    means = counts.means
    assert len(means) <= 16
    # Bins before the first scene have nothing to repeat and count as empty.
    assert means.min() >= 0
    assert means.max() <= max(count for _, count in scenes)


def test_a_gap_repeats_the_last_count() -> None:
    counts = CountsOverTime()
    counts.add(0, 3)
    counts.add(4, 1)
    assert counts.means.tolist() == [3, 3, 3, 3, 1]


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=600), st.integers(1, 64))
def test_a_chart_is_well_formed_and_inside_its_box(values: list[float], bin_s: int) -> None:
    chart = area_chart(np.array(values), bin_s, what="people")
    assert Page(chart).open == []
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', chart)
    assert box is not None
    width, height = float(box[1]), float(box[2])
    for x, y, end in re.findall(r"L([\d.e+]+) ([-\d.e+]+) H([\d.e+]+)", chart):
        assert -0.001 <= float(y) <= height
        assert float(x) <= float(end) <= width * 1.001
    assert chart.count("<rect") <= 240


def test_times_are_written_as_a_clock() -> None:
    assert [clock(second) for second in (0, 7.9, 750, 3723)] == ["0:00", "0:07", "12:30", "1:02:03"]
