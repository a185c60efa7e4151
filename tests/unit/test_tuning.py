"""Which of several measured ways to run a model is chosen, and that the choice is used."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from device_profiles.loader import load_profile
from edge_runtime.cli.app import app
from edge_runtime.contract.device import Tuned
from edge_runtime.contract.errors import InputError
from edge_runtime.engines.select import Choice
from edge_runtime.engines.tuning import ALIKE, Way, best, splits, tuned_first
from edge_runtime.local_model import choices_here, find_bundle
from edge_runtime.runtime.models import workers_of
from edge_runtime.settings import EngineSettings, load_settings


def choice(engine: str = "litert", *, usable: bool = True) -> Choice:
    return Choice("int8", engine, "CPU", usable, "")


def tuned(**changes: object) -> Tuned:
    told: dict[str, object] = {
        "bundle": "people",
        "version": "1.0.0",
        "variant": "int8",
        "engine": "openvino",
        "provider": "CPU",
        "threads": 2,
        "workers": 3,
        "per_second": 50,
        "cpu_ms": 20,
        "measured": "2026-11-25T07:00:00Z",
    }
    return Tuned.model_validate(told | changes)


@pytest.mark.parametrize(
    ("ways", "wanted"),
    [
        ([(100, 10), (50, 5)], 0),
        ([(100, 10), (96, 8)], 1),
        ([(100, 10), (94, 8)], 0),
        ([(96, 10), (100, 10)], 0),
    ],
)
def test_speed_counts_and_among_the_fast_ones_the_cheap(ways: list[tuple[float, float]], wanted: int) -> None:
    measured = [Way(choice(), at + 1, 1, speed, cpu) for at, (speed, cpu) in enumerate(ways)]
    assert best(measured) is measured[wanted]


@given(st.lists(st.tuples(st.floats(0.1, 1e4), st.floats(0.01, 1e4)), min_size=1))
def test_what_is_chosen_is_about_the_fastest_and_no_fast_one_is_cheaper(
    ways: list[tuple[float, float]],
) -> None:
    measured = [Way(choice(), 1, 1, speed, cpu) for speed, cpu in ways]
    chosen = best(measured)
    fastest = max(way.per_second for way in measured)
    assert chosen.per_second >= ALIKE * fastest
    assert all(way.cpu_ms >= chosen.cpu_ms for way in measured if way.per_second >= ALIKE * fastest)


def test_nothing_measured_is_nothing_chosen() -> None:
    with pytest.raises(InputError, match="at least one"):
        best([])


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, ((1, 1),)),
        (2, ((1, 2), (2, 1))),
        (6, ((1, 6), (2, 3), (4, 1), (6, 1))),
        (8, ((1, 8), (2, 4), (4, 2), (8, 1))),
    ],
)
def test_how_cores_are_shared_out(cores: int, expected: tuple[tuple[int, int], ...]) -> None:
    assert splits(cores) == expected


def test_what_was_measured_here_comes_first_unless_it_cannot_run() -> None:
    choices = choice("litert"), choice("openvino")
    assert tuned_first(choices, None) == choices
    first, second = tuned_first(choices, tuned())
    assert (first.engine, second.engine) == ("openvino", "litert")
    assert first.why.startswith("measured here on 2026-11-25: 50 a second")
    unusable = choice("litert"), choice("openvino", usable=False)
    assert tuned_first(unusable, tuned()) == unusable


def test_threads_that_are_said_count_more_than_those_measured() -> None:
    assert EngineSettings().options(None).threads == 1
    assert EngineSettings().options(tuned()).threads == 2
    assert EngineSettings(threads=1).options(tuned()).threads == 1


def test_bench_tune_writes_a_profile_that_a_store_runs_by(tmp_path: Path) -> None:
    out = tmp_path / "this-pc.yaml"
    command = ["bench", "efficientdet-lite0", "--tune", str(out), "--seconds", "0.3", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    profile = load_profile(out)
    (entry,) = profile.tuned
    assert (entry.bundle, entry.engine) == ("efficientdet-lite0", report["chosen"]["choice"]["engine"])
    assert profile.decoding.threads == report["decoders"][0]["decoding"]["threads"]
    assert choices_here(find_bundle("efficientdet-lite0"), profile)[0].why.startswith("measured here")
    store = tmp_path / "store.yaml"
    models = "models: {people: {bundle: efficientdet-lite0}}"
    text = f"version: 1\nsite: s\nprofile: this-pc.yaml\n{models}\ndoor: {{}}\n"
    store.write_text(text, "utf-8")
    assert workers_of(load_settings(store), profile) == entry.workers
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert len(load_profile(out).tuned) == 1, "measured anew, not twice"
