"""The commands on real input: the shipped model, the shipped clip, a real process that is told to stop."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import pytest
from typer.testing import CliRunner

from edge_runtime.cli.app import app
from edge_runtime.cli.check import check_camera
from edge_runtime.contract.bundle import BundleManifest
from edge_runtime.contract.device import Decoding
from edge_runtime.settings import load_settings
from edge_runtime.video.hardware import why_not
from tests.simulators.broker import wait_until
from tests.simulators.clips import moving_square, write_clip

COMMAND = [sys.executable, "-c", "from edge_runtime.cli import main; main()"]
STORE = """\
version: 1
site: test
models:
  people: {{bundle: efficientdet-lite0, labels: [person], engine: {{name: litert}}}}
cameras:
  street:
    source: {source}
    model: people
    fps: 2
    loop: {loop}
    realtime: {loop}
    lines: {{path: {{from: [0.6, 0.2], to: [0.6, 0.8]}}}}
sinks: [{{type: jsonl, path: events.jsonl}}]
"""

Call = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command in a folder of its own; gives exit code, standard output as JSON, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, Any, str]:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return done.exit_code, json.loads(done.stdout), done.stderr

    return run


@pytest.fixture
def street(shipped_clip: Path, tmp_path: Path) -> Path:
    """A picture of the clip with seven people in it."""
    with av.open(str(shipped_clip)) as container:
        frame = next(frame for number, frame in enumerate(container.decode(video=0)) if number == 50)
        pixels = frame.to_ndarray(format="bgr24")
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def short_clip(shipped_clip: Path, tmp_path: Path) -> Path:
    """The clip's first three seconds, remuxed."""
    path = tmp_path / "short.mp4"
    with av.open(str(shipped_clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None or number == 30:
                break
            packet.stream = stream
            target.mux(packet)
    return path


def write_store(folder: Path, source: Path, *, loop: bool = False) -> Path:
    store = folder / "store.yaml"
    store.write_text(STORE.format(source=source, loop=str(loop).lower()))
    return store


def test_predict_finds_the_people(call: Call, street: Path, tmp_path: Path) -> None:
    code, report, _ = call("predict", "efficientdet-lite0", street, "--json", "--out", "seen.png")
    assert (code, report["model"], report["engine"]) == (0, "efficientdet-lite0", "litert")
    (seen,) = report["images"]
    people = [found for found in seen["found"] if found["label"] == "person" and found["score"] > 0.4]
    assert 3 <= len(people) <= 7
    assert all(
        0 <= x1 < x2 <= 768 and 0 <= y1 < y2 <= 576 for x1, y1, x2, y2 in (one["box"] for one in people)
    )
    assert (cv2.imread(str(tmp_path / "seen.png")) != cv2.imread(str(street))).any()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("efficientdet-lite0", "none.png"),
            4,
            "picture none.png: expected a readable file, got No such file",
        ),
        (("efficientdet-lite0", "empty.png"), 4, "got an empty file"),
        (("efficientdet-lite0", "text.png"), 4, "a file of another kind"),
        (("no-such-model", "street.png"), 5, "no-such-model"),
        (("text.tflite", "street.png"), 5, "expected its task, got a bare file"),
        (("efficientdet-lite0", "street.png", "--engine", "onnxruntme"), 3, "Did you mean 'onnxruntime'?"),
        (("efficientdet-lite0", "street.png", "--engine", "onnxruntime"), 6, "nothing here can run it"),
        (("efficientdet-lite0", "street.png", "street.png", "--out", "a.png"), 3, "expected a folder"),
    ],
)
def test_predict_says_what_is_wrong(
    call: Call, street: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "text.tflite").write_text("not a model")
    got, document, err = call("predict", *arguments, "--json")
    assert (got, document["error"]["exit_code"]) == (code, code)
    assert message in document["error"]["message"]
    assert "Traceback" not in err


def test_bench_measures_every_usable_engine(call: Call) -> None:
    code, report, _ = call("bench", "efficientdet-lite0", "--runs", 3, "--json")
    assert code == 0
    measured = [cost for cost in report["costs"] if not cost["problem"]]
    assert {cost["engine"] for cost in measured} == {"litert"}
    assert measured[0]["runs"] == 3
    assert 0 < measured[0]["p50_ms"] <= measured[0]["p95_ms"]
    assert measured[0]["cpu_ms"] > 0
    assert measured[0]["peak_memory_bytes"] > 2**20


