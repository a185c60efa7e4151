"""CameraModels: the models that cameras look with; opened at the start, and again for another version.

Swaps nothing: `edge_runtime.agent.adoption` does.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from edge_runtime.agent.caution import Caution
from edge_runtime.agent.models import detector_of, open_settings_model
from edge_runtime.agent.plans import LOW_SCORE, models_of
from edge_runtime.analytics.identities import Identities, IdentityOptions
from edge_runtime.analytics.looks import LookOptions
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import BundleError, ConfigError, EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import ClassificationSpec, DetectionSpec, ImageEmbeddingSpec, TaskSpec
from edge_runtime.local_model import LocalModel
from edge_runtime.predict import Predictor, measure_batches
from edge_runtime.runtime.bundles import Bundles
from edge_runtime.settings import AgentSettings, CameraSettings, LookSettings, check_labels
from edge_runtime.video.second_stage import Answer, StagePlan, Who

log = logging.getLogger(__name__)


@dataclass(slots=True)
class CameraModels:
    """What is open for cameras.

    Args:
        profile: This device.
        bundles: Opens what settings name.
        workers: Threads that use a model at the same time.
        opened: By the name that the settings give.
        tasks: Of each whose bundle is sound.
        problems: Of those that did not open.
    """

    profile: DeviceProfile
    bundles: Bundles
    workers: int
    opened: dict[str, LocalModel] = field(default_factory=dict[str, LocalModel])
    tasks: dict[str, TaskSpec] = field(default_factory=dict[str, TaskSpec])
    problems: dict[str, BundleError | EngineError] = field(
        default_factory=dict[str, BundleError | EngineError]
    )

    _who: dict[tuple[str, float], Who] = field(default_factory=dict[tuple[str, float], Who])

    def open_all(self, settings: AgentSettings, caution: Caution) -> None:
        """Open every model; those that fail cost only the cameras that use them.

        Args:
            settings: The store's.
            caution: Knows which are left out.

        Raises:
            EdgeRuntimeError: Not one opens, and there is no door; or a label is none of its model's.
        """
        bundles: dict[str, ModelBundle] = {}
        # Where there is a door, models that no camera uses are the runtime's, within its memory budget.
        watched = {model for camera in settings.cameras.values() for model in models_of(camera)}
        watched.add(settings.privacy.faces or "")
        for name, wanted in settings.models.items():
            if not wanted.here or (settings.door is not None and name not in watched):
                continue
            if why := caution.why_not("model", name):
                self._fail(name, EngineError(why))
                continue
            try:
                bundles[name] = self.bundles.open(wanted)
            except BundleError as error:
                self._fail(name, error)
        self.tasks = {name: bundle.manifest.task for name, bundle in bundles.items()}
        check_labels(settings, self.tasks)
        for name, bundle in bundles.items():
            try:
                with caution.model(name):
                    self.opened[name] = self.open(name, settings, bundle)
            except (BundleError, EngineError) as error:
                self._fail(name, error)
        if self.problems and not self.opened and settings.door is None and not caution.verdict.safe:
            raise next(iter(self.problems.values()))

    def open(self, name: str, settings: AgentSettings, bundle: ModelBundle) -> LocalModel:
        """Open one bundle for the cameras of a model, warm.

        Raises:
            EdgeRuntimeError: It does not open or run.
        """
        low = LOW_SCORE if isinstance(bundle.manifest.task, DetectionSpec) else None
        model = open_settings_model(
            settings.models[name], bundle, self.profile, min_score=low, callers=self.workers
        )
        try:
            model.predictor.warm_up()
            if sum(camera.model == name for camera in settings.cameras.values()) > 1:
                model.predictor.batch = measure_batches(model.predictor)
        except Exception:
            model.predictor.close()
            raise
        log.info("model '%s': %s on %s", name, model.choice.variant, model.session.provider)
        return model

    def detect(self, name: str | None, picture: Picture) -> Detections:
        """Find objects in a picture with a model that is open.

        Raises:
            EngineError: It is not open, or failed.
        """
        model = None if name is None else self.opened.get(name)
        if name is None or model is None:
            raise EngineError(f"model '{name}'", expected="a model that is open", got="none")
        return detector_of(model, name).predict_many([picture])[0]

    def stages(self, camera: CameraSettings) -> tuple[StagePlan, ...]:
        """Plan the models that look at what a camera's model finds.

        Raises:
            ConfigError: One of them is for no pictures, or a detector.
        """
        return tuple(self._stage(name, look) for name, look in camera.then.items())

    def _stage(self, name: str, look: LookSettings) -> StagePlan:
        task = self.tasks.get(look.model)
        if task is not None and not isinstance(task, ClassificationSpec | ImageEmbeddingSpec):
            raise ConfigError(
                f"`then.{name}`: model '{look.model}'",
                expected="a classification or image-embedding model",
                got=f"a {task.kind} model",
            )
        options = LookOptions(
            labels=look.labels,
            per_s=look.per_s,
            every_s=look.every_s,
            min_px=look.min_px,
            min_score=look.min_score,
        )
        who = None
        if isinstance(task, ImageEmbeddingSpec):
            # One for all cameras: that is what re-identification is.
            key = look.model, look.similarity
            who = self._who.setdefault(key, Who(Identities(IdentityOptions(look.similarity))))
        return StagePlan(name, partial(self.look, look.model), options, who)

    def look(self, name: str, pictures: Sequence[Picture]) -> Sequence[Answer]:
        """Have a model that is open answer pictures.

        Raises:
            EngineError: It is not open, or failed.
        """
        model = self.opened.get(name)
        if model is None:
            raise EngineError(f"model '{name}'", expected="a model that is open", got="none")
        return cast("Predictor[Answer]", model.predictor).predict_many(pictures)

    def put(self, name: str, model: LocalModel) -> None:
        """Have another version of a model from now on."""
        self.opened[name] = model
        self.tasks[name] = model.bundle.manifest.task
        self.problems.pop(name, None)

    def close(self) -> None:
        """Give all memory back."""
        for model in self.opened.values():
            model.predictor.close()

    def _fail(self, name: str, error: BundleError | EngineError) -> None:
        log.error("model '%s': %s", name, error)
        self.problems[name] = error
