"""What all commands share: errors, exit codes, JSON, and a fast start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from edge_runtime.cli.shell import DEBUG_VARIABLE, EXIT_CODES, ExitCode, exit_code, print_json, reporting
from edge_runtime.contract import errors
from edge_runtime.contract.errors import (
    BundleError,
    CameraError,
    ConfigError,
    ConversionError,
    EdgeRuntimeError,
    EngineError,
    InputError,
    RemoteError,
    StorageError,
    UpdateError,
)

HEAVY = (
    "av",
    "cv2",
    "numpy",
    "onnxruntime",
    "openvino",
    "ai_edge_litert",
    "pydantic",
    "ruamel",
    "paho",
    "psutil",
)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from edge_runtime.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", "TERM": "dumb", **environment},
    )


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom edge_runtime.cli import main\nsys.argv = ['edge-runtime', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "profile" in done.stdout
    assert done.stderr.split() == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 3),
        (InputError("x"), 4),
        (BundleError("x"), 5),
        (EngineError("x"), 6),
        (RemoteError("x", retryable=True), 7),
        (CameraError("x", retryable=False), 7),
        (StorageError("x"), 8),
        (UpdateError("x"), 10),
        (EdgeRuntimeError("x"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_every_exit_code_is_documented(repository: Path) -> None:
    page = (repository / "docs/reference/exit-codes.md").read_text("utf-8")
    for code in ExitCode:
        assert f"| {int(code)} |" in page


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    kinds = {kind for kind in EdgeRuntimeError.__subclasses__() if kind.__module__ == errors.__name__}
    assert kinds <= set(EXIT_CODES)


def test_an_error_is_one_message_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, reporting():
        raise ConfigError("store.yaml:3: site", expected="a name", got="[bold]x[/]", do="Rename it.")
    out, err = capsys.readouterr()
    assert caught.value.exit_code == 3
    assert out == ""
    assert err == "Error: store.yaml:3: site: expected a name, got [bold]x[/]. Rename it.\n"


def test_an_error_is_a_document_when_json_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting(as_json=True):
        raise InputError("picture a.png")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"type": "InputError", "message": "picture a.png", "exit_code": 4}}
    assert err == "Error: picture a.png\n"


def test_a_program_gets_the_parts_of_an_error_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConversionError(
        "no such operator",
        step="onnx-fp32",
        operator="GridSample",
        layer="/neck",
        got="opset 17",
        do="Raise it",
    )
    with pytest.raises(typer.Exit), reporting(as_json=True):
        raise error
    assert json.loads(capsys.readouterr().out)["error"] == {
        "type": "ConversionError",
        "message": "no such operator: got opset 17. Raise it",
        "exit_code": 9,
        "got": "opset 17",
        "do": "Raise it",
        "step": "onnx-fp32",
        "operator": "GridSample",
        "layer": "/neck",
    }


def test_ctrl_c_is_a_document_when_json_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, reporting(as_json=True):
        raise KeyboardInterrupt
    out, err = capsys.readouterr()
    assert caught.value.exit_code == 130
    error = {"type": "KeyboardInterrupt", "message": "interrupted", "exit_code": 130}
    assert json.loads(out) == {"error": error}
    assert err == "Interrupted.\n"
    with pytest.raises(KeyboardInterrupt), reporting():
        raise KeyboardInterrupt


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_traceback_is_shown_only_when_asked_for(
    debug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, debug)
    with pytest.raises(typer.Exit) as caught, reporting():
        raise ZeroDivisionError("division by zero")
    err = capsys.readouterr().err
    assert caught.value.exit_code == 1
    assert "ZeroDivisionError: division by zero" in err
    assert ("Traceback" in err) == bool(debug)


def test_json_has_no_numbers_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"value": float("nan"), "path": Path("a"), "code": ExitCode.OK})
    assert json.loads(capsys.readouterr().out) == {"value": None, "path": "a", "code": 0}


def test_a_wrong_option_is_a_usage_error() -> None:
    done = command("run", "--nothing", "store.yaml")
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_version() -> None:
    assert command("--version").stdout.startswith("edge-runtime 0.")


@pytest.mark.parametrize("flag", [True, False])
def test_debug_shows_the_traceback_of_a_real_command(flag: bool, tmp_path: Path) -> None:
    done = command(*(["--debug"] if flag else []), "check", str(tmp_path / "none.yaml"))
    assert done.returncode == 3
    assert "none.yaml: cannot be read" in done.stderr
    assert ("Traceback" in done.stderr) == flag


def test_settings_errors_are_listed_as_json(tmp_path: Path) -> None:
    store = tmp_path / "store.yaml"
    store.write_text("version: 1\nsite: A\n")
    done = command("check", "--json", str(store))
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"], error["exit_code"]) == (3, "SettingsError", 3)
    assert len(error["message"].splitlines()) == 3


def test_schema_prints_the_committed_schema(repository: Path) -> None:
    committed = json.loads((repository / "examples/store.schema.json").read_text("utf-8"))
    assert json.loads(command("schema").stdout) == committed