def test_bench_fills_in_receipts(call: Call, tmp_path: Path) -> None:
    for name in ("receipts.json", "copy/bundle.json"):
        code, report, _ = call("bench", "efficientdet-lite0", "--runs", 3, "--receipt", name, "--json")
        assert code == 0
    (receipt,) = json.loads((tmp_path / "receipts.json").read_text())
    (cost,) = [cost for cost in report["costs"] if not cost["problem"]]
    assert (receipt["variant"], receipt["engine"]) == (cost["variant"], "litert")
    assert receipt["machine"] == report["machine"]
    assert receipt["profile"]
    assert receipt["latency"]["runs"] == 3
    assert receipt["peak_memory_bytes"] > 2**20
    manifest = BundleManifest.model_validate_json((tmp_path / "copy/bundle.json").read_bytes())
    assert [one.engine for one in manifest.receipts].count("litert") >= 1
    assert manifest.receipts[-1].machine == report["machine"]


def test_check_tries_models_and_cameras(call: Call, short_clip: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path, short_clip)
    text = store.read_text()
    missing = "  gone:\n    source: none.mp4\n    model: people\n"
    store.write_text(text.replace("sinks:", f"{missing}sinks:"))
    code, report, err = call("check", store, "--why", "--json")
    street, gone = report["cameras"]
    assert (code, report["exit_code"], report["models"][0]["problem"]) == (4, 4, "")
    assert (street["width"], street["height"], street["problem"]) == (768, 576, "")
    assert "person" in street["sees"]
    assert "none.mp4" in gone["problem"]
    assert "litert" in report["models"][0]["why"]
    assert "Why people runs where it does" in err


def test_check_refuses_labels_the_model_does_not_know(call: Call, short_clip: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path, short_clip)
    store.write_text(store.read_text().replace("[person]", "[persn]"))
    said = "models.people.labels: model 'people' gives no 'persn'. Did you mean 'person'?"
    for command in ("check", "run"):
        code, report, _ = call(command, store, "--json")
        assert (code, report["error"]["message"]) == (3, said)


def test_check_names_the_model_and_the_camera_that_fail(call: Call, short_clip: Path, tmp_path: Path) -> None:
    """A broken model, an unknown codec, a recording cut short; and everything else is tried all the same."""
    broken = tmp_path / "broken.tflite"
    broken.write_text("no model")
    unknown = write_clip(tmp_path / "z.avi", moving_square(5), codec="mjpeg", pixel_format="yuvj420p")
    unknown.write_bytes(unknown.read_bytes().replace(b"MJPG", b"ZQZQ"))
    cut = write_clip(tmp_path / "cut.avi", moving_square(100), codec="mpeg4")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "task.yaml").write_text(
        "{kind: detection, input: {layout: nhwc}, head: {format: ssd}, labels: [person]}"
    )
    store = write_store(tmp_path, short_clip)
    text = store.read_text().replace(
        "cameras:\n", "  bad: {file: broken.tflite, task: task.yaml}\ncameras:\n"
    )
    more = "".join(
        f"  {name}: {{source: {source}, model: people}}\n"
        for name, source in (("odd", unknown), ("cut", cut), ("gone", "http://127.0.0.1:1/video"))
    )
    store.write_text(text.replace("sinks:", f"{more}sinks:"))
    code, report, err = call("check", store, "--json")
    models = {model["name"]: model["problem"] for model in report["models"]}
    cameras = {camera["name"]: camera for camera in report["cameras"]}
    assert models["people"] == ""
    assert models["bad"].startswith("models.bad: ")
    assert code in {5, 6}
    assert cameras["street"]["problem"] == cameras["street"]["note"] == ""
    assert "expected a codec that FFmpeg decodes" in cameras["odd"]["problem"]
    assert "it is cut short" in cameras["cut"]["note"]
    for name in ("odd", "gone"):
        assert cameras[name]["problem"].startswith(f"camera '{name}': ")
    told = " ".join(err.split())
    assert "models.bad: " in told
    assert "camera 'cut': it is cut short" in told


