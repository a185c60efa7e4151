"""The routes of the page of counts: what they answer to a day, a camera, and nonsense."""

import asyncio
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest

from edge_runtime.analytics.durations import Durations
from edge_runtime.analytics.storeday import StoreClock
from edge_runtime.analytics.storesummary import Crossing, Entrance, Layout, summarize
from edge_runtime.contract.errors import InputError
from edge_runtime.counts.reader import CountsReader
from edge_runtime.counts.recorder import CountsRecorder
from edge_runtime.web.counts.figures import EDGES_S, LABELS, figures
from edge_runtime.web.counts.pages import CountsPages
from edge_runtime.web.exchange import Reply
from edge_runtime.web.page.extension import Sheet
from edge_runtime.web.routing_table import Table
from tests.simulators.shoppers import crossed, entered, left, scene

CLOCK = StoreClock(ZoneInfo("Europe/Berlin"))
DAY = date(2026, 11, 25)
OPENS_S = CLOCK.begin_s(DAY) + 5 * 3600
LAYOUT = Layout({"front": Entrance(("door", "front"), "in")}, frozenset({("till", "line")}))


@pytest.fixture
def ask(tmp_path: Path):
    now_s = OPENS_S + 600
    recorder = CountsRecorder(tmp_path, CLOCK, LAYOUT, keep_days=9, now=lambda: now_s)
    recorder.start()
    recorder.write([crossed(OPENS_S, "in"), crossed(OPENS_S + 30, "out"), crossed(OPENS_S + 40, "out")])
    recorder.write([left(OPENS_S + 90, 80), entered(OPENS_S + 500, track=2)])
    for second in range(3):
        recorder.show(scene("door", OPENS_S + second, [(0.5, 0.5)], began_s=OPENS_S))
    recorder.close()
    # Whoever is in the line is there until the store starts again.
    table = Table(CountsPages(CountsReader(tmp_path, CLOCK, lambda: LAYOUT, now=lambda: now_s)).ways())

    def answer(path: str) -> Reply:
        found = table.find("GET", path)
        assert not isinstance(found, frozenset), path
        way, names = found
        reply = asyncio.run(way.handler(None, *(unquote(name) for name in names)))  # type: ignore[arg-type]
        assert isinstance(reply, Reply)
        return reply

    return answer


def document(reply: Reply) -> Any:
    assert reply.headers["cache-control"] == "no-store"
    return json.loads(reply.body)


def test_the_page_names_files_that_are_there(ask) -> None:
    page = ask("/counts")
    assert isinstance(page, Sheet)
    assert b"<script" not in page.body
    assert b"style=" not in page.body
    for path in (*page.scripts, *page.styles, "/counts/assets/charts.js"):
        if path.startswith("/counts"):
            assert ask(path).body


def test_a_day_is_what_was_counted(ask) -> None:
    found = document(ask("/counts/days/today"))
    assert found == document(ask("/counts/days/2026-11-25"))
    assert (found["day"], found["today"], found["first"], found["empty"]) == (*["2026-11-25"] * 3, False)
    assert found["totals"] == {"in": 1, "out": 2, "inside": 0, "most": 1, "missed": 1}
    assert found["hours"][0] == "04:00"
    assert sum(found["entrances"][0]["in"]) == 1
    assert found["entrances"][0]["unseen_s"] == 5 * 3600 + 300
    assert len(found["levels"]["inside"]) == 62
    (queue,) = found["queues"]
    assert (queue["name"], queue["count"], queue["now"]) == ("till · line", 1, [100])
    (dwell,) = found["dwell"]
    assert dwell["bars"] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert found["heat"] == ["door"]


def test_a_day_without_anything_is_one_too(ask) -> None:
    found = document(ask(f"/counts/days/{DAY - timedelta(days=1)}"))
    assert found["totals"] == {"in": 0, "out": 0, "inside": 0, "most": 0, "missed": 0}
    assert (found["heat"], found["dwell"]) == ([], [])


def test_a_store_that_has_counted_nothing_says_so(tmp_path: Path) -> None:
    reader = CountsReader(tmp_path / "none", CLOCK, lambda: LAYOUT, now=lambda: OPENS_S)
    way, _ = Table(CountsPages(reader).ways()).find("GET", "/counts/days/today")  # type: ignore[misc]
    found = document(asyncio.run(way.handler(None, "today")))
    assert found == {"today": "2026-11-25", "first": "2026-11-25", "empty": True}


def test_a_heatmap_and_a_file(ask) -> None:
    heat = document(ask("/counts/heat/2026-11-25/door"))
    assert (heat["rows"], heat["columns"], heat["most"], sum(heat["seconds"])) == (45, 80, 2, 2)
    file = ask("/counts/files/2026-11-25/entrances.csv")
    assert file.kind.startswith(b"text/csv")
    assert file.headers["content-disposition"] == 'attachment; filename="entrances-2026-11-25.csv"'
    assert file.body.splitlines()[-1].endswith(b"front,1,2,0.5")


@pytest.mark.parametrize(
    "path",
    [
        "/counts/days/yesterday",
        "/counts/days/2026-13-01",
        "/counts/heat/2026-11-25/nobody",
        "/counts/files/2026-11-25/cats.csv",
        "/counts/files/never/entrances.csv",
    ],
)
def test_nonsense_is_refused(ask, path: str) -> None:
    with pytest.raises(InputError):
        ask(path)


def test_every_bar_has_a_name() -> None:
    assert len(LABELS) == len(EDGES_S) + 1
    assert Durations.of([1, 7, 20, 4000]).between(EDGES_S) == (1, 1, 1, 0, 0, 0, 0, 0, 0, 1)


def test_an_hour_that_comes_twice_has_two_names() -> None:
    day = date(2026, 10, 24)
    moments = [Crossing(CLOCK.end_s(day) - 3600 * hours, ("door", "front"), "in") for hours in (1.5, 2.5)]
    summary = summarize(CLOCK, day, LAYOUT, crossings=moments, stays=(), waiting={}, until_s=CLOCK.end_s(day))
    found = figures(CLOCK, summary, {}, (), now_s=CLOCK.end_s(day))
    assert found["hours"][-3:] == ["02:00 CEST", "02:00 CET", "03:00"]
    assert found["entrances"][0]["in"][-4:] == (0, 1, 1, 0)
