"""CameraModels: the models that cameras look with; opened at the start, and again for another version.

Swaps nothing: `edge_runtime.agent.adoption` does.
"""

import logging
from dataclasses import dataclass, field

from edge_runtime.agent.models import detector_of, open_settings_model
from edge_runtime.agent.plans import LOW_SCORE
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.task import TaskSpec
from edge_runtime.local_model import LocalModel
from edge_runtime.predict import measure_batches
from edge_runtime.runtime.bundles import Bundles
from edge_runtime.settings import AgentSettings, check_labels

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

    def open_all(self, settings: AgentSettings) -> None:
        """Open every model; those that fail cost only the cameras that use them.

        Raises:
            EdgeRuntimeError: Not one opens, and there is no door; or a label is none of its model's.
        """
        bundles: dict[str, ModelBundle] = {}
        # Where there is a door, models that no camera uses are the runtime's, within its memory budget.
        watched = {camera.model for camera in settings.cameras.values()} | {settings.privacy.faces}
        for name, wanted in settings.models.items():
            if not wanted.here or (settings.door is not None and name not in watched):
                continue
            try:
                bundles[name] = self.bundles.open(wanted)
            except BundleError as error:
                self._fail(name, error)
        self.tasks = {name: bundle.manifest.task for name, bundle in bundles.items()}
        check_labels(settings, self.tasks)
        for name, bundle in bundles.items():
            try:
                self.opened[name] = self.open(name, settings, bundle)
            except (BundleError, EngineError) as error:
                self._fail(name, error)
        if self.problems and not self.opened and settings.door is None:
            raise next(iter(self.problems.values()))

    def open(self, name: str, settings: AgentSettings, bundle: ModelBundle) -> LocalModel:
        """Open one bundle for the cameras of a model, warm.

        Raises:
            EdgeRuntimeError: It does not open or run.
        """
        model = open_settings_model(
            settings.models[name], bundle, self.profile, min_score=LOW_SCORE, callers=self.workers
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
