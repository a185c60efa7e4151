"""Runner: walks a graph of steps, each in a child process of its tool's interpreter, or takes a kept result.

Knows no format and no target. A step that fails costs the steps that need it and no other. Killed at any
moment, it leaves whole results only; the next run goes on from them.
"""

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias, cast

from converters.attempt import Ended, attempt
from converters.environments import AbandonedError, prepare
from converters.own_code import code_fingerprint
from converters.schedule import Schedule
from converters.step import Facts, Step, fingerprint
from converters.store import Draft, StepStore, read_facts, read_run
from converters.toolchain import TOOLS, Tool, find_tool, tool_fingerprint
from converters.verdict import explain
from edge_runtime.cli.stopping import unwind_on_sigterm
from edge_runtime.contract.errors import ConversionError, StorageError

_TRACE_LINES = 12
Watcher: TypeAlias = Callable[[str, float, str], None]
"""Told a step's id, its share in [0, 1], and what it is doing; always in the thread that called `run`."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step that has a result.

    Args:
        fingerprint: The result's name.
        path: Its folder.
        facts: What the step said of it.
        cached: Whether it was there already.
        seconds: What making it took; of a cached one, back then.
        peak_memory_bytes: The most memory that took.
    """

    fingerprint: str
    path: Path
    facts: Facts
    cached: bool
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A step that has none.

    Args:
        error: Why, for a person.
        kind: The name of the error's class, as the tool raised it; `Crash`, `Timeout` where it raised none.
        log: What the step's tools said; None where no process was started.
        traceback: Its last lines; empty where there is none.
    """

    error: ConversionError | StorageError
    kind: str
    log: Path | None = None
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A step that was not tried.

    Args:
        because: Id of the step that failed.
    """

    because: str


Outcome: TypeAlias = Done | Failed | Skipped


