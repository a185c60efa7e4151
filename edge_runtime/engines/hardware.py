"""What this machine has, as its operating system tells: processor, memory, accelerators.

Loads no engine and measures nothing; what cannot be found out is left out, never guessed.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, TypeAlias

import psutil

from edge_runtime.contract.device import Accelerator, Cpu
from edge_runtime.contract.errors import EngineError

Arch: TypeAlias = Literal["x86_64", "aarch64", "armv7l", "wasm32"]

_ARCHS: dict[str, Arch] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "armv7l": "armv7l",
}

# Instruction sets that inference kernels are written for, under the names /proc/cpuinfo gives them
# (Linux: arch/x86/include/asm/cpufeatures.h, arch/arm64/kernel/cpuinfo.c).
_FEATURES = (
    "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip

# PCI vendor ids (pci-ids.ucw.cz).
_VENDORS = {"0x8086": "Intel", "0x1002": "AMD", "0x10de": "NVIDIA"}


def read_cpu(root: Path = Path("/")) -> Cpu:
    """Describe the processor, counting only what this process may use.

    Args:
        root: Where `proc` stands, on Linux.

    Raises:
        EngineError: The machine's architecture is none this runtime knows.
    """
    machine = platform.machine().lower()
    if machine not in _ARCHS:
        raise EngineError("processor architecture", expected=", ".join(_ARCHS), got=machine)
    threads = len(os.sched_getaffinity(0)) if sys.platform == "linux" else psutil.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or threads, threads)
    if sys.platform == "darwin":
        name, features = _sysctl("machdep.cpu.brand_string"), _mac_features(_sysctl("hw.optional"))
    else:
        name, features = _cpuinfo(root)
    return Cpu(
        name=name or platform.processor() or machine,
        arch=_ARCHS[machine],
        cores=cores,
        threads=threads,
        features=features,
    )


def read_memory_bytes(root: Path = Path("/")) -> int:
    """Tell the memory of this machine, or of the container where that has less."""
    total = psutil.virtual_memory().total
    limit = _text(root / "sys/fs/cgroup/memory.max").strip()  # cgroup v2; "max" or a number
    return min(total, int(limit)) if limit.isdigit() else total


def read_accelerators(root: Path = Path("/")) -> tuple[Accelerator, ...]:
    """Find GPUs and NPUs, whether or not an engine can use them.

    Args:
        root: Where `proc`, `sys` and `dev` stand, on Linux.
    """
    if sys.platform == "darwin" and platform.machine() == "arm64":
        chip = _sysctl("machdep.cpu.brand_string")
        return (
            Accelerator(kind="gpu", name=f"{chip} GPU"),
            Accelerator(kind="npu", name="Apple Neural Engine"),
        )
    return (*_nvidia(), *_jetson(root), *_drm(root), *_npu(root))


def _text(file: Path) -> str:
    """Read a file the kernel shows; empty where there is none."""
    try:
        return file.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    """Run a program; empty where it is missing, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _sysctl(name: str) -> str:
    value = _output("sysctl", name)
    return value.partition(": ")[2].strip() if value.count("\n") <= 1 else value


def _mac_features(listing: str) -> tuple[str, ...]:
    """Read `hw.optional.arm.FEAT_DotProd: 1` lines: `feat_dotprod`."""
    found = re.findall(
        r"^hw\.optional\.arm\.(FEAT_(?:DotProd|FP16|I8MM|BF16|SME)): 1$", listing, re.MULTILINE
    )
    return tuple(name.lower() for name in found)


def _cpuinfo(root: Path) -> tuple[str, tuple[str, ...]]:
    fields = dict(
        re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", _text(root / "proc/cpuinfo"), re.MULTILINE),
    )
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    board = _text(root / "proc/device-tree/model").rstrip("\0")
    name = fields.get("model name") or board  # most Arm kernels name the board only
    return name, tuple(feature for feature in _FEATURES if feature in flags)


def _nvidia() -> tuple[Accelerator, ...]:
    listing = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    found: list[Accelerator] = []
    for line in listing.splitlines():
        name, _, mebibytes = line.rpartition(", ")
        memory = int(mebibytes) * 2**20 if mebibytes.isdigit() else None  # "[N/A]" where it is shared
        found.append(Accelerator(kind="gpu", name=name, memory_bytes=memory))
    return tuple(found)


def _jetson(root: Path) -> tuple[Accelerator, ...]:
    """Find the GPU of a Jetson, whose older systems have no nvidia-smi."""
    board = _text(root / "proc/device-tree/model").rstrip("\0")
    if "jetson" not in board.lower() or _nvidia():
        return ()
    return (Accelerator(kind="gpu", name=f"{board} GPU"),)


def _drm(root: Path) -> tuple[Accelerator, ...]:
    """Find Intel and AMD GPUs by their render nodes; NVIDIA's are told by nvidia-smi."""
    found: list[Accelerator] = []
    for node in sorted((root / "sys/class/drm").glob("renderD*")):
        vendor = _VENDORS.get(_text(node / "device/vendor").strip())
        if vendor in ("Intel", "AMD"):
            device = _text(node / "device/device").strip()
            found.append(Accelerator(kind="gpu", name=f"{vendor} GPU {device}".strip()))
    return tuple(found)


def _npu(root: Path) -> tuple[Accelerator, ...]:
    """Find NPUs of the kernel's accelerator class."""
    found: list[Accelerator] = []
    for node in sorted((root / "sys/class/accel").glob("accel*")):
        vendor = _VENDORS.get(_text(node / "device/vendor").strip())
        if vendor:
            found.append(
                Accelerator(kind="npu", name=f"{vendor} NPU {_text(node / 'device/device').strip()}")
            )
    return tuple(found)
