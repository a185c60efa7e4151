"""Slots: the versions of a repository and where each stands, and what to say of one that cannot answer.

Loads and unloads nothing.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeAlias

from cloud_fallback.serving.repository import Found
from cloud_fallback.serving.served import ServedVersion
from cloud_fallback.serving.writing import ServedGenerator
from edge_runtime.contract.errors import OverloadedError, UnknownModelError
from edge_runtime.local_model import variant_of
from edge_runtime.protocol.backend import ModelDescription

Served: TypeAlias = ServedVersion | ServedGenerator

READY = "READY"
LOADING = "LOADING"
UNLOADING = "UNLOADING"
UNAVAILABLE = "UNAVAILABLE"

LOADING_RETRY_S = 1.0
"""Small models are there by then."""
REFUSED_RETRY_S = 30.0
"""What could not be loaded needs somebody who corrects it."""


@dataclass(slots=True)
class Slot:
    """A version in the repository, and where it stands.

    Args:
        found: What lies in the repository now.
        state: As v2's repository index has it.
        reason: Why it is not ready.
        served: What answers.
        digest: Of what is served.
        wanted: Whether it should be ready.
        turn: Who loads or unloads it.
    """

    found: Found
    state: str = UNAVAILABLE
    reason: str = "not loaded"
    served: Served | None = None
    digest: str = ""
    wanted: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _described: ModelDescription | None = None

    def memory_bytes(self) -> int | None:
        """Give the memory that it takes at its peak, as far as is known; None: it is not loaded."""
        if self.served is None:
            return None
        opened = self.served.opened
        return opened.bundle.manifest.peak_bytes(opened.choice.variant, opened.choice.engine)

    def describe(self, model: str, versions: tuple[str, ...], served: Served) -> ModelDescription:
        """Describe what answers; asked with every request, and so made once.

        Args:
            model: As it is asked for.
            versions: All that are ready.
            served: What answers here.
        """
        known, opened = self._described, served.opened
        if known is not None and known.versions == versions and known.inputs is opened.session.inputs:
            return known
        manifest, variant = opened.bundle.manifest, variant_of(opened.bundle, opened.choice)
        self._described = ModelDescription(
            name=model,
            versions=versions,
            version=manifest.version,
            platform=f"{variant.format}_{opened.choice.engine}",
            kind=manifest.task.kind,
            inputs=opened.session.inputs,
            outputs=opened.session.outputs,
        )
        return self._described

    def want(self) -> None:
        """Say that it shall be ready, before anything is opened."""
        self.wanted = True
        if self.served is None:
            self.state, self.reason = LOADING, "being loaded"


def unknown_model(model: str, known: Iterable[str]) -> UnknownModelError:
    """Say that a repository has no such model.

    Args:
        model: Asked for.
        known: Those that it has.
    """
    names = list(known)
    near = get_close_matches(model, names, n=1)
    return UnknownModelError(
        f"model '{model}'",
        expected=f"one of {', '.join(names) or 'none: the repository is empty'}",
        got=model,
        do=f"Did you mean '{near[0]}'?" if near else None,
    )


def unknown_version(model: str, version: str | None, slots: Mapping[str, Slot]) -> UnknownModelError:
    """Say that a version is not there, or that nobody wants it to be ready.

    Args:
        model: Asked for.
        version: Asked for; None: any.
        slots: Of the model.
    """
    return UnknownModelError(
        _named(model, version),
        expected="a version that is ready",
        got=_standing(slots),
        do="Load it first, or ask for one that is ready",
    )


def not_ready(
    model: str, version: str | None, slots: Mapping[str, Slot]
) -> OverloadedError | UnknownModelError:
    """Say why nothing answers: it will soon, or it was never to.

    Args:
        model: Asked for.
        version: Asked for; None: any.
        slots: Of the model.
    """
    asked = list(slots.values()) if version is None else [slots[version]] if version in slots else []
    wanted = [slot for slot in asked if slot.wanted]
    if not wanted:
        return unknown_version(model, version, slots)
    loading = any(slot.state == LOADING for slot in wanted)
    return OverloadedError(
        f"{_named(model, version)} is {'being loaded' if loading else 'not ready'}",
        retry_after_s=LOADING_RETRY_S if loading else REFUSED_RETRY_S,
        got=_standing(slots),
    )


def _named(model: str, version: str | None) -> str:
    return f"model '{model}'" + (f" version '{version}'" if version else "")


def _standing(slots: Mapping[str, Slot]) -> str:
    return ", ".join(f"{version} ({slot.state.lower()})" for version, slot in slots.items())