def run(
    steps: Sequence[Step],
    store: StepStore,
    *,
    tell: Watcher,
    jobs: int = 1,
    tools: Mapping[str, Tool] = TOOLS,
    cache: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[str, Outcome]:
    """Run a graph of steps.

    Args:
        steps: The graph; steps whose needs are met start in this order.
        store: Where results are kept and found.
        tell: Told the progress.
        jobs: How many steps may run at the same time.
        tools: The table of tools.
        cache: Folder of isolated tools' environments; absent: the platform's own.
        clock: Gives seconds, for time limits.

    Returns:
        Every step's outcome, in the order of the plan.

    Raises:
        ConversionError: The graph is none: see `Schedule`.
        StorageError: The store cannot be used.
        KeyboardInterrupt: Ctrl-C; SIGTERM raises SystemExit. No step's process is left then.
    """
    schedule = Schedule(steps)
    with store.in_use(), unwind_on_sigterm():
        walk = _Walk({step.id: step for step in steps}, store, tell, tools, cache, clock)
        try:
            walk.through(schedule, jobs)
        finally:
            walk.end()
            # What is not remembered is only read again.
            with suppress(OSError):
                store.digests.save()
    return {step.id: walk.outcomes[step.id] for step in steps}


_Progress: TypeAlias = tuple[str, float, str]
_End: TypeAlias = tuple[str, Done | Failed | None]


class _Walk:
    """One walk through a graph. Steps run in threads; all else happens in the caller's."""

    def __init__(
        self,
        steps: Mapping[str, Step],
        store: StepStore,
        tell: Watcher,
        tools: Mapping[str, Tool],
        cache: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._steps = steps
        self._store = store
        self._tell = tell
        self._tools = tools
        self._cache = cache
        self._clock = clock
        self._environments: dict[str, str] = {}
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._news: SimpleQueue[_Progress | _End] = SimpleQueue()

    def through(self, schedule: Schedule, jobs: int) -> None:
        while not schedule.over:
            while len(self._threads) < jobs and (name := schedule.take()) is not None:
                outcome = self._start(self._steps[name])
                if outcome is not None:
                    self._finish(schedule, name, outcome)
            if self._threads:
                self._listen(schedule)

    def end(self) -> None:
        """Stop what still runs, and wait for it to be gone."""
        self._stop.set()
        for thread in self._threads.values():
            thread.join()

    def _listen(self, schedule: Schedule) -> None:
        news = self._news.get()
        if len(news) == 3:
            self._tell(*news)
            return
        name, outcome = news
        self._threads.pop(name).join()
        if outcome is None:
            raise RuntimeError(f"the thread of step '{name}' ended without an outcome")
        self._finish(schedule, name, outcome)

    def _finish(self, schedule: Schedule, name: str, outcome: Done | Failed) -> None:
        self.outcomes[name] = outcome
        succeeded = isinstance(outcome, Done)
        self._tell(name, 1.0, ("cached" if outcome.cached else "done") if succeeded else "failed")
        for lost in schedule.finish(name, succeeded=succeeded):
            self.outcomes[lost.id] = Skipped(lost.because)
            self._tell(lost.id, 1.0, f"skipped, for it needs '{lost.because}'")

    def _start(self, step: Step) -> Done | Failed | None:
        """Take a step's kept result or find that it cannot run; None: it runs now."""
        try:
            tool = find_tool(step.tool, self._tools)
            known = self._fingerprint(step, tool)
            result = self._store.get(known)
            if result is not None:
                return self._done(known, result, cached=True)
        except (ConversionError, StorageError) as error:
            return Failed(error, type(error).__name__)
        thread = threading.Thread(target=self._work, args=(step, tool, known), daemon=True)
        self._tell(step.id, 0.0, "starting")
        thread.start()
        self._threads[step.id] = thread
        return None

    def _fingerprint(self, step: Step, tool: Tool) -> str:
        inputs = {name: cast(Done, self.outcomes[other]).fingerprint for name, other in step.needs.items()}
        for name, path in step.files.items():
            try:
                inputs[name] = self._store.digests.of(path)
            except OSError as error:
                raise ConversionError(
                    f"step '{step.id}': its {name} {path} cannot be read",
                    step=step.id,
                    got=error.strerror or str(error),
                ) from error
        if tool.name not in self._environments:
            self._environments[tool.name] = tool_fingerprint(tool, self._tools)
        environment = f"{self._environments[tool.name]} {code_fingerprint(step.function)}"
        return fingerprint(step, inputs, environment)

    def _work(self, step: Step, tool: Tool, known: str) -> None:
        """Run a step; the body of its thread."""
        outcome: Done | Failed | None = None
        try:
            outcome = self._try(step, tool, known)
        except (ConversionError, StorageError) as error:
            outcome = Failed(error, type(error).__name__)
        except AbandonedError:
            return
        # A bug of ours, or of what a tool wrote where only the worker should: it costs this step alone.
        except Exception as error:  # noqa: BLE001
            outcome = self._broken(step, known, error)
        finally:
            self._news.put((step.id, outcome))

    def _try(self, step: Step, tool: Tool, known: str) -> Done | Failed:
        def tell(share: float, doing: str) -> None:
            self._news.put((step.id, share, doing))

        launch = prepare(tool, tell=tell, stop=self._stop, cache=self._cache, tools=self._tools)
        made = {name: cast(Done, self.outcomes[other]).path for name, other in step.needs.items()}
        draft = self._store.begin(known)
        try:
            with self._store.speaking(f"cannot take step '{step.id}'"):
                ended = attempt(
                    step,
                    launch,
                    draft,
                    {**made, **step.files},
                    shared=tool.isolation != "own",
                    tell=tell,
                    stop=self._stop,
                    clock=self._clock,
                )
        except (ConversionError, StorageError, AbandonedError):
            self._store.discard(draft)
            raise
        except Exception as error:  # noqa: BLE001 - see `_work`; here there is a log to add to
            return self._broken(step, known, error, draft)
        if ended.facts is None or ended.returncode != 0:
            return self._failed(step, ended, self._store.fail(draft, _as_data(ended)))
        if self._fingerprint(step, tool) != known:
            self._store.discard(draft)
            changed = ", ".join(str(path) for path in step.files.values())
            raise ConversionError(
                f"step '{step.id}': {changed} changed while it was read", step=step.id, do="Run it again"
            )
        making: Facts = {
            "step": step.id,
            "tool": tool.name,
            "seconds": round(ended.seconds, 3),
            "peak_memory_bytes": ended.peak_memory_bytes,
        }
        return self._done(known, self._store.commit(draft, ended.facts, making), cached=False)

    def _failed(self, step: Step, ended: Ended, log: Path) -> Failed:
        said = ended.error or {}
        kind = said.get("kind") or ("Timeout" if ended.timed_out else "Crash")
        error = explain(step, ended, log, self._store.folder)
        return Failed(error, kind, log, tuple(said.get("traceback", ())))

    def _broken(self, step: Step, known: str, error: Exception, draft: Draft | None = None) -> Failed:
        """Make a failure of what nobody foresaw, with its traceback at the end of the step's log."""
        lines = traceback.format_exception(error)
        kind = type(error).__name__
        try:
            draft = draft or self._store.begin(known)
        except StorageError as full:
            return Failed(full, kind, None, tuple(lines))
        # As in `StepStore.fail`: a disk without room for it must not hide the error itself.
        with suppress(OSError), draft.log.open("a", encoding="utf-8") as log:
            log.writelines(lines)
        place = self._store.fail(draft, {"error": {"kind": kind, "traceback": [*lines]}})
        word = ConversionError(
            f"step '{step.id}' failed in edge-runtime itself with {kind}",
            step=step.id,
            got=next(iter(str(error).splitlines()), None),
            do=f"This is a bug: report it with {place}",
        )
        return Failed(word, kind, place, tuple("".join(lines).splitlines()[-_TRACE_LINES:]))

    def _done(self, known: str, result: Path, *, cached: bool) -> Done:
        making = read_run(result)
        seconds, peak = cast(float, making["seconds"]), cast(int, making["peak_memory_bytes"])
        return Done(known, result, read_facts(result), cached, seconds, peak)


def _as_data(ended: Ended) -> Facts:
    return {
        "error": cast(Facts, dict(ended.error)) if ended.error else None,
        "returncode": ended.returncode,
        "timed_out": ended.timed_out,
        "seconds": round(ended.seconds, 3),
    }
