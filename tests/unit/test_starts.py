"""Starts that die, what is concluded from them, and what the next one leaves out."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.loader import load_profile
from edge_runtime.agent.caution import SAFE_FPS, Caution
from edge_runtime.agent.starts import FAILURES, SAFE_S, Start, StartJournal, Verdict, judge
from edge_runtime.contract.event import CameraStateChanged
from edge_runtime.engines.registry import DEFAULT_PROVIDER
from edge_runtime.settings import AgentSettings

DOOR, YARD, MODEL = "camera door", "camera yard", "model people"


def died(at_s: float, *crumbs: str, **fields: object) -> Start:
    return Start(at_s, "file", crumbs=crumbs, **fields)  # type: ignore[arg-type]


def well(at_s: float, **fields: object) -> Start:
    return replace(died(at_s, **fields), well=True)


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([], Verdict()),
        ([well(0)], Verdict()),
        ([died(0)], Verdict(careful=True, died=1)),
        ([died(0), died(10)], Verdict(careful=True, died=2)),
        ([died(0), died(10), died(20)], Verdict(careful=True, safe=True, died=3)),
        ([died(0), died(10), well(15), died(20)], Verdict(careful=True, died=1)),
        ([died(-2000), died(10), died(20)], Verdict(careful=True, died=2)),
        ([died(0, DOOR, YARD), died(10, DOOR), died(20, DOOR)],
         Verdict(careful=True, safe=True, left_out=(DOOR,), died=3)),
        ([died(0, DOOR, YARD), died(10), died(20, YARD)],
         Verdict(careful=True, safe=True, left_out=(YARD,), died=3)),
        ([died(0), died(10), died(20, YARD)], Verdict(careful=True, safe=True, died=3)),
        ([died(0, MODEL), died(10, MODEL), died(20, MODEL)],
         Verdict(careful=True, safe=True, left_out=(MODEL,), died=3)),
        ([replace(died(0), file="old"), replace(died(10), file="old"), replace(died(20), file="old")],
         Verdict()),
        ([died(0, DOOR), died(10, DOOR), died(20, DOOR), died(30, YARD, safe=True, left_out=(DOOR,))],
         Verdict(careful=True, safe=True, left_out=(DOOR, YARD), died=4)),
        ([well(0, safe=True, left_out=(DOOR,))], Verdict(careful=True, trial=True)),
        ([well(0, safe=True, left_out=(DOOR,)), died(30, DOOR, trial=True)],
         Verdict(careful=True, safe=True, left_out=(DOOR,), safe_s=2 * SAFE_S, died=1)),
        ([well(0, safe=True, left_out=(DOOR,)), died(30, trial=True)],
         Verdict(careful=True, safe=True, left_out=(DOOR,), safe_s=2 * SAFE_S, died=1)),
        ([well(0, safe=True), well(30, trial=True)], Verdict()),
    ],
    ids=["first", "well", "one died", "two", "three, nobody knows why", "one was well", "long ago",
         "one camera",
         "the likelier one", "only once", "a model", "other settings", "safe, and another one", "trial",
         "relapse", "relapse without a crumb", "healed"],
)  # fmt: skip
def test_decisions(starts: list[Start], expected: Verdict) -> None:
    assert judge(starts, "file", 40) == expected


@given(st.lists(st.tuples(st.floats(0, 2000), st.booleans(), st.booleans(), st.booleans()), max_size=12))
def test_laws(rows: list[tuple[float, bool, bool, bool]]) -> None:
    starts = [died(at_s, DOOR, safe=safe, trial=trial) for at_s, _, safe, trial in sorted(rows)]
    starts = [replace(start, well=row[1]) for start, row in zip(starts, sorted(rows), strict=True)]
    verdict = judge(starts, "file", 2000)
    assert not (verdict.safe and verdict.trial)
    assert verdict.careful or verdict == Verdict()
    assert verdict.safe or not verdict.left_out
    if starts and starts[-1].well:
        assert not verdict.safe
    assert not judge(starts, "another file", 2000).safe


def test_a_journal_over_processes(tmp_path: Path) -> None:
    path = tmp_path / "state" / "starts.json"
    for number in range(FAILURES):
        journal = StartJournal(path)
        assert not journal.begin(b"settings", 100.0 * number).safe
        journal.drop_crumb(YARD)
        journal.drop_crumb(DOOR)
        journal.pick_crumb(YARD)
        journal.pick_crumb(MODEL)
    journal = StartJournal(path)
    verdict = journal.begin(b"settings", 400)
    assert verdict == Verdict(careful=True, safe=True, left_out=(DOOR,), died=3)
    journal.well()
    assert StartJournal(path).begin(b"settings", 2000).trial
    assert StartJournal(path).begin(b"other settings", 2001) == Verdict()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"v": 1, "starts": [{}]}', b'{"v": 2, "starts": []}']
)
def test_a_damaged_journal_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "starts.json"
    path.write_bytes(content)
    assert StartJournal(path).begin(b"settings", 0) == Verdict()
    assert StartJournal(path).begin(b"settings", 1).careful


def test_a_disk_that_takes_nothing_costs_no_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    journal = StartJournal(tmp_path / "file" / "starts.json")
    assert journal.begin(b"settings", 0) == Verdict()
    journal.drop_crumb(DOOR)
    assert caplog.text.count("starts are not written down") == 1


def test_the_journal_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "starts.json"
    journal = StartJournal(path)
    for number in range(100):
        journal.begin(b"settings", number)
    size = path.stat().st_size
    journal.begin(b"settings", 101)
    assert path.stat().st_size < 1.1 * size < 10_000


SETTINGS = AgentSettings.model_validate(
    {
        "version": 1,
        "site": "shop",
        "models": {
            "people": {"bundle": "efficientdet-lite0", "engine": {"providers": ["CUDAExecutionProvider"]}}
        },
        "cameras": {
            "door": {"source": "rtsp://10.0.0.5/a", "model": "people"},
            "yard": {"source": "rtsp://10.0.0.6/a", "model": "people", "fps": 1},
        },
    }
)


def test_who_does_not_know_goes_slowly_on_the_processor() -> None:
    caution = Caution(None, Verdict(safe=True, died=3))
    safe = caution.settings(SETTINGS)
    assert [camera.fps for camera in safe.cameras.values()] == [SAFE_FPS, 1]
    assert safe.models["people"].engine.providers == ()
    profile = caution.profile(load_profile("store-pc-nvidia"))
    assert profile.decoding.hardware is None
    assert all(engine.providers == (DEFAULT_PROVIDER[engine.engine],) for engine in profile.engines)
    assert "all cameras are slow" in caution.trouble


def test_who_knows_leaves_out_just_that() -> None:
    caution = Caution(None, Verdict(safe=True, left_out=(DOOR,), died=3))
    assert caution.settings(SETTINGS) is SETTINGS
    assert caution.why_not("camera", "door")
    assert not caution.why_not("camera", "yard")
    assert not caution.why_not("model", "door")
    assert caution.trouble.endswith("left out is what was being opened: camera door")


def changed(camera: str) -> CameraStateChanged:
    return CameraStateChanged(
        id="1", site="shop", camera=camera, time="2026-01-01T00:00:00.000Z", pts_ns=0, state="online"
    )


def test_breadcrumbs_of_cameras_lie_until_they_have_opened(tmp_path: Path) -> None:
    path = tmp_path / "starts.json"
    journal = StartJournal(path)
    caution = Caution(journal, journal.begin(b"settings", 0))
    with caution.model("people"):
        assert MODEL in path.read_text()
    assert MODEL not in path.read_text()
    caution.before_camera("door")
    caution.before_camera("yard")
    caution.hear((changed("door"),))
    assert DOOR not in path.read_text()
    assert YARD in path.read_text()
