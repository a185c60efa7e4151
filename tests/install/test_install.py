"""The wheel in fresh environments: light, complete, and working without this project's tools."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.install, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
STRANGERS = (
    "fastapi",
    "torch",
    "tensorflow",
    "coremltools",
    "ray",
    "onnxruntime",
    "openvino",
    "ai_edge_litert",
)
LIGHT = """
import importlib.util, sys
strangers = {strangers!r}
found = [name for name in strangers if importlib.util.find_spec(name)]
assert not found, f"the base install brought {{found}}"
import device_profiles, edge_runtime.agent, edge_runtime.cli
from edge_runtime.cli import bench, check, demo, predict, profile, run
assert not [name for name in strangers if name in sys.modules]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("edge_runtime-*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and its base dependencies only."""
    return make_environment(tmp_path_factory.mktemp("fresh"), str(wheel))


def make_environment(folder: Path, requirement: str) -> Path:
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", "-c", LOCK, requirement)
    return folder / "bin"


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_what_is_no_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "edge_runtime/py.typed",
        "edge_runtime/demo.yaml",
        "edge_runtime/media/pedestrians.mp4",
        "edge_runtime/models/efficientdet-lite0/bundle.json",
        "edge_runtime/models/efficientdet-lite0/model.tflite",
        "edge_runtime/sinks/report.html",
        "device_profiles/store-pc-cpu.yaml",
        "device_profiles/schema.json",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]


def test_the_base_is_light(fresh: Path, tmp_path: Path) -> None:
    run(fresh / "python", "-c", LIGHT.format(strangers=STRANGERS), cwd=tmp_path)


def test_the_command_works_without_any_engine(fresh: Path, tmp_path: Path) -> None:
    assert "check" in run(fresh / "edge-runtime", "--help", cwd=tmp_path)
    profiles = json.loads(run(fresh / "edge-runtime", "profile", "list", "--json", cwd=tmp_path))
    assert "store-pc-cpu" in {profile["name"] for profile in profiles}


def test_without_an_engine_the_message_says_what_to_install(fresh: Path, tmp_path: Path) -> None:
    image = tmp_path / "grey.png"
    write = f"import cv2, numpy; cv2.imwrite({str(image)!r}, numpy.full((64, 64, 3), 99, 'uint8'))"
    run(fresh / "python", "-c", write, cwd=tmp_path)
    command = [str(fresh / "edge-runtime"), "predict", "efficientdet-lite0", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 6
    assert "edge-runtime[litert]" in done.stderr


def test_with_an_engine_the_shipped_model_runs(wheel: Path, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "with-engine", f"{wheel}[litert]")
    command = (programs / "edge-runtime", "bench", "efficientdet-lite0", "--runs", "2", "--json")
    report = json.loads(run(*command, cwd=tmp_path))
    assert {cost["engine"] for cost in report["costs"] if not cost["problem"]} == {"litert"}
