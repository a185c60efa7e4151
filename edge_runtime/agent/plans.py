"""Camera settings to camera plans, and to what picture sinks draw. Opens nothing."""

from edge_runtime.agent.models import detector_of, input_px
from edge_runtime.analytics.rules import Line, RuleContext, Zone
from edge_runtime.analytics.tracker import TrackerOptions
from edge_runtime.contract.device import Decoding
from edge_runtime.contract.task import DetectionSpec, TaskSpec
from edge_runtime.local_model import LocalModel
from edge_runtime.settings import AgentSettings, CameraSettings, ModelSettings
from edge_runtime.sinks.drawing import Overlay
from edge_runtime.video.health import HealthOptions
from edge_runtime.video.motion import MotionOptions
from edge_runtime.video.plan import CameraPlan
from edge_runtime.video.second_stage import StagePlan
from edge_runtime.video.source import SourceSpec
from edge_runtime.video.tape import StreamTape

LOW_SCORE = 0.1
"""Detections down to here help the tracker to hold on to what it has; they start no track."""


def is_live(name: str, camera: CameraSettings) -> bool:
    """Tell whether a camera's newest frame wins."""
    return camera.realtime or SourceSpec(name, camera.source).live


def decoding_of(camera: CameraSettings, profile: Decoding) -> Decoding:
    """Give the profile's decoder options, with what the camera wants otherwise."""
    return profile if camera.frames is None else profile.model_copy(update={"frames": camera.frames})


def shown_score(model: ModelSettings, task: TaskSpec) -> float:
    """Give the score from which a detection is believed."""
    declared = task.min_score if isinstance(task, DetectionSpec) else LOW_SCORE
    return declared if model.min_score is None else model.min_score


def models_of(camera: CameraSettings) -> tuple[str, ...]:
    """Give the names of all models that a camera uses, its detector first."""
    return (camera.model, *(look.model for look in camera.then.values()))


def camera_plan(
    settings: AgentSettings,
    name: str,
    model: LocalModel,
    decoding: Decoding,
    epoch: str,
    *,
    then: tuple[StagePlan, ...] = (),
    tape: StreamTape | None = None,
) -> CameraPlan:
    """Plan one camera.

    Args:
        settings: The store's.
        name: The camera.
        model: The opened model that the camera names.
        decoding: Decoder options of the device profile.
        epoch: Names this run, so that a live camera's events never share an id with an earlier run's.
        then: Models that look at what it finds.
        tape: Keeps its packets for clips; None: nobody asks for clips.

    Raises:
        ConfigError: The model is no detector.
    """
    camera = settings.cameras[name]
    manifest = model.bundle.manifest
    live = is_live(name, camera)
    return CameraPlan(
        source=SourceSpec(
            name,
            camera.source,
            camera.transport,
            decoding=decoding_of(camera, decoding),
            model_px=input_px(model),
        ),
        detector=detector_of(model, camera.model),
        context=RuleContext(
            site=settings.site,
            camera=name,
            # A recording gives the same events whenever it is read; a live moment comes once.
            epoch=epoch if live else "recording",
            model=manifest.name,
            model_version=manifest.version,
        ),
        fps=camera.fps,
        realtime=camera.realtime,
        loop=camera.loop,
        deadline_s=camera.deadline_s if live else None,
        motion=MotionOptions(
            **camera.motion.model_dump(exclude={"masks"}), masks=(*camera.motion.masks, *camera.never_look)
        ),
        tracker=TrackerOptions(
            high_score=shown_score(settings.models[camera.model], manifest.task),
            low_score=LOW_SCORE,
            **camera.tracker.model_dump(),
        ),
        zones=tuple(Zone(zone, **area.model_dump(exclude={"queue"})) for zone, area in camera.zones.items()),
        lines=tuple(Line(line, **way.model_dump()) for line, way in camera.lines.items()),
        then=then,
        never_look=camera.never_look,
        isolate=camera.isolate,
        health=None if camera.health is None else HealthOptions(**camera.health.model_dump()),
        tape=tape,
    )


def overlay(camera: CameraSettings) -> Overlay:
    """Give what is drawn over a camera's pictures."""
    return Overlay(
        zones={name: zone.polygon for name, zone in camera.zones.items()},
        lines={name: (line.start, line.end) for name, line in camera.lines.items()},
    )
