"""Looking at this machine, and at machines written down as files."""

import json
import os
import sys
from pathlib import Path

import pytest

from device_profiles.loader import load_profile
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import StorageError
from edge_runtime.engines import probe as probing
from edge_runtime.engines.hardware import read_accelerators, read_cpu, read_memory_bytes
from edge_runtime.engines.machine import detect_profile, write_profile
from edge_runtime.engines.probe import probe

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads what the Linux kernel shows")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture(scope="module")
def here() -> DeviceProfile:
    return detect_profile()


def test_this_machine_is_described_and_written(here: DeviceProfile, tmp_path: Path) -> None:
    write_profile(here, tmp_path / "here.yaml")
    assert load_profile(tmp_path / "here.yaml") == here
    ran = {support.engine: support.providers for support in here.engines}
    assert "CPUExecutionProvider" in ran["onnxruntime"]
    assert "XNNPACK" in ran["litert"]
    assert "CPU" in ran["openvino"]
    assert here.memory_budget_bytes < here.memory_bytes


def test_without_trying_engines_the_profile_names_none(here: DeviceProfile) -> None:
    quick = detect_profile(try_engines=False)
    assert quick.engines == ()
    assert (quick.name, quick.cpu, quick.accelerators) == (here.name, here.cpu, here.accelerators)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        write_profile(detect_profile(try_engines=False), tmp_path / "nowhere" / "here.yaml")


@linux
def test_an_x86_processor(tmp_path: Path) -> None:
    lines = "processor\t: 0\nmodel name\t: Intel(R) N100\nflags\t\t: fpu sse2 avx avx2 avx_vnni\n\n"
    root = write(tmp_path, {"proc/cpuinfo": lines * 4})
    cpu = read_cpu(root)
    assert cpu.name == "Intel(R) N100"
    assert cpu.features == ("avx", "avx2", "avx_vnni")
    assert cpu.threads == len(os.sched_getaffinity(0))


@linux
def test_an_arm_board_is_named_by_its_device_tree(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\nCPU part\t: 0xd0b\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        },
    )
    cpu = read_cpu(root)
    assert cpu.name == "Raspberry Pi 5 Model B Rev 1.0"
    assert cpu.features == ("asimd", "asimdhp", "asimddp")


@linux
@pytest.mark.parametrize(("limit", "wanted"), [("max\n", None), ("1073741824\n", 2**30), ("", None)])
def test_a_containers_memory_limit_counts(tmp_path: Path, limit: str, wanted: int | None) -> None:
    root = write(tmp_path, {"sys/fs/cgroup/memory.max": limit})
    assert read_memory_bytes(root) == (wanted or read_memory_bytes(tmp_path / "nothing"))


@linux
def test_accelerators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    write(
        tools, {"nvidia-smi": "#!/bin/sh\necho 'NVIDIA GeForce RTX 4060, 8188'\necho 'NVIDIA GB10, [N/A]'\n"}
    )
    (tools / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    root = write(
        tmp_path / "root",
        {
            "sys/class/drm/renderD128/device/vendor": "0x8086\n",
            "sys/class/drm/renderD128/device/device": "0x7d55\n",
            "sys/class/drm/renderD129/device/vendor": "0x10de\n",
            "sys/class/drm/renderD130/device/vendor": "0x1af4\n",
            "sys/class/accel/accel0/device/vendor": "0x8086\n",
            "sys/class/accel/accel0/device/device": "0x7d1d\n",
        },
    )
    found = [(each.kind, each.name, each.memory_bytes) for each in read_accelerators(root)]
    assert found == [
        ("gpu", "NVIDIA GeForce RTX 4060", 8188 * 2**20),
        ("gpu", "NVIDIA GB10", None),
        ("gpu", "Intel GPU 0x7d55", None),
        ("npu", "Intel NPU 0x7d1d", None),
    ]


@linux
def test_a_jetson_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    root = write(tmp_path, {"proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0"})
    (found,) = read_accelerators(root)
    assert (found.kind, found.name) == ("gpu", "NVIDIA Jetson Orin Nano Developer Kit GPU")


def engine_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """Make every child's onnxruntime a module of one statement."""
    (tmp_path / "onnxruntime.py").write_text(f"import os, signal, time\n{does}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_library_that_crashes_takes_only_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_that(tmp_path, monkeypatch, "os.kill(os.getpid(), signal.SIGSEGV)")
    found = probe(("onnxruntime", "litert"))
    assert "crashed: SIGSEGV" in found["onnxruntime"]
    assert found["litert"] == ("XNNPACK", "CPU")


def test_a_library_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_that(tmp_path, monkeypatch, "time.sleep(600)")
    assert "did not answer in 1 s" in probe(("onnxruntime",), timeout_s=1)["onnxruntime"]


def test_a_library_that_is_missing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_that(tmp_path, monkeypatch, "raise ImportError('gone')")
    assert "edge-runtime[onnx]" in probe(("onnxruntime",))["onnxruntime"]


def test_the_child_answers_in_one_line_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert probing.main(["litert", "XNNPACK"]) == 0
    assert json.loads(capfd.readouterr().out) == {"providers": ["XNNPACK", "CPU"]}
    probing.main(["litert", "Moonbeam"])
    assert "Moonbeam" in json.loads(capfd.readouterr().out)["problem"]
