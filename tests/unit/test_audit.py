"""The list of what is done with pictures: written before it is done, bounded, torn lines left out."""

from contextlib import closing
from pathlib import Path

import pytest

from edge_runtime.agent.policy import policy_of
from edge_runtime.contract.errors import StorageError
from edge_runtime.lines import LineLog
from edge_runtime.routing.audit_log import FILE, departures
from edge_runtime.settings import load_settings
from edge_runtime.sinks.audit import Act, Audit

STORE = """
version: 1
site: store-1
models: {people: {bundle: efficientdet-lite0, route: {never_leave: [video]}}}
cameras: {door: {source: clip.mp4, model: people, never_look: [[[0, 0], [1, 0], [1, 1]]]}}
privacy: {blur: heads}
sinks:
  - {type: jsonl, path: events.jsonl}
  - {type: video, folder: videos, blur: nothing}
  - {type: report, path: report.html}
"""


def noted(folder: Path, *acts: Act) -> None:
    with closing(Audit(folder)) as audit:
        for act in acts:
            audit.note(act, "agent")


def acts_in(folder: Path) -> list[str]:
    return [entry["act"] for entry in Audit(folder).newest()]


def test_the_newest_entries_come_first(tmp_path: Path) -> None:
    moments = iter([0, 1_500_000_000])
    with closing(Audit(tmp_path, clock=lambda: next(moments))) as audit:
        audit.note(Act.STARTED, "agent", {"blur": "heads"})
        audit.note(Act.LOOKED, "192.0.2.7", {"camera": "Straße"})
    looked, started = Audit(tmp_path).newest()
    assert looked == {
        "v": 1,
        "time": "1970-01-01T00:00:01.500Z",
        "act": "looked",
        "who": "192.0.2.7",
        "camera": "Straße",
    }
    assert started["blur"] == "heads"


def test_it_keeps_the_newer_half_when_it_is_full(tmp_path: Path) -> None:
    with closing(Audit(tmp_path, max_bytes=1000)) as audit:
        for number in range(100):
            audit.note(Act.LOOKED, "agent", {"number": number})
        numbers = [entry["number"] for entry in audit.newest()]
    assert numbers == list(range(99, 99 - len(numbers), -1))
    assert 8 < len(numbers) < 40
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * (1000 + 100)


def test_a_torn_line_is_left_out_and_nothing_after_it(tmp_path: Path) -> None:
    noted(tmp_path, Act.STARTED)
    file = tmp_path / "privacy.jsonl"
    file.write_bytes(file.read_bytes() + b'{"v":1,"act":"loo')
    noted(tmp_path, Act.LOGIN)
    assert acts_in(tmp_path) == ["login", "started"]


def test_it_is_another_list_than_that_of_what_leaves_for_the_cloud(tmp_path: Path) -> None:
    noted(tmp_path, Act.STARTED)
    assert departures(tmp_path) == ()
    with closing(LineLog(tmp_path / FILE, max_bytes=1000, kept=4)) as left:
        left.append({"how": "request"})
    assert departures(tmp_path) == ({"how": "request"},)
    assert acts_in(tmp_path) == ["started"]


def test_of_a_large_file_only_its_end_is_read(tmp_path: Path) -> None:
    with closing(LineLog(tmp_path / "lines.jsonl", max_bytes=1 << 30, kept=1)) as lines:
        for number in range(3000):
            lines.append({"number": number, "text": "x" * 300})
        found = [each["number"] for each in lines.newest(5000)]
    assert found == list(range(2999, 2999 - len(found), -1))
    assert 1000 < len(found) < 3000


def test_what_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write down"):
        Audit(tmp_path / "file").note(Act.STARTED, "agent")


def test_the_policy_says_what_holds_for_each_sink(tmp_path: Path) -> None:
    store = tmp_path / "store.yaml"
    store.write_text(STORE, "utf-8")
    policy = policy_of(load_settings(store))
    assert policy["blur"] == "heads"
    assert [(sink["type"], sink["blur"]) for sink in policy["sinks"]] == [
        ("video", "nothing"),
        ("report", "heads"),
    ]
    assert policy["never_look"] == {"door": 1}
    assert policy["never_leave"] == {"people": ["video"]}
    assert policy["cloud"] == policy["fleet_snapshots"] == "none"
