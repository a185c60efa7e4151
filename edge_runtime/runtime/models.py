"""Models as settings want them for requests: bundle, variant and engine, if the memory for it is there.

Runs none of them but once, to warm up.
"""

import os
from dataclasses import dataclass
from typing import Any

from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.task import ClassificationSpec, DetectionSpec, GenerationSpec, TaskSpec
from edge_runtime.engines.base import Session
from edge_runtime.engines.select import Choice
from edge_runtime.local_model import (
    LocalModel,
    choices_here,
    nothing_runs,
    open_any_choice,
    variant_of,
)
from edge_runtime.predict import ValuePredictor
from edge_runtime.routing.local import Local, Opened, Predicts, not_here
from edge_runtime.runtime.bundles import Bundles
from edge_runtime.settings import AgentSettings, ModelSettings
from edge_runtime.tasks.make import make_task
from edge_runtime.tasks.sample_input import sample_input

_UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """What would be opened for requests.

    Args:
        bundle: The model.
        choices: What was considered, as if memory were no matter.
        choice: The best that fits; None: none does.
        needs_bytes: Its memory at the peak; of the smallest where none fits.
    """

    bundle: ModelBundle
    choices: tuple[Choice, ...]
    choice: Choice | None
    needs_bytes: int


def open_local(
    name: str,
    model: ModelSettings,
    profile: DeviceProfile,
    bundles: Bundles,
    *,
    left_bytes: int,
    workers: int,
) -> Local:
    """Open a model for requests, if it fits; one that does not is there all the same, and says why.

    Args:
        name: As the settings call it.
        model: What they say.
        profile: This device.
        bundles: Opens what they name.
        left_bytes: Memory that it may take.
        workers: Requests that run side by side.
    """
    try:
        plan = plan_local(model, bundles.open(model), profile, left_bytes)
        if plan.choice is None:
            return Local(name, None, needs_bytes=plan.needs_bytes, budget_bytes=left_bytes, workers=workers)
        opened = _open(plan, plan.choice, model, profile, workers)
    except EdgeRuntimeError as error:
        return not_here(name, error)
    return Local(name, opened, needs_bytes=opened.peak_bytes, budget_bytes=left_bytes, workers=workers)


def plan_local(
    model: ModelSettings, bundle: ModelBundle, profile: DeviceProfile, left_bytes: int
) -> LocalPlan:
    """Choose what would be opened, without opening it.

    Args:
        model: What the settings say.
        bundle: What `Bundles.open` gave for them.
        profile: This device.
        left_bytes: Memory that it may take.

    Raises:
        ConfigError: No engine has the name that the settings give.
        EngineError: Nothing here runs any variant, however much memory there were.
    """
    roomy = choices_here(bundle, _with_budget(profile, _UNBOUNDED), model.engine.name)
    if not roomy[0].usable:
        raise nothing_runs(bundle, roomy)
    fitting = [
        choice
        for choice in choices_here(bundle, _with_budget(profile, left_bytes), model.engine.name)
        if choice.usable and needs_bytes(bundle, choice) <= left_bytes
    ]
    if fitting:
        return LocalPlan(bundle, roomy, fitting[0], needs_bytes(bundle, fitting[0]))
    least = min(needs_bytes(bundle, choice) for choice in roomy if choice.usable)
    return LocalPlan(bundle, roomy, None, least)


def share_local(name: str, model: ModelSettings, camera: LocalModel, workers: int) -> Local:
    """Use a model for requests that is open for cameras already, with the settings' own `min_score`.

    Args:
        name: As the settings call it.
        model: What they say.
        camera: The opened model; it stays its owner's to close.
        workers: Requests that run side by side.
    """
    bundle, choice, session = camera.bundle, camera.choice, camera.session
    spec = bundle.manifest.task_of(variant_of(bundle, choice))
    task = make_task(spec, session.inputs, session.outputs, min_score=model.min_score, keep=model.labels)
    predictor = _Borrowed(ValuePredictor(task, session, sample_input(spec, session.inputs)))
    opened = _described(bundle, choice, spec, predictor, session)
    return Local(name, opened, needs_bytes=0, budget_bytes=0, workers=workers)


def needs_bytes(bundle: ModelBundle, choice: Choice) -> int:
    """Give the memory that a variant needs at its peak; see `BundleManifest.peak_bytes`."""
    return bundle.manifest.peak_bytes(choice.variant, choice.engine)


@dataclass(frozen=True, slots=True)
class _Borrowed:
    """Somebody else's session: closing it is theirs."""

    predictor: ValuePredictor

    def predict(self, value: Any) -> Any:
        return self.predictor.predict(value)

    def warm_up(self) -> Any:
        return self.predictor.warm_up()

    def close(self) -> None:
        """Leave it open."""


def workers_of(settings: AgentSettings, profile: DeviceProfile) -> int:
    """Give the number of inferences at the same time: as said, as measured here, or one a core."""
    if settings.workers != "auto":
        return settings.workers
    said = any("threads" in model.engine.model_fields_set for model in settings.models.values())
    if profile.tuned and not said:
        return max(tuned.workers for tuned in profile.tuned)
    threads = max(model.engine.threads for model in settings.models.values())
    return max(1, (os.cpu_count() or 1) // threads)


def _open(
    plan: LocalPlan, choice: Choice, model: ModelSettings, profile: DeviceProfile, workers: int
) -> Opened:
    bundle, manifest = plan.bundle, plan.bundle.manifest
    options = model.engine.options(profile.tuned_for(manifest.name, manifest.version), callers=workers)
    found = open_any_choice(bundle, plan.choices, choice, options, min_score=model.min_score)
    predictor: Any = found.predictor
    try:
        if isinstance(found.spec, DetectionSpec | ClassificationSpec) and model.labels:
            keeping = make_task(
                found.spec,
                found.session.inputs,
                found.session.outputs,
                min_score=model.min_score,
                keep=model.labels,
            )
            sample = sample_input(found.spec, found.session.inputs)
            predictor = ValuePredictor(keeping, found.session, sample)
        predictor.warm_up()
    except EdgeRuntimeError:
        found.predictor.close()
        raise
    return _described(bundle, choice, found.spec, predictor, found.session)


def _described(
    bundle: ModelBundle, choice: Choice, spec: TaskSpec, predictor: Predicts, session: Session
) -> Opened:
    manifest = bundle.manifest
    latencies = [
        one.latency.p50_ms
        for one in manifest.receipts_of(choice.variant, choice.engine)
        if one.latency is not None
    ]
    return Opened(
        bundle=manifest.name,
        version=manifest.version,
        variant=choice.variant,
        kind=spec.kind,
        platform=f"{variant_of(bundle, choice).format.value}_{choice.engine}",
        predictor=predictor,
        session=session,
        peak_bytes=needs_bytes(bundle, choice),
        # A receipt's latency is of one run; how many runs a text takes, nobody knows before.
        receipt_ms=latencies[0] if latencies and not isinstance(spec, GenerationSpec) else None,
        source=bundle,
        engine=choice.engine,
    )


def _with_budget(profile: DeviceProfile, budget_bytes: int) -> DeviceProfile:
    return profile.model_copy(update={"memory_budget_bytes": max(1, budget_bytes)})
