"""The environments and servers of the serving benchmark, ours among them. Nothing of them enters ours.

Each server gets an environment of its own under `.cache/bench`, made on first use; one that cannot be
installed is left out with the reason. All serve the same three ONNX files with onnxruntime.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
CACHE = REPO / ".cache" / "bench" / "serving"
DEBIAN_PYTHON = Path("/usr/bin/python3.11")

ORT = "onnxruntime==1.32.0"
RAY = "ray[serve]==2.60.0"
PACKAGES: dict[str, tuple[str, ...]] = {
    # What a user installs who serves ONNX models: no other engine, none of the tools.
    "ours": ("-e", f"{REPO}[onnx,cloud]"),
    # pytriton brings Triton's server; it is built for Debian's own Python 3.11 and for NumPy 1.
    "triton": ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime<1.24"),
    "mlserver": ("mlserver==1.7.1", "uvloop<0.22", ORT),
    "litserve": ("litserve==0.2.19", ORT),
    "ray": (RAY, ORT),
}
START_S = 120.0
STOP_S = 20.0


class Unavailable(Exception):  # noqa: N818 - nothing is wrong with a server that is not there
    """A server that cannot be installed or started here; its text says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Args:
        name: Which.
        port: Of its HTTP.
        pid: Of its main process.
        started_s: From its start to its first answer.
    """

    name: str
    port: int
    pid: int
    started_s: float

    def rss_bytes(self) -> int:
        """Resident memory of the process and all its children."""
        process = psutil.Process(self.pid)
        total = 0
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
        return total


def python_of(name: str) -> Path:
    """Give the Python of a server's environment, made on first use.

    Raises:
        Unavailable: It cannot be installed.
    """
    packages = PACKAGES[name]
    folder = CACHE / f"{name}-venv"
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists() and ready.read_text() == repr(packages):
        return python
    base = DEBIAN_PYTHON if name == "triton" else Path(sys.executable)
    if not base.exists():
        raise Unavailable(f"{base} is not there")
    print(f"making {folder} (once)", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    uv = (sys.executable, "-m", "uv")
    for command in (
        (*uv, "venv", "--quiet", "--python", str(base), str(folder)),
        (*uv, "pip", "install", "--quiet", "--python", str(python), *packages),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"cannot be installed: {done.stderr.strip()[-300:]}")
    ready.write_text(repr(packages))
    return python


@contextlib.contextmanager
def running(
    name: str, models: Path, bundles: Path, options: tuple[str, ...] = ()
) -> Generator[Running, None, None]:
    """Run a server.

    Args:
        name: Which.
        models: Folder of `NAME.onnx`.
        bundles: The same as bundles, for ours.
        options: More of ours.

    Raises:
        Unavailable: It cannot be installed, or does not answer.
    """
    python, port = python_of(name), _free_port()
    folder = CACHE / f"{name}-run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = (*_command(name, python, port, models, bundles), *options)
    began = time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=_environment(name), start_new_session=True
        )
    try:
        _wait(name, port, process, folder / "log")
        yield Running(name, port, process.pid, time.perf_counter() - began)
    finally:
        _stop(process)


def _command(name: str, python: Path, port: int, models: Path, bundles: Path) -> tuple[str, ...]:
    if name == "ours":
        where = ("--bundles", str(bundles), "--port", str(port))
        return (str(python), "-m", "edge_runtime", "serve", *where)
    return (str(python), str(HERE / "runners" / f"serve_{name}.py"), str(models), str(port))


def _environment(name: str) -> dict[str, str]:
    told = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    if name == "ray":
        told |= {
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": "/tmp/edge-bench-ray",  # a socket's path has at most 107 characters
        }
    return told


def _wait(name: str, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    path = {"litserve": "/health", "ray": "/-/healthz"}.get(name, "/v2/health/ready")
    end = time.perf_counter() + START_S
    while time.perf_counter() < end:
        if process.poll() is not None:
            raise Unavailable(f"ended with {process.returncode}: {log.read_text()[-300:].strip()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                if answer.status == 200 and READY[name](port):
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.02)
    raise Unavailable(f"no answer in {START_S:.0f} s: {log.read_text()[-300:].strip()}")


def _always(_: int) -> bool:
    return True


def _all_models(port: int) -> bool:
    """Ask for each model by name: some are ready before their models are."""
    for model in ("tiny", "mlp", "conv"):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{model}/ready", timeout=2) as answer:
            if answer.status != 200:
                return False
    return True


def _all_routes(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/routes", timeout=2) as answer:
        return {"/tiny", "/mlp", "/conv"} <= json.load(answer).keys()


READY: dict[str, Callable[[int], bool]] = {
    "ours": _always,
    "triton": _all_models,
    "mlserver": _all_models,
    "litserve": _always,
    "ray": _all_routes,
}


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server and everything it started, which shares its session."""
    family = [process.pid, *(child.pid for child in _children(process.pid))]
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in family[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    made = {}
    for wanted in sys.argv[1:] or PACKAGES:
        try:
            made[wanted] = str(python_of(wanted))
        except Unavailable as problem:
            made[wanted] = str(problem)
    print(json.dumps(made, indent=2))
