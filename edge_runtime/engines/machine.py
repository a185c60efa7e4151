"""The DeviceProfile of the machine this runs on.

Puts together what `hardware` reads and `probe` tries out; chooses no variant (`select` does).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

from edge_runtime.contract.device import DeviceProfile, EngineSupport, Fact
from edge_runtime.contract.errors import StorageError
from edge_runtime.engines.hardware import read_accelerators, read_cpu, read_memory_bytes
from edge_runtime.engines.probe import probe
from edge_runtime.engines.registry import FORMATS
from edge_runtime.engines.select import DEFAULT_PRECISIONS

BUDGET = 0.5
"""Share of the memory that the runtime and its models may take; a choice of this project."""

TARGET_LATENCY_MS = 100.0
"""Ten pictures a second, enough to follow a walking person; a choice of this project."""


def detect_profile(*, try_engines: bool = True) -> DeviceProfile:
    """Describe this machine.

    Args:
        try_engines: Try every engine and provider in processes of their own, which takes seconds. Without,
            the profile names no engine, and a ranking goes by the default order.

    Returns:
        A profile named after the processor.

    Raises:
        EngineError: The machine's architecture is none this runtime knows.
    """
    cpu = read_cpu()
    memory = read_memory_bytes()
    found = probe() if try_engines else {}
    return DeviceProfile(
        name=_slug(f"{cpu.name}-{cpu.threads}t"),
        title=f"This machine: {cpu.name}",
        cpu=cpu,
        memory_bytes=memory,
        memory_budget_bytes=int(memory * BUDGET),
        accelerators=read_accelerators(),
        engines=_support(found),
        target_latency_ms=TARGET_LATENCY_MS,
        facts=_facts(found),
    )


def write_profile(profile: DeviceProfile, path: Path) -> None:
    """Write a profile as YAML that `load_profile` reads.

    Raises:
        StorageError: The file cannot be written.
    """
    yaml = YAML()
    yaml.width = 110
    try:
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(profile.model_dump(mode="json", exclude_none=True), file)
    except OSError as error:
        raise StorageError(
            f"cannot write the profile to {path}: {error}", do="Name a folder that exists and is writable"
        ) from error


def _slug(text: str) -> str:
    """Make a name of the contract's pattern: lower case, at most 64 characters."""
    words = re.sub(r"\((r|tm)\)", "", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", words)[-64:].strip("-")


def _support(found: Mapping[str, tuple[str, ...] | str]) -> tuple[EngineSupport, ...]:
    return tuple(
        EngineSupport(
            engine=engine, formats=FORMATS[engine], precisions=DEFAULT_PRECISIONS, providers=providers
        )
        for engine, providers in found.items()
        if not isinstance(providers, str)
    )


def _facts(found: Mapping[str, tuple[str, ...] | str]) -> tuple[Fact, ...]:
    return (
        Fact(says="processor, memory, accelerators", source="the operating system of this machine"),
        Fact(
            says=f"memory budget: {BUDGET:.0%} of the memory; target latency: {TARGET_LATENCY_MS:g} ms",
            source="choice of this project",
        ),
        *(
            Fact(
                says=f"{engine}: {found_here if isinstance(found_here, str) else ', '.join(found_here)}",
                source="tried on this machine with a model of one operation",
            )
            for engine, found_here in found.items()
        ),
    )
