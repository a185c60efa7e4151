"""What runs a model file on this host: a table of formats, and opening by it. Measures nothing."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converters.browser.session import machine as web_machine
from converters.browser.session import missing as web_missing
from converters.browser.tensors import FORMATS as WEB_FORMATS
from converters.step import MODEL_FILES
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError
from edge_runtime.contract.task import TaskSpec
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.hardware import read_cpu
from edge_runtime.engines.registry import ENGINES, FORMATS, load_engine
from edge_runtime.tasks.base import Task
from edge_runtime.tasks.make import make_any_task

NOT_VERIFIED = "not verified here"
"""How a line says that nothing on this host could measure it."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What stands in for an engine that this host cannot have.

    Args:
        engine: The name that receipts bear.
        opener: `module:name` of what makes a `Session` of the path of a model.
        needs: What must be importable for it.
    """

    engine: str
    opener: str
    needs: str


STANDS: Mapping[str, tuple[Stand, ...]] = MappingProxyType(
    {
        "coreml": (Stand("mil-evaluator", "converters.verify.mil:MilSession", "coremltools"),),
        "aimodel": (Stand("coreai-runtime", "converters.verify.coreai:CoreAiSession", "coreai"),),
    }
)
"""By format. Their numbers count, their speed does not: they have no latency and no memory."""


BROWSERS: Mapping[str, str] = MappingProxyType(
    {
        "litertjs": "converters.browser.session:open_litert",
        "onnxruntime-web": "converters.browser.session:open_onnx",
    }
)
"""By engine: what makes a `Session` of the path of a model. They start Chromium: only by name."""


@dataclass(frozen=True, slots=True)
class Runner:
    """One way to run a format here.

    Args:
        engine: As receipts name it.
        opener: Of a `Stand` or of `BROWSERS`; None: an engine of the registry.
    """

    engine: str
    opener: str | None = None

    @property
    def in_browser(self) -> bool:
        """Whether it runs in a page, whose own clock counts."""
        return self.engine in BROWSERS

    @property
    def timed(self) -> bool:
        """Whether its time and memory are those of an engine that devices have."""
        return self.opener is None or self.in_browser

    @property
    def machine(self) -> str:
        """What receipts name as the machine."""
        return web_machine() if self.in_browser else read_cpu().name

    def takes(self, format_: str) -> bool:
        """Tell whether the engine opens a format."""
        return format_ in (WEB_FORMATS if self.in_browser else FORMATS).get(self.engine, ())

    def open(self, model: Path, options: EngineOptions) -> Session:
        """Open a model file or folder.

        Raises:
            EdgeRuntimeError: As `Engine.open`.
        """
        if self.opener is None:
            return load_engine(self.engine).open(model, options=options)
        module, _, name = self.opener.partition(":")
        session: Session = getattr(importlib.import_module(module), name)(model)
        return session


@dataclass(frozen=True, slots=True)
class Subject:
    """An opened model with its task: raw input in, real outputs and an answer out, as on a device.

    Args:
        session: The model.
        task: The device's own pre- and postprocessing.
        spec: What the task follows.
        runner: What runs it.
        model: Its file or folder.
    """

    session: Session
    task: Task[Any, Any]
    spec: TaskSpec
    runner: Runner
    model: Path


def runners(format_: str, engines: Sequence[str] = ()) -> tuple[tuple[Runner, ...], tuple[str, ...]]:
    """Find what runs a format on this host.

    Args:
        format_: A value of `Format`.
        engines: Only these engines, of the registry or of browsers; empty: all of the registry. What stands
            in for an engine counts as it.

    Returns:
        The runners, best first, and for each engine that cannot run here one line why.
    """
    found: list[Runner] = []
    absent: list[str] = []
    for name in ENGINES:
        if format_ not in FORMATS[name] or (engines and name not in engines):
            continue
        reason = load_engine(name).available()
        if reason is None:
            found.append(Runner(name))
        else:
            absent.append(f"{name}: {reason}")
    for name, opener in BROWSERS.items():
        if name in engines and format_ in WEB_FORMATS[name]:
            reason = web_missing(name)
            if reason is None:
                found.append(Runner(name, opener))
            else:
                absent.append(f"{name}: {reason}")
    if not found:
        found.extend(_stands(format_))
    return tuple(found), tuple(absent)


def open_subject(
    runner: Runner,
    folder: Path,
    format_: str,
    spec: TaskSpec,
    tokenizer: Path | None = None,
    *,
    min_score: float | None = None,
) -> Subject:
    """Open the model that a step left in its folder, with one thread, bound to its task.

    Args:
        runner: One of `runners`.
        folder: Of the step that made it.
        format_: A value of `Format`.
        spec: The task as this model has it.
        tokenizer: `tokenizer.json` of a text model.
        min_score: Answers below are left out; None: as declared.

    Raises:
        ConversionError: The step left no such model.
        EdgeRuntimeError: It does not open, or does not belong to the task.
    """
    model = folder / MODEL_FILES[format_]
    if not model.exists():
        raise ConversionError(f"{folder} has no {model.name}", do="Run the step that makes it again")
    session = runner.open(model, EngineOptions())
    try:
        task = make_any_task(spec, session.inputs, session.outputs, tokenizer, min_score=min_score)
    except EdgeRuntimeError:
        session.close()
        raise
    return Subject(session, task, spec, runner, model)


def _stands(format_: str) -> Iterator[Runner]:
    for stand in STANDS.get(format_, ()):
        if find_spec(stand.needs) is not None:
            yield Runner(stand.engine, stand.opener)
