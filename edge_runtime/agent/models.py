"""Models as the settings want them for cameras: bundle, engine, options. Runs none of them."""

from typing import cast

from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import DetectionSpec
from edge_runtime.local_model import LocalModel, open_model, variant_of
from edge_runtime.settings import ModelSettings
from edge_runtime.video.plan import Detector


def open_settings_model(
    model: ModelSettings,
    bundle: ModelBundle,
    profile: DeviceProfile,
    *,
    min_score: float | None = None,
    callers: int = 1,
) -> LocalModel:
    """Open a model as settings want it.

    Args:
        model: The settings.
        bundle: What `Bundles.open` gave for them.
        profile: This device.
        min_score: Answers below are left out; None: as the settings, or else the task, say.
        callers: Threads that will use it at the same time.

    Raises:
        EdgeRuntimeError: As `open_model`.
    """
    manifest, score = bundle.manifest, model.min_score if min_score is None else min_score
    options = model.engine.options(profile.tuned_for(manifest.name, manifest.version), callers=callers)
    return open_model(bundle, profile, options, engine=model.engine.name, min_score=score, keep=model.labels)


def input_px(model: LocalModel) -> int | None:
    """Give the longer side of the picture that a model sees; None where neither file nor task says."""
    shape = model.session.inputs[0].shape
    task = model.bundle.manifest.task_of(variant_of(model.bundle, model.choice))
    declared = task.input.size if isinstance(task, DetectionSpec) else None
    known = [*(declared or ()), *(axis for axis in shape[1:] if axis is not None)]
    return max(known) if len(shape) == 4 and known else None


def detector_of(model: LocalModel, name: str) -> Detector:
    """See an opened model as the detector that cameras need.

    Raises:
        ConfigError: Its task is another one.
    """
    task = model.bundle.manifest.task
    if not isinstance(task, DetectionSpec):
        raise ConfigError(f"model '{name}'", expected="a detector for a camera", got=f"a {task.kind} model")
    return cast("Detector", model.predictor)
