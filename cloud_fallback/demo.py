"""A device and its cloud on one machine: both answer, the cloud goes away, and what was owed to it is sent.

    python -m cloud_fallback.demo --out demo-cloud-out

The cloud is a real `edge-runtime serve`, the device a `Runtime` with a settings file that may be changed. The
shipped detector stands in for the large model in the cloud, too, so that nothing has to be downloaded: look
at who answers, not at how well.
"""

import argparse
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from queue import Empty, Queue

import av
import numpy as np
from rich.console import Console

from edge_runtime.contract.errors import EdgeRuntimeError, EngineError, RemoteError, StorageError
from edge_runtime.contract.frame import Picture
from edge_runtime.runtime.late import LateAnswer
from edge_runtime.runtime.runtime import Runtime

PICTURES = 12
_EVERY = 40
_PATIENCE_S = 60.0
_ADDRESS = "DEMO_CLOUD"

Late = Queue[LateAnswer]


def main() -> None:
    """Run the demo and exit."""
    parser = argparse.ArgumentParser(description="A device and its cloud on one machine.")
    parser.add_argument("--out", type=Path, default=Path("demo-cloud-out"), help="folder for what is left")
    out: Path = parser.parse_args().out
    logging.basicConfig(level=logging.CRITICAL)  # what a cloud that is away has libraries say
    screen = Console(highlight=False)
    try:
        run(out.absolute(), screen)
    except EdgeRuntimeError as error:
        screen.print(f"[bold red]Error:[/] {error}")
        sys.exit(1)


def run(folder: Path, screen: Console) -> None:
    """Play the three acts.

    Args:
        folder: Gets the settings and the state of both sides; what an earlier demo owed is forgotten.
        screen: Where the story is told.

    Raises:
        EdgeRuntimeError: The cloud does not start, the folder cannot be written, …
    """
    settings, port = prepare(folder), _free_port()
    os.environ[_ADDRESS] = f"http://127.0.0.1:{port}"
    pictures = list(clip_pictures(PICTURES))
    late: Late = Queue()
    screen.print("[bold]1  The cloud is there.[/]")
    with serving(folder, port), Runtime(settings, on_late=late.put) as runtime:
        _ask(runtime, pictures, screen)
        _wait_for_late(runtime, late, screen)
    with Runtime(settings, on_late=late.put) as runtime:
        screen.print("\n[bold]2  The cloud is gone.[/]")
        _ask(runtime, pictures, screen)
        _tell_owed(runtime, screen)
        screen.print("\n[bold]3  The cloud is back.[/]")
        with serving(folder, port):
            _wait_for_late(runtime, late, screen)
            _tell_owed(runtime, screen)
    screen.print(f"\nThe device's settings: {settings}", soft_wrap=True)


def prepare(folder: Path) -> Path:
    """Make the folder, with the settings in it.

    Returns:
        The settings; those that are there already are kept.

    Raises:
        StorageError: The folder cannot be written.
    """
    settings = folder / "assistant.yaml"
    try:
        for state in ("state", "cloud"):
            shutil.rmtree(folder / state, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        if not settings.exists():
            settings.write_text((files("cloud_fallback") / "demo.yaml").read_text("utf-8"), "utf-8")
    except OSError as error:
        raise StorageError(
            f"demo: {folder} cannot be written: {error.strerror}", do="Name another folder: --out FOLDER"
        ) from error
    return settings


def clip_pictures(count: int) -> Generator[Picture, None, None]:
    """Take pictures from the shipped clip, some seconds apart."""
    with (
        as_file(files("edge_runtime") / "media" / "pedestrians.mp4") as clip,
        av.open(str(clip)) as container,
    ):
        for number, frame in enumerate(container.decode(video=0)):
            if number >= count * _EVERY:
                return
            if number % _EVERY == 0:
                yield Picture.from_bgr(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))


@contextmanager
def serving(folder: Path, port: int) -> Generator[None, None, None]:
    """Run the cloud as a process of its own, which ends with the block.

    Raises:
        RemoteError: It does not start.
    """
    with as_file(files("edge_runtime") / "models") as models:
        where = ("--bundles", str(models), "--port", str(port), "--state", str(folder / "cloud"))
        with (
            (folder / "cloud.log").open("ab") as log,
            subprocess.Popen(
                (sys.executable, "-m", "edge_runtime", "serve", *where), stdout=log, stderr=log
            ) as process,
        ):
            try:
                _until_it_listens(process, port, folder / "cloud.log")
                yield
            finally:
                process.terminate()  # it drains


def _until_it_listens(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < end_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
            continue
        return
    raise RemoteError("the cloud did not start", retryable=False, do=f"See {log}")


def _ask(runtime: Runtime, pictures: Sequence[Picture], screen: Console) -> None:
    for model in ("people", "people-later"):
        found = Counter[str]()
        for picture in pictures:
            decision = runtime.predict(model, picture).decision
            found[f"{decision.route} ({decision.reason})"] += 1
        told = ", ".join(f"{count} by {who}" for who, count in sorted(found.items()))
        screen.print(
            f"   {model:<13} {sum(found.values())} of {len(pictures)} pictures answered: {told}",
            soft_wrap=True,
        )


def _wait_for_late(runtime: Runtime, late: Late, screen: Console) -> None:
    """Take late answers until nothing is owed any more."""
    count, end_s = 0, time.monotonic() + _PATIENCE_S
    while _waiting(runtime) and time.monotonic() < end_s:
        try:
            late.get(timeout=0.2)
        except Empty:
            continue
        count += 1
    count += late.qsize()
    while not late.empty():
        late.get_nowait()
    if _waiting(runtime):
        raise EngineError(f"{_waiting(runtime)} pictures are owed to the cloud still")
    screen.print(f"   {count} late answers of the cloud came back")


def _tell_owed(runtime: Runtime, screen: Console) -> None:
    screen.print(f"   {_waiting(runtime)} pictures are owed to the cloud, on disk in the outbox")


def _waiting(runtime: Runtime) -> int:
    cloud = runtime.status().cloud
    return cloud.outbox.waiting if cloud is not None else 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
