"""Steps that do what a converter may do to a runner: work, fail, crash, hang, hoard."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError


def write(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Join the texts of all inputs and its own."""
    tell(0.5, "writing")
    texts = [read(path) for _, path in sorted(inputs.items())]
    (out / "text.txt").write_text(" ".join([*texts, str(options.get("text", "?"))]))
    print("wrote it")
    return {"inputs": sorted(inputs)}


def read(path: Path) -> str:
    return (path / "text.txt").read_text() if path.is_dir() else path.read_text()


def refuse(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    raise ConversionError(
        "the target has no such operator",
        operator="GridSample",
        layer="/neck/warp",
        expected="opset 20 or newer",
        got="opset 17",
        do="Take another target",
    )


def raise_foreign(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    print("\x1b[31mtool says something\x1b[0m")
    raise KeyError("node_12\nand much more")


def leave(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    print("ERROR: this model is no good", file=sys.stderr)
    sys.exit(1)


def vanish(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    print("so long")
    (out / "half.bin").write_bytes(b"half")
    code: Any = options["code"]
    os._exit(code)


def segfault(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    ctypes.string_at(0)
    return {}


def kill_itself(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    number: Any = options["signal"]
    os.kill(os.getpid(), number)
    return {}


def spoil(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Have the source change while it is read."""
    inputs["source"].write_text("something else")
    return {}


def die_once(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Be killed with half a file written; a second time, succeed."""
    flag = Path(str(options["flag"]))
    if not flag.exists():
        flag.touch()
        (out / "text.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    assert not list(out.iterdir())
    return write(inputs, out, options, tell)


def meet(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """End only while another step runs that does the same."""
    mine, theirs = Path(str(options["mine"])), Path(str(options["theirs"]))
    mine.touch()
    while not theirs.exists():
        time.sleep(0.01)
    return {}


def hang(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Start a program that hangs, too; leave both numbers in a file."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    place = Path(str(options["pids"]))
    place.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
    place.with_suffix(".new").rename(place)
    time.sleep(600)
    return {}


def hoard(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    hoarded: list[bytes] = []
    while True:
        hoarded.append(bytes(64 << 20))


def fill_disk(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    with (out / "large.bin").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def answer_nonsense(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    return {"path": out}  # type: ignore[dict-item]


def babble(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Write where only the worker should, as a library may that takes any open file for its own."""
    print("so far so good")
    report = json.loads((out.parent / "job.json").read_text())["report"]
    os.write(report, b"progress: 10 %\n")
    return {}


def measure(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    hoarded = bytearray(int(str(options["bytes"])))
    hoarded[::4096] = b"x" * len(hoarded[::4096])
    return {}


def name_environment(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    Path(os.environ["TMPDIR"], "scratch").touch()
    return {"cwd": str(Path.cwd()), "hash": hash("the same each time")}
