"""Tuning: which of several measured ways to run a model is the best on this machine. Pure.

More inferences a second win; of ways that are about as fast, the one that costs less processor time does,
since cameras have to be decoded besides. Measures nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_runtime.contract.device import Tuned
from edge_runtime.contract.errors import InputError
from edge_runtime.engines.select import Choice

ALIKE = 0.95
"""Ways within 5 % of the fastest are as fast: the next measurement may order them otherwise."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a model, measured.

    Args:
        choice: Variant, engine and provider.
        threads: Of one inference.
        workers: Inferences at the same time.
        per_second: Inferences a second, all workers together.
        cpu_ms: Processor time of an inference.
    """

    choice: Choice
    threads: int
    workers: int
    per_second: float
    cpu_ms: float


def splits(cores: int) -> tuple[tuple[int, int], ...]:
    """Give the ways to share cores out: (threads of an inference, inferences at the same time).

    Args:
        cores: That inferences may use, at least 1.
    """
    threads = [1 << power for power in range(cores.bit_length()) if 1 << power <= cores]
    if threads[-1] != cores:
        threads.append(cores)
    return tuple((each, max(1, cores // each)) for each in threads)


def best(ways: Sequence[Way]) -> Way:
    """Choose a way.

    Raises:
        InputError: There is none.
    """
    if not ways:
        raise InputError("ways to run a model", expected="at least one that was measured", got="none")
    fastest = max(way.per_second for way in ways)
    alike = [way for way in ways if way.per_second >= ALIKE * fastest]
    return min(alike, key=lambda way: (way.cpu_ms, way.threads))


def tuned_first(choices: Sequence[Choice], tuned: Tuned | None) -> tuple[Choice, ...]:
    """Put what was measured on this machine before all else, if it can still be used.

    Args:
        choices: As `select.rank` orders them.
        tuned: Of this very version of the bundle; None: not measured.
    """
    if tuned is None:
        return tuple(choices)
    wanted = tuned.variant, tuned.engine, tuned.provider
    why = (
        f"measured here on {tuned.measured[:10]}: {tuned.per_second:.0f} a second, {tuned.cpu_ms:.1f} ms each"
    )
    first = [
        replace(choice, why=why)
        for choice in choices
        if choice.usable and (choice.variant, choice.engine, choice.provider) == wanted
    ]
    rest = [choice for choice in choices if (choice.variant, choice.engine, choice.provider) != wanted]
    return (*first, *rest) if first else tuple(choices)
