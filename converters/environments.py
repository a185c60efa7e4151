"""Environments: where isolated tools live; each is made on first use, once, by whoever needs it first.

Knows no step. An environment is whole or it is made again: a mark is written into it last, after its smoke
test passed, and a lock lets other processes wait for the one that makes it. POSIX only, for the lock.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from converters.log_tail import last_line, tail
from converters.step import Tell
from converters.toolchain import TOOLS, Tool, require_tool, tool_fingerprint
from edge_runtime.contract.errors import ConversionError, StorageError

CACHE_VARIABLE = "EDGE_RUNTIME_CACHE"
_MARK = "ready.json"
_POLL_S = 0.2


class AbandonedError(Exception):
    """Whoever asked for the work no longer wants it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start Python in a tool's environment.

    Args:
        command: The interpreter and its flags.
        environment: All environment variables of the process.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]


def cache_folder() -> Path:
    """Give the folder for what can be made again: `$EDGE_RUNTIME_CACHE`, or the platform's own place."""
    told = os.environ.get(CACHE_VARIABLE)
    if told:
        return Path(told)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edge-runtime"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-runtime"


def prepare(
    tool: Tool,
    *,
    tell: Tell,
    stop: threading.Event | None = None,
    cache: Path | None = None,
    tools: Mapping[str, Tool] = TOOLS,
) -> Launch:
    """Give the way to start a tool's Python; an isolated environment that is not there yet is made.

    Args:
        tool: A row.
        tell: Told about the making, which takes a minute or so; never called where nothing is made.
        stop: Set by another thread to give up.
        cache: Folder of the environments; absent: `tools` in `cache_folder()`.
        tools: Where the rows beneath an overlay are.

    Raises:
        ConversionError: What the tool needs of this interpreter is missing, or pip or the smoke test failed.
        StorageError: The disk of the cache is full or not writeable.
        AbandonedError: `stop` was set.
    """
    require_tool(tool, tools)
    if tool.isolation == "in-process":
        return Launch((sys.executable, "-P"), dict(os.environ))
    root = cache or cache_folder() / "tools"
    home = root / f"{tool.name}-{_digest(tool, tools)[:16]}"
    launch = _launch(tool, home)
    if not (home / _MARK).is_file():
        try:
            with _lock(root / f"{home.name}.lock", tell, stop or threading.Event()) as lock:
                # Another process may have made it while this one waited for the lock.
                if not (home / _MARK).is_file():
                    _Making(tool, home, launch, tell, stop or threading.Event(), lock).make()
        except OSError as error:
            raise StorageError(
                f"tool '{tool.name}': cannot make its environment in {root}",
                got=error.strerror or str(error),
                do=f"Free the disk, let this user write there, or set {CACHE_VARIABLE} to another folder",
            ) from error
    return launch


def check_tool(
    tool: Tool, *, tell: Tell, cache: Path | None = None, tools: Mapping[str, Tool] = TOOLS
) -> None:
    """Run a tool's smoke test; an isolated one is made first where it is not there.

    Args:
        tool: A row.
        tell: See `prepare`.
        cache: See `prepare`.
        tools: See `prepare`.

    Raises:
        ConversionError: The tool is missing, cannot be made, or does not work on this machine.
        StorageError: The disk of the cache is full or not writeable.
    """
    launch = prepare(tool, tell=tell, cache=cache, tools=tools)
    root = cache or cache_folder() / "tools"
    root.mkdir(parents=True, exist_ok=True)
    log = root / f"{tool.name}-check.log"

    def call(command: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
        with log.open("wb") as writer:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                check=False,
            ).returncode

    _smoke(tool, launch, log, call)