def test_check_survives_a_camera_that_breaks_this_program(
    call: Call, short_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera whose model cannot take its picture: something that is none of our errors comes out."""

    class Fragile:
        @staticmethod
        def predict(_: object) -> None:
            raise ZeroDivisionError("by nobody's plan")

    settings = load_settings(write_store(tmp_path, short_clip))
    model: Any = SimpleNamespace(predictor=Fragile())
    done = check_camera("street", settings.cameras["street"], Decoding(), model)
    assert (done.code, done.problem) == (
        1,
        "camera 'street': fault of this program: ZeroDivisionError(\"by nobody's plan\")",
    )
    assert "Traceback" in caplog.text


def test_check_says_that_hardware_is_not_used(call: Call, short_clip: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path, short_clip)
    store.write_text(store.read_text().replace("version: 1", "version: 1\nprofile: store-pc-intel"))
    _, report, _ = call("check", store, "--json")
    (street,) = report["cameras"]
    assert street["problem"] == ""
    assert ("vaapi" in street["note"]) == bool(why_not("vaapi"))


def test_run_with_a_broken_model_says_so_by_its_exit_code(
    call: Call, short_clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/bundle.json").write_text("{}")
    store = write_store(tmp_path, short_clip)
    text = store.read_text().replace("cameras:\n", "  bad: {bundle: bad}\ncameras:\n")
    store.write_text(text.replace("sinks:", f"  second: {{source: {short_clip}, model: bad}}\nsinks:"))
    code, status, _ = call("run", store, "--json")
    states = {camera["name"]: camera["state"] for camera in status["cameras"]}
    assert (code, states) == (5, {"street": "ended", "second": "failed"})


def test_a_camera_may_ask_for_key_frames_only(call: Call, short_clip: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path, short_clip)
    store.write_text(store.read_text().replace("    fps: 2\n", "    frames: key\n"))
    code, status, _ = call("run", store, "--json")
    (street,) = status["cameras"]
    assert (code, street["state"], street["reason"]) == (0, "ended", "")
    assert 1 <= street["decoded"] == street["inferred"] <= 3


def test_run_watches_a_recording_to_its_end(call: Call, short_clip: Path, tmp_path: Path) -> None:
    code, status, _ = call("run", write_store(tmp_path, short_clip), "--json")
    (street,) = status["cameras"]
    assert (code, street["state"], street["decoded"]) == (0, "ended", 30)
    assert 5 <= street["inferred"] <= 7
    states = [json.loads(line)["state"] for line in lines(tmp_path) if '"camera_state"' in line]
    assert states[-1] == "ended"


def test_run_says_when_a_camera_failed(call: Call, tmp_path: Path) -> None:
    code, status, _ = call("run", write_store(tmp_path, tmp_path / "none.mp4"), "--json")
    assert (code, status["cameras"][0]["state"]) == (7, "failed")
    assert "none.mp4" in status["cameras"][0]["reason"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_drains_when_told_to_stop(short_clip: Path, tmp_path: Path, number: signal.Signals) -> None:
    store = write_store(tmp_path, short_clip, loop=True)
    process = subprocess.Popen(
        [*COMMAND, "run", str(store), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: any('"online"' in line for line in lines(tmp_path)), timeout_s=60)
    finally:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["cameras"][0]["name"] == "street"


def lines(folder: Path) -> list[str]:
    events = folder / "events.jsonl"
    return events.read_text("utf-8").splitlines() if events.exists() else []


def test_profile_show_and_list(call: Call) -> None:
    code, profiles, _ = call("profile", "list", "--json")
    assert code == 0
    assert "raspberry-pi-5" in {profile["name"] for profile in profiles}
    code, profile, _ = call("profile", "show", "raspberry-pi-5", "--json")
    assert (code, profile["name"]) == (0, "raspberry-pi-5")
    assert call("profile", "show", "raspbery-pi-5", "--json")[0] == 3


def test_profile_detect_writes_what_check_takes(call: Call, tmp_path: Path) -> None:
    code, profile, _ = call("profile", "detect", "--out", "here.yaml", "--json")
    assert code == 0
    assert {support["engine"] for support in profile["engines"]} >= {"litert", "onnxruntime"}
    code, shown, _ = call("profile", "show", tmp_path / "here.yaml", "--json")
    assert (code, shown) == (0, profile)


def test_demo_leaves_everything_it_names(call: Call, short_clip: Path, tmp_path: Path) -> None:
    """On three seconds of the clip: the store.yaml that is there already is used."""
    folder = tmp_path / "out"
    folder.mkdir()
    demo = (Path(__file__).parents[2] / "edge_runtime/demo.yaml").read_text("utf-8")
    (folder / "store.yaml").write_text(demo.replace("pedestrians.mp4", str(short_clip)))
    code, report, _ = call("demo", "--out", "out", "--json")
    assert code == 0
    for what, path in report["results"].items():
        assert (tmp_path / path).stat().st_size > 0, what
    assert {"settings", "events", "report", "annotated video east", "heatmap west"} <= set(report["results"])
    assert report["events"]["camera_state"] >= 2
