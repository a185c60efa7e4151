"""`edge-runtime convert` that does not come to its end: one line, or one document, and a code of its own."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulators.conversions import PROFILE, RECIPE, Called, call, furnish


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("convert"))


def bad(place: Path, change: Callable[[str], str], *more: object) -> Called:
    (place / "bad.yaml").write_text(change(RECIPE), "utf-8")
    return call(place, place / "bad.yaml", "--out", place / "bad", "--cache", place / "cache", *more)


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("licence:", "license:", 3, "bad.yaml:3: license: unknown key. Did you mean 'licence'?"),
        ("[kiosk.yaml]", "[raspberry-pi-6]", 3, "Did you mean 'raspberry-pi-5'?"),
        ("module: tests.simulators.tiny_models:Classifier", "path: net.onnx", 4, "is damaged"),
        ("module: tests.simulators.tiny_models:Classifier", "path: net.pkl", 9, "which can run any code"),
        ("module: tests.simulators.tiny_models:Classifier", "path: net.tflite", 4, "got 0 bytes"),
        ("tiny_models:Classifier", "tiny_models:Clasifier", 9, "has no 'Clasifier' to call"),
        ("shape: [1, 3, 16, 24]", "shape: [1, 4, 16, 24]", 9, "features.0"),
    ],
)
def test_bad_input_is_one_line_and_a_code(place: Path, old: str, new: str, code: int, said: str) -> None:
    (place / "net.onnx").write_bytes(b"\x08\x08\x3a\xff\x7fcut")
    (place / "net.pkl").write_bytes(b"\x80\x04.")
    (place / "net.tflite").touch()
    found = bad(place, lambda text: text.replace(old, new), "--format", "onnx")
    assert found.code == code, found.err
    assert said in found.out + found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["net.onnx"], 3, "task: is missing. Give it with --task."),
        (["net.onnx", "--task", "task.yaml"], 3, "profiles: is missing. Give it with --profile."),
        (["a.b:Net", "--task", "task.yaml", "--profile", "kiosk.yaml"], 9, "Give --input image=1x3x224x224"),
        (["net.onnx", "--size", "1x2x3"], 2, "height x width"),
    ],
)
def test_a_missing_flag_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], code: int, said: str
) -> None:
    (place / "task.yaml").write_text("{kind: classification, input: {layout: nchw}, labels: [a]}", "utf-8")
    (place / "net.onnx").write_bytes(b"\x08\x08")
    monkeypatch.chdir(place)
    found = call(place, *flags, "--dry-run")
    assert (found.code, said in found.out + found.err) == (code, True), found.err


def test_a_program_is_told_operator_layer_step_and_log(place: Path) -> None:
    found = bad(
        place, lambda text: text.replace("[1, 3, 16, 24]", "[1, 4, 16, 24]"), "--format", "onnx", "--json"
    )
    assert found.code == found.document["error"]["exit_code"] == 9
    assert found.document["error"]["layer"] == "features.0"
    for variant in found.document["variants"]:
        error = variant["error"]
        assert (error["layer"], error["step"], error["kind"]) == (
            "features.0",
            "onnx-fp32",
            "ConversionError",
        )
        assert "image (1, 4, 16, 24)" in error["got"]
        assert error["do"].startswith("Correct `inputs`")
        assert "features.0" in Path(error["log"]).read_text("utf-8")


NET = """\
import errno, os, time
from pathlib import Path
from torch import nn

def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

def hang():
    Path(__file__).with_name("hangs").touch()
    time.sleep(600)
"""


def test_a_full_disk_has_the_code_of_storage(place: Path) -> None:
    (place / "net.py").write_text(NET, "utf-8")
    change = "tests.simulators.tiny_models:Classifier", "net.py:full"
    found = bad(place, lambda text: text.replace(*change), "--format", "onnx", "--json")
    error = found.document["error"]
    assert (found.code, error["type"], error["exit_code"]) == (8, "StorageError", 8)


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, after some code."""
    script = f"{code}\nimport sys; from edge_runtime.cli.app import app; app(sys.argv[1:])"
    command = [sys.executable, "-c", script, "convert", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("number", "code", "kind", "message"),
    [
        (signal.SIGINT, 130, "KeyboardInterrupt", "interrupted"),
        (signal.SIGTERM, 143, "SystemExit", "ended by SIGTERM"),
    ],
)
def test_a_signal_gives_one_document_and_its_code(
    place: Path, number: signal.Signals, code: int, kind: str, message: str
) -> None:
    (place / "net.py").write_text(NET, "utf-8")
    text = RECIPE.replace("tests.simulators.tiny_models:Classifier", "net.py:hang")
    (place / "hang.yaml").write_text(text, "utf-8")
    (place / "hangs").unlink(missing_ok=True)
    process = started("", place / "hang.yaml", "--out", place / "hung", "--cache", place / "cache", "--json")
    while not (place / "hangs").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert json.loads(out) == {"error": {"type": kind, "message": message, "exit_code": code}}
    assert "Traceback" not in err
    assert not (place / "hung").exists()


@pytest.mark.parametrize(
    ("module", "format_", "extra"),
    [
        ("onnxslim", "onnx", "edge-runtime[convert]"),
        ("nncf", "openvino", "edge-runtime[convert,convert-openvino]"),
        ("ai_edge_quantizer", "tflite", "edge-runtime[convert,convert-litert]"),
        ("coremltools", "coreml", "edge-runtime[convert,convert-apple]"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(
    place: Path, module: str, format_: str, extra: str
) -> None:
    text = PROFILE.replace("formats: [onnx], precisions: [int8, fp32]", "formats: [onnx], precisions: [fp32]")
    text = text.replace(
        "engine: coreml", "engine: litert, formats: [tflite], precisions: [fp32]}\n  - {engine: coreml"
    )
    (place / "lean.yaml").write_text(text, "utf-8")
    (place / "lean-recipe.yaml").write_text(RECIPE.replace("kiosk.yaml", "lean.yaml"), "utf-8")
    process = started(
        # A module that is None cannot be imported, and is not found.
        f"import sys; sys.modules['{module}'] = None",
        *(place / "lean-recipe.yaml", "--format", format_, "--out", place / "lean"),
        *("--cache", place / f"without-{module}"),
    )
    out, err = process.communicate()
    lines = [line for line in (out + err).splitlines() if "pip install" in line]
    assert process.returncode == 9
    assert len(lines) == 1
    assert f"got no {module}" in lines[0]
    assert f"pip install '{extra}'" in lines[0]
    assert "Traceback" not in out + err