def _digest(tool: Tool, tools: Mapping[str, Tool]) -> str:
    """What makes it another environment: its tool, and for an overlay where the packages beneath it are."""
    known = [tool_fingerprint(tool, tools), sys.version, sys.prefix, *_sites(tool)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _sites(tool: Tool) -> list[str]:
    """The folders of packages that an overlay sees beneath its own."""
    if tool.isolation != "overlay":
        return []
    return [entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]


def _launch(tool: Tool, home: Path) -> Launch:
    hidden = {"PYTHONHOME", "PYTHONPATH"} if tool.isolation == "own" else {"PYTHONHOME"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return Launch((str(home / "bin" / "python"), "-P"), environment | {"PYTHONNOUSERSITE": "1"})


@contextmanager
def _lock(path: Path, tell: Tell, stop: threading.Event) -> Generator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    tell(0.0, f"waiting for another process that makes {path.stem}")
                    told = True
            if stop.wait(_POLL_S):
                raise AbandonedError
        yield file.fileno()


class _Making:
    """The making of one environment, under its lock."""

    def __init__(
        self, tool: Tool, home: Path, launch: Launch, tell: Tell, stop: threading.Event, lock: int
    ) -> None:
        self._tool = tool
        self._home = home
        self._log = home.with_name(f"{home.name}.log")
        self._launch = launch
        self._tell = tell
        self._stop = stop
        self._lock = lock
        self._share = 0.05

    def make(self) -> None:
        began = time.monotonic()
        tool, home = self._tool, self._home
        if home.exists():
            shutil.rmtree(home)
        try:
            self._tell(0.0, f"making the environment of '{tool.name}', once")
            self._install()
            self._tell(0.95, f"trying '{tool.name}'")
            _smoke(tool, self._launch, self._log, self._call)
            size = sum(file.lstat().st_size for file in home.rglob("*") if file.is_file())
            seconds = round(time.monotonic() - began, 1)
            draft = home / f"{_MARK}.new"
            draft.write_text(json.dumps({"tool": tool.name, "size_bytes": size, "seconds": seconds}))
            draft.replace(home / _MARK)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        self._tell(1.0, f"made the environment of '{tool.name}'")

    def _install(self) -> None:
        tool, home = self._tool, self._home
        # This interpreter's pip installs there, too; where it has none (uv makes such), the new one gets one.
        has_pip = find_spec("pip") is not None
        self._must([sys.executable, "-m", "venv", *(["--without-pip"] if has_pip else []), str(home)])
        sites = _sites(tool)
        if sites:
            place = sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)})
            # addsitedir also follows the .pth files there, so that editable installs are seen.
            lines = "".join(f"import site; site.addsitedir({site!r})\n" for site in sites)
            (Path(place) / "beneath.pth").write_text(lines)
        python = str(home / "bin" / "python")
        pip = [sys.executable, "-m", "pip", "--python", python] if has_pip else [python, "-m", "pip"]
        install = [*pip, "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        if tool.requirements:
            self._must([*install, *tool.requirements])
        if tool.bare:
            self._must([*install, "--no-deps", "--ignore-requires-python", *tool.bare])

    def _must(self, command: Sequence[str]) -> None:
        if self._call(command) == 0:
            return
        text = tail(self._log)
        if os.strerror(errno.ENOSPC) in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        errors = [line for line in text.splitlines() if line.startswith("ERROR: ")]
        raise ConversionError(
            f"tool '{self._tool.name}': its environment could not be made",
            got=(errors[-1].removeprefix("ERROR: ") if errors else last_line(text)) or "no word of why",
            do=f"Is a package index within reach? {self._log} says more",
        )

    def _call(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> int:
        with self._log.open("wb") as writer, self._log.open("rb") as reader:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
                # Should this process be killed, the lock holds until the one it started has ended, too.
                pass_fds=(self._lock,),
            )
            try:
                while process.poll() is None:
                    if self._stop.wait(_POLL_S):
                        raise AbandonedError
                    for line in reader.read().decode(errors="replace").splitlines():
                        self._follow(line.strip())
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return process.returncode

    def _follow(self, line: str) -> None:
        """Tell what pip does. Nobody knows how many packages it will find: each takes a share of the rest."""
        if line.startswith(("Collecting ", "Processing ", "Downloading ", "Installing ")):
            self._share += (0.9 - self._share) * 0.03
            self._tell(self._share, f"{self._tool.name}: {line[:100]}")


_Call: TypeAlias = Callable[[Sequence[str], Mapping[str, str], str], int]


def _smoke(tool: Tool, launch: Launch, log: Path, call: _Call) -> None:
    with tempfile.TemporaryDirectory() as folder:
        code = call([*launch.command, "-c", tool.smoke], launch.environment, folder)
    if code:
        raise ConversionError(
            f"tool '{tool.name}' does not work on this machine",
            got=last_line(tail(log)) or f"exit code {code}",
            do=f"{log} says more",
        )
