"""Requests on the command line: the agent as a process with cameras and a door, `check`, and `route`."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edge_runtime import connect
from edge_runtime.cli.app import app
from edge_runtime.contract.errors import RemoteError
from edge_runtime.contract.result import Detections, Generation
from edge_runtime.contract.route import Reason, Route
from edge_runtime.runtime.client import Client
from edge_runtime.runtime.door import RuntimeDoor, door_of
from edge_runtime.runtime.runtime import Runtime
from tests.simulators.cloud import answers, cloud_of, until
from tests.simulators.sentiment import sentiment_bundle
from tests.simulators.tiny_decoder import END, write_bundle

CLIP = Path(__file__).parents[2] / "edge_runtime/media/pedestrians.mp4"
STORE = """
version: 1
site: test
models:
  people: {bundle: efficientdet-lite0, min_score: 0.4, labels: [person]}
  sentiment: {bundle: small}
cameras:
  street: {source: %s, model: people, fps: 2, loop: true, realtime: true}
door: {port: %d}
sinks: [{type: jsonl, path: events.jsonl}]
"""
CASCADE = """
version: 1
site: test
models:
  sentiment:
    bundle: small
    route: {policy: cascade, threshold_file: threshold.json, cloud_model: large}
  huge: {bundle: huge}
cloud: {url: "%s"}
door: {port: 0}
memory_budget_mb: 50
"""
TEXT = """
version: 1
site: test
models:
  writer:
    file: writer/model.onnx
    task: {kind: generation, context_length: 64, end_tokens: ["%s"], max_tokens: 6}
    %s
