"""Worker: one step, run in its own process by the interpreter of its tool.

    python -P converters/worker.py JOB.json

Decides nothing: it does what the job says and tells how it went, as JSON lines on a pipe: `{"tell": [share,
doing]}`, then one `{"done": facts, …}` or `{"error": {…}}`. What the tools print is the log's. Imports
nothing but Python's own library and the step, so that it starts fast and in any environment.
"""

import errno
import faulthandler
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

_TELL_S = 0.02
"""The share of what is being done comes no faster than this."""
_TRACE_LINES = 12
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _OurPackages(importlib.abc.MetaPathFinder):
    """Finds the packages that the job names where the job says, whatever else the environment holds."""

    def __init__(self, places: dict[str, dict[str, Any]]) -> None:
        self._places = places

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> importlib.machinery.ModuleSpec | None:
        place = self._places.get(fullname)
        if place is None:
            return None
        folders: list[str] = place["folders"]
        if place["file"] is None:
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = folders
            return spec
        return importlib.util.spec_from_file_location(
            fullname, place["file"], submodule_search_locations=folders or None
        )


class _Reporter:
    """Writes JSON lines for the runner."""

    def __init__(self, descriptor: int) -> None:
        # Programs that a tool starts must not hold the pipe open.
        os.set_inheritable(descriptor, False)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._told = (0.0, "")

    def tell(self, share: float, doing: str) -> None:
        """`Tell` of the step's function; may be called from any thread."""
        now = time.monotonic()
        since, last = self._told
        if doing != last or now - since >= _TELL_S:
            self._told = (now, doing)
            self.send({"tell": [min(1.0, max(0.0, float(share))), str(doing)]})

    def send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, allow_nan=False)
        with self._lock:
            self._file.write(text + "\n")
            self._file.flush()


def main(job_file: Path) -> int:
    """Run the step of a job.

    Args:
        job_file: JSON with `function`, `inputs`, `out`, `options`, `memory_bytes`, `packages`, `path`,
            `report` and `life`.

    Returns:
        The exit code: 0 when the step succeeded.
    """
    faulthandler.enable()
    job: dict[str, Any] = json.loads(job_file.read_bytes())
    reporter = _Reporter(job["report"])
    _die_with(job["life"])
    if job["memory_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, (job["memory_bytes"], job["memory_bytes"]))
    sys.meta_path.insert(0, _OurPackages(job["packages"]))
    sys.path.extend(entry for entry in job["path"] if entry not in sys.path)
    try:
        module, _, name = job["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        inputs = {key: Path(path) for key, path in job["inputs"].items()}
        facts = function(inputs, Path(job["out"]), job["options"], reporter.tell)
        reporter.send({"done": dict(facts), "peak_memory_bytes": _peak_memory_bytes()})
    # Tools raise anything, and some leave by sys.exit; the runner makes a word for a person of it.
    except BaseException as error:  # noqa: BLE001
        reporter.send({"error": _describe(error)})
        _log(error)
        return 1
    return 0


def _log(error: BaseException) -> None:
    # Where the disk is full, the log is, too.
    with suppress(OSError):
        if not isinstance(error, SystemExit):
            traceback.print_exception(error)
        elif isinstance(error.code, str):
            print(error.code, file=sys.stderr)


def _die_with(life: int) -> None:
    """End this process, and all it started, when the runner is gone: its end of the pipe closes then."""

    def wait() -> None:
        os.read(life, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    os.set_inheritable(life, False)
    threading.Thread(target=wait, daemon=True).start()


def _describe(error: BaseException) -> dict[str, Any]:
    """Say an error as data; `ours` where its words are meant for a person."""
    chain = list(_chain(error))
    trace = "".join(traceback.format_exception(error)).splitlines()[-_TRACE_LINES:]
    lines = str(error).strip().splitlines()
    said = {
        name: getattr(error, name, None) for name in ("expected", "got", "do", "operator", "layer", "problem")
    }
    return {
        **{name: value if isinstance(value, str) else None for name, value in said.items()},
        "kind": type(error).__name__,
        "ours": any(base.__name__ == "EdgeRuntimeError" for base in type(error).__mro__),
        "first_line": lines[0] if lines else "",
        "no_memory": any(isinstance(link, MemoryError) for link in chain),
        "disk_full": any(isinstance(link, OSError) and link.errno in _FULL for link in chain)
        or "No space left on device" in str(error),
        "traceback": trace,
    }


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _peak_memory_bytes() -> int:
    """The most memory this process, or one that it started and waited for, had in use.

    The runner cannot measure it: Linux counts what the parent had in use at the start to the child as well.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        own = int(line.split()[1]) * 1024
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Some libraries crash or hang when they are taken down; the result is there, so none is.
    os._exit(code)
