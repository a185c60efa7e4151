"""What `store.yaml` may say: the settings of one store's agent, each field described for the editor.

Holds and validates values. Reads no file (`edge_runtime.settings.load` does) and opens no camera or model.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from edge_runtime.bundle import shipped_bundle
from edge_runtime.contract.bundle import Name
from edge_runtime.contract.device import Tuned
from edge_runtime.contract.task import TaskSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.settings.base import Fraction, Labels, OwnPath, Settings, beside_the_file, refuse
from edge_runtime.settings.camera import CameraSettings
from edge_runtime.settings.counts import CountsSettings
from edge_runtime.settings.fleet import BundleSettings, FleetSettings
from edge_runtime.settings.page import PageSettings
from edge_runtime.settings.privacy import PrivacySettings
from edge_runtime.settings.requests import CloudSettings, DoorSettings, OutboxSettings, RouteSettings
from edge_runtime.settings.resilience import DegradeSettings
from edge_runtime.settings.sinks import SinkSettings


def _profile(profile: str, info: ValidationInfo) -> str:
    if profile.endswith((".yaml", ".yml")):
        return str(beside_the_file(Path(profile), info))
    return profile


def _bundle(bundle: Path, info: ValidationInfo) -> Path:
    return shipped_bundle(str(bundle)) or beside_the_file(bundle, info)


class EngineSettings(Settings):
    """Which engine runs a model, and how. Without it the ranking for this device decides."""

    name: str | None = Field(
        default=None, description="onnxruntime, litert, openvino or coreml; absent: the best one installed"
    )
    threads: int = Field(default=1, ge=1, le=256, description="threads one inference may use")
    providers: tuple[str, ...] = Field(
        default=(), description="execution providers or delegates, best first, e.g. CUDAExecutionProvider"
    )
    allow_fallback: bool = Field(
        default=False, description="use the CPU when none of the providers runs, instead of refusing to start"
    )

    def options(self, tuned: Tuned | None, *, callers: int = 1) -> EngineOptions:
        """Say how a model is opened.

        Args:
            tuned: How it runs best here; its threads count where the settings say none. None: not measured.
            callers: Threads that will use it at the same time.
        """
        said = tuned is None or "threads" in self.model_fields_set
        return EngineOptions(
            threads=self.threads if said or tuned is None else tuned.threads,
            providers=self.providers,
            allow_fallback=self.allow_fallback,
            callers=callers,
        )


class ModelSettings(Settings):
    """A model that cameras and requests can use: a bundle, or a bare file with its task."""

    bundle: Annotated[Path, AfterValidator(_bundle)] | None = Field(
        default=None,
        description="a shipped bundle's name (efficientdet-lite0), or the path of a bundle folder",
    )
    file: OwnPath | None = Field(
        default=None, description="a bare model file (.onnx, .tflite, .xml); needs `task`"
    )
    task: TaskSpec | None = Field(
        default=None,
        description="what the bare file does: written here, or the path of a YAML file that says it",
    )
    min_score: Fraction | None = Field(
        default=None, description="detections below this are dropped; absent: as the model's task says"
    )
    labels: Labels = Field(default=(), description="keep only these classes; empty: all the model knows")
    engine: EngineSettings = EngineSettings()
    route: RouteSettings = Field(
        default=RouteSettings(), description="who answers a request to this model: the device, or the cloud"
    )

    @property
    def here(self) -> bool:
        """Whether the device has the model at all."""
        return self.bundle is not None or self.file is not None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.route.policy == "cloud_only" and not self.here and self.task is None:
            return self
        if (self.bundle is None) == (self.file is None):
            raise refuse(
                "neither `bundle` nor `file`" if self.bundle is None else "both `bundle` and `file`",
                "exactly one of them",
                "Name a bundle, or a model file with its task.",
            )
        if (self.task is None) != (self.file is None):
            raise refuse(
                "`task` is missing" if self.task is None else "`task` beside a bundle, which has its own",
                "`task` with `file`, and only there",
                "A bare model file needs a task; a bundle brings one.",
            )
        return self


class AgentSettings(Settings):
    """The cameras, models and sinks of one store, and its door for requests."""

    version: Literal[1] = Field(description="of this file's format")
    site: Name = Field(description="this store's name; part of every event and topic")
    state_dir: OwnPath = Field(
        default=Path("state"), validate_default=True, description="what must survive a restart"
    )
    profile: Annotated[str, Field(min_length=1), AfterValidator(_profile)] = Field(
        default="auto",
        description="a device profile's name, the path of one (.yaml), or auto: look at this machine",
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        default="auto", description="inferences at the same time; auto: one a core"
    )
    models: dict[Name, ModelSettings] = Field(
        min_length=1, description="by the name that cameras and requests use"
    )
    cameras: dict[Name, CameraSettings] = Field(
        default_factory=dict[Name, CameraSettings], description="by name; none needed where there is a `door`"
    )
    sinks: tuple[SinkSettings, ...] = Field(default=(), description="where events and pictures go")
    privacy: PrivacySettings = Field(default=PrivacySettings(), description="what nobody may see in pictures")
    counts: CountsSettings | None = Field(
        default=None,
        description="what is counted by the hour and the day, and kept; `{}` is enough; absent: nothing",
    )
    degrade: DegradeSettings | None = Field(
        default=DegradeSettings(),
        description="when the machine gives up frames, before it breaks; null: it never does",
    )
    page: PageSettings | None = Field(
        default=None,
        description="a page in the browser: live pictures, events, an editor of zones; `{}` is enough",
    )
    door: DoorSettings | None = Field(
        default=None, description="where applications on this device send requests; absent: nowhere"
    )
    cloud: CloudSettings | None = Field(
        default=None, description="who is asked where the device cannot answer well; absent: nobody"
    )
    outbox: OutboxSettings = Field(
        default=OutboxSettings(), description="what is owed to the cloud while it is away"
    )
    memory_budget_mb: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="MB that models for requests may take together; absent: as the device profile says",
    )
    fleet: FleetSettings | None = Field(
        default=None, description="the fleet that updates this device; absent: nobody does"
    )
    bundles: BundleSettings = Field(
        default=BundleSettings(), description="whose bundles this device runs; absent: whatever it is given"
    )