door: {port: 0}
%s
"""


def command(*arguments: object) -> tuple[int, Any, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    with suppress(ValueError):
        return done.exit_code, json.loads(done.stdout), done.stderr
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sentiment_bundle(tmp_path / "small")
    sentiment_bundle(tmp_path / "huge", peak_memory_bytes=10**9)
    return tmp_path


def answered(client: Client) -> bool:
    with suppress(RemoteError):
        return client.predict("sentiment", "good").decision.route is Route.LOCAL
    return False


def test_one_process_watches_cameras_and_answers_requests(folder: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = folder / "store.yaml"
    store.write_text(STORE % (CLIP, port))
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", "run", str(store), "--json", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with connect(f"http://127.0.0.1:{port}") as client:
            until(lambda: answered(client), "an answer of the door", 60)
            capture = cv2.VideoCapture(str(CLIP))
            pixels = np.asarray(capture.read()[1], np.uint8)
            capture.release()
            seen = client.predict("people", pixels)
            assert isinstance(seen.value, Detections)
            assert len(seen.value) > 0
            assert {seen.value.labels[int(index)] for index in seen.value.classes} == {"person"}
            until((folder / "events.jsonl").exists, "an event of the camera", 60)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    requests = json.loads(out)["requests"]
    assert requests["answered"]["local"] >= 2
    assert requests["models"] == {"people": requests["models"]["people"], "sentiment": "onnx-fp32"}


def test_check_says_what_a_door_a_cloud_and_their_models_are_like(folder: Path) -> None:
    store = folder / "store.yaml"
    with cloud_of(answers()) as cloud:
        store.write_text(CASCADE % cloud.url)
        code, report, _ = command("check", store, "--json")
        assert code == 3  # the threshold is not calibrated yet
        (folder / "samples.csv").write_text("text,label\n" + "good,positive\nbad,negative\n" * 25)
        assert command(*calibrating(folder), "--accuracy", "0.9")[0] == 0
        code, report, _ = command("check", store, "--json")
        assert [place["note"] for place in report["places"]] == ["", ""]
        cloud.lacks.add("large")
        code, lacking, _ = command("check", store, "--json")
        assert (code, lacking["places"][1]["problem"]) == (0, "")
        assert lacking["places"][1]["note"] == "it does not answer for 'large' now: no such model"
        assert "ok, but" in command("check", store)[1]
    assert code == 0
    sentiment, huge = report["routes"]
    assert (sentiment["variant"], sentiment["problem"]) == ("onnx-fp32", "")
    assert "the cloud answers: needs 1000000000 bytes" in huge["note"]
    assert [(place["name"], place["problem"]) for place in report["places"]] == [("door", ""), ("cloud", "")]
    code, report, _ = command("check", store, "--json")
    assert code == 7
    assert "expected an answer of a model server" in report["places"][1]["problem"]
    assert "failed" in command("check", store)[1]


def calibrating(folder: Path) -> tuple[object, ...]:
    return (
        *("route", "calibrate", folder / "store.yaml", "--model", "sentiment"),
        *("--samples", folder / "samples.csv"),
    )


def test_a_threshold_is_calibrated_and_explained(folder: Path) -> None:
    (folder / "store.yaml").write_text(CASCADE % "http://127.0.0.1:9")
    rows = [("good", "positive"), ("bad", "negative"), ("rude", "negative"), ("kind", "positive")]
    (folder / "samples.csv").write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in rows * 15))
    code, found, _ = command(*calibrating(folder), "--budget", "0.5", "--json")
    assert code == 0
    chosen = found["calibration"]["chosen"]
    assert (chosen["share"], chosen["accuracy"], found["calibration"]["samples"]) == (0.5, 1.0, 60)
    assert "Written to" in command(*calibrating(folder), "--budget", "0.5")[1]
    explain = ("route", "explain", folder / "store.yaml", "--model", "sentiment", "--facts")
    code, found, _ = command(*explain, "confidence=0.55", "--json")
    assert (code, found["decision"]["reason"], found["verdict"]["action"]) == (0, "fits", "escalate")
    assert found["policy"]["threshold"] == chosen["threshold"]
    code, found, _ = command(*explain, "online=false,confidence=0.55", "--json")
    assert (found["verdict"]["action"], found["verdict"]["decision"]["reason"]) == ("keep", "offline")
    assert found["row"]["cloud_only"]["reason"] == "offline"
    code, found, _ = command(*explain, "fits=false,data=faces+video,breaker=open", "--json")
    assert (found["decision"]["route"], found["decision"]["reason"]) == ("refuse", "does-not-fit")
    assert "local: fits" in command(*explain, "confidence=0.99")[1]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("onlin=true", "expected of bundle, fits"),
        ("online=maybe", "expected true or false, got maybe"),
        ("confidence=2", "expected a number from 0 to 1, got 2"),
        ("breaker=ajar", "expected one of closed"),
        ("data=face", "expected of video, faces"),
    ],
)
def test_facts_that_are_none_are_said(folder: Path, facts: str, message: str) -> None:
    (folder / "store.yaml").write_text(
        (CASCADE % "http://127.0.0.1:9").replace("threshold_file: threshold.json, ", "")
    )
    code, found, _ = command(
        "route", "explain", folder / "store.yaml", "--model", "sentiment", "--facts", facts, "--json"
    )
    assert code == 3
    assert message in found["error"]["message"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("text,label\ngood,\n", "expected `label`, `cloud`, or --ask-cloud"),
        ("words,label\ngood,positive\n", "expected `text` or `image`"),
        ("text,label\n", "expected at least 50, got 0"),
        ("text,label\n" + "good,positive\n" * 49, "expected at least 50, got 49"),
        (
            "text,label\ngood,positve\n",
            "expected one of negative, positive, got positve. Did you mean 'positive'?",
        ),
        (
            "text,label,cloud\ngood,positive,fine\n",
            "sample 1: `cloud`: expected one of negative, positive, got fine",
        ),
    ],
)
def test_samples_that_are_none_are_said(folder: Path, samples: str, message: str) -> None:
    (folder / "store.yaml").write_text(CASCADE % "http://127.0.0.1:9")
    (folder / "samples.csv").write_text(samples)
    code, found, _ = command(*calibrating(folder), "--budget", "0.5", "--json")
    assert code == 4
    assert message in found["error"]["message"]


def test_the_cloud_labels_samples_that_have_no_label(folder: Path) -> None:
    (folder / "samples.jsonl").write_text('{"text": "good"}\n{"text": "bad"}\n' * 25)
    with cloud_of(answers("negative")) as cloud:
        (folder / "store.yaml").write_text(CASCADE % cloud.url)
        arguments = [*calibrating(folder)[:-1], folder / "samples.jsonl"]
        code, found, _ = command(*arguments, "--accuracy", "1", "--ask-cloud", "--json")
    assert code == 0
    assert found["calibration"]["chosen"]["share"] == 1.0  # "good" is wrong here, and as sure as "bad"
    assert len(cloud.seen) == 50
    log = (folder / "state" / "audit-calibration.jsonl").read_text().splitlines()
    assert {json.loads(line)["why"] for line in log} == {"calibration"}


def test_calibrating_goes_on_beside_a_device_that_runs(folder: Path) -> None:
    with cloud_of(answers("negative")) as cloud:
        (folder / "store.yaml").write_text(
            (CASCADE % cloud.url).replace("threshold_file: threshold.json, ", "")
        )
        (folder / "samples.jsonl").write_text('{"text": "good"}\n{"text": "bad"}\n' * 25)
        arguments = [*calibrating(folder)[:-1], folder / "samples.jsonl", "--out", folder / "new.json"]
        with Runtime(folder / "store.yaml") as runtime:
            code, found, _ = command(*arguments, "--accuracy", "1", "--ask-cloud", "--json")
            assert runtime.predict("sentiment", "good").value.labels
    assert (code, found["calibration"]["samples"]) == (0, 50)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[[str, str], RuntimeDoor]]:
    write_bundle(tmp_path / "writer")
    opened: list[RuntimeDoor | Runtime] = []

    def make(route: str, more: str) -> RuntimeDoor:
        store = tmp_path / f"{len(opened)}.yaml"
        store.write_text(TEXT % (END, route, more + f"\nstate_dir: state-{len(opened)}"))
        runtime = Runtime(store)
        door = door_of(runtime)
        opened.extend((runtime, door))
        return door

    yield make
    for one in reversed(opened):
        one.close()


def test_a_text_streams_from_the_cloud_through_the_device(writer: Callable[[str, str], RuntimeDoor]) -> None:
    cloud = writer("", "")
    edge = writer("route: {policy: cloud_only, timeout_s: 30}", f'cloud: {{url: "{cloud.url}"}}')
    with connect(cloud.url) as near, connect(edge.url) as far:
        here, there = list(near.generate("writer", "abc")), list(far.generate("writer", "abc"))
        assert "".join(here) == "".join(there)
        assert len(there) > 1
        whole = far.predict("writer", "abc")
        assert isinstance(whole.value, Generation)
        assert (whole.value.text, whole.decision.route, whole.decision.reason) == (
            "".join(here),
            Route.CLOUD,
            Reason.POLICY,
        )
