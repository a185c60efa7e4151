"""Latency and peak memory of a variant, in turns with its fp32 twin in the same engine. Judges nothing."""

from dataclasses import dataclass
from typing import Any

from converters.browser.session import PageRunner
from converters.browser.session import peak_memory as page_memory
from converters.verify.runners import Subject
from edge_runtime.contract.bundle import Latency
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.measure import Runner, measure_in_turns, peak_memory


@dataclass(frozen=True, slots=True)
class Cost:
    """What one variant costs on this machine.

    Args:
        latency: One thread; with `times_fp32` where there was a twin.
        peak_memory_bytes: What it added to a fresh process; None where that is not known.
    """

    latency: Latency
    peak_memory_bytes: int | None


def measure(variant: Subject, fp32: Subject | None, raw: Any, seconds: float) -> Cost:
    """Measure a variant with one real input.

    Args:
        variant: Runs in a real engine (`Runner.timed`).
        fp32: The model's fp32 variant in the same engine; None: there is none, or this is it.
        raw: What the task takes.
        seconds: How long each of the two is measured, about.

    Raises:
        EdgeRuntimeError: A model failed.
    """
    kind = PageRunner if variant.runner.in_browser else Runner
    runner = kind(variant.session, _tensors(variant, raw))
    twin = None if fp32 is None else kind(fp32.session, _tensors(fp32, raw))
    both = [runner] if twin is None else [runner, twin]
    for one in both:
        one.warm_up()
    measure_in_turns(both, seconds)
    if variant.runner.in_browser:
        memory = page_memory(variant.session)
    else:
        memory = peak_memory(variant.runner.engine, variant.model, EngineOptions(), runner.tensors)
    return Cost(runner.latency(1, twin), memory)


def _tensors(subject: Subject, raw: Any) -> Tensors:
    """The input, copied: the task's own buffers are valid until its next call only."""
    tensors, _ = subject.task.preprocess(raw)
    return {name: array[:1].copy() for name, array in tensors.items()}
