"""What no single field can know: names that must exist, files that must, labels the models must have.

Opens nothing; looks only whether a model's file is there.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import TaskSpec, UnlabelledSpec
from edge_runtime.settings.document import Document
from edge_runtime.settings.entrances import wrong_entrances
from edge_runtime.settings.model import AgentSettings
from edge_runtime.settings.places import shared_places
from edge_runtime.settings.problems import Problem, did_you_mean
from edge_runtime.settings.recordings import ClipsSinkSettings, SnapshotsSinkSettings
from edge_runtime.settings.sinks import (
    JsonlSinkSettings,
    MqttSinkSettings,
    ReportSinkSettings,
    VideoSinkSettings,
)


def references(document: Document) -> Iterator[Problem]:
    """Find names that stand for nothing; works on raw data, so that other mistakes do not hide these."""
    models, cameras = _block(document.value(("models",))), _block(document.value(("cameras",)))
    for camera, settings in cameras.items():
        model = _block(settings).get("model")
        if isinstance(model, str) and model not in models:
            keys = ("cameras", camera, "model")
            yield Problem(keys, f"no model is called '{model}'", do=did_you_mean(model, models))
        for name, look in _block(_block(settings).get("then")).items():
            model = _block(look).get("model")
            if isinstance(model, str) and model not in models:
                keys = ("cameras", camera, "then", name, "model")
                yield Problem(keys, f"no model is called '{model}'", do=did_you_mean(model, models))
    sinks = document.value(("sinks",))
    for index, sink in enumerate(cast("list[object]", sinks) if isinstance(sinks, list) else []):
        wanted = _block(sink).get("cameras")
        for place, camera in enumerate(cast("list[object]", wanted) if isinstance(wanted, list) else []):
            if camera not in cameras:
                keys = ("sinks", index, "cameras", place)
                yield Problem(keys, f"no camera is called '{camera}'", do=did_you_mean(camera, cameras))


def files(settings: AgentSettings) -> Iterator[Problem]:
    """Find model files that are not there, and sinks that would write over each other or nothing at all."""
    for name, model in settings.models.items():
        if model.bundle is not None and not model.bundle.exists():
            problem = f"no shipped bundle is called '{model.bundle.name}', and there is no {model.bundle}"
            yield Problem(("models", name, "bundle"), problem, do="Name a shipped bundle or a bundle folder.")
        if model.file is not None and not model.file.exists():
            yield Problem(
                ("models", name, "file"), f"there is no {model.file}", do="Give the path of a model file."
            )
    for index, key in enumerate(settings.bundles.trusted):
        if not key.is_file():
            place = ("bundles", "trusted", index)
            yield Problem(place, f"there is no {key}", do="Give the path of a public key.")
    if settings.fleet is not None and not settings.fleet.folder.is_dir():
        problem = f"there is no {settings.fleet.folder}"
        yield Problem(("fleet", "folder"), problem, do="Enrol the device first: edge-runtime enrol.")
    taken: dict[Path, int] = {}
    for index, sink in enumerate(settings.sinks):
        if isinstance(sink, JsonlSinkSettings | ReportSinkSettings):
            first = taken.setdefault(sink.path, index)
            if first != index:
                problem = f"sinks[{first}] writes this file already"
                yield Problem(("sinks", index, "path"), problem, do="Give each sink its own file.")
        if isinstance(sink, MqttSinkSettings) and sink.late and None in (settings.door, settings.cloud):
            problem = "late answers come from a cloud to those who asked a door"
            yield Problem(("sinks", index, "late"), problem, do="Add `door` and `cloud`, or drop it.")
    if settings.counts is not None:
        yield from wrong_entrances(settings.counts, settings.cameras)
    yield from _shared_videos(settings)
    yield from shared_places(settings.sinks)
    yield from _shared_folders(settings)
    yield from _nobody_to_find(settings)


def _shared_videos(settings: AgentSettings) -> Iterator[Problem]:
    """Find video sinks that would write one camera's file twice."""
    taken: dict[Path, int] = {}
    for index, sink in enumerate(settings.sinks):
        if isinstance(sink, VideoSinkSettings):
            for camera in sink.cameras or settings.cameras:
                first = taken.setdefault(sink.folder / camera, index)
                if first != index:
                    problem = f"sinks[{first}] writes the video of '{camera}' into this folder already"
                    yield Problem(("sinks", index, "folder"), problem, do="Give each sink its own folder.")
                    break


def _shared_folders(settings: AgentSettings) -> Iterator[Problem]:
    """Find sinks that would count, and delete, each other's recordings."""
    taken: dict[Path, int] = {}
    for index, sink in enumerate(settings.sinks):
        if isinstance(sink, ClipsSinkSettings | SnapshotsSinkSettings):
            first = taken.setdefault(sink.folder, index)
            if first != index:
                problem = f"sinks[{first}] records into this folder already"
                yield Problem(("sinks", index, "folder"), problem, do="Give each sink its own folder.")


def blurs(settings: AgentSettings) -> frozenset[Blur]:
    """Give every way in which pictures of this store are blurred."""
    own = (getattr(shown, "blur", None) for shown in (*settings.sinks, settings.page))
    return frozenset({settings.privacy.blur, *(blur for blur in own if blur is not None)})


def _nobody_to_find(settings: AgentSettings) -> Iterator[Problem]:
    """Find pictures whose faces are to be hidden where no model finds faces."""
    faces, models = settings.privacy.faces, settings.models
    if faces is not None and faces not in models:
        keys = ("privacy", "faces")
        yield Problem(keys, f"no model is called '{faces}'", do=did_you_mean(faces, models))
    if faces is None and Blur.FACES in blurs(settings):
        do = "Name a detector of faces there, or blur heads or persons, which need no other model."
        yield Problem(("privacy", "faces"), "faces are to be blurred, and no model finds them", do=do)


def check_labels(settings: AgentSettings, tasks: Mapping[str, TaskSpec]) -> None:
    """Refuse labels that a model does not know, and zones or lines that could never count anything.

    Args:
        settings: The store's settings.
        tasks: The task of each model that opened, by the name that the settings give it.

    Raises:
        ConfigError: Names each place, one a line.
    """
    problems = list(_label_problems(settings, tasks))
    if problems:
        raise ConfigError("\n".join(problems))


def _label_problems(settings: AgentSettings, tasks: Mapping[str, TaskSpec]) -> Iterator[str]:
    for name, model in settings.models.items():
        if name not in tasks:
            continue
        for label in model.labels:
            if label not in _labels(tasks[name]):
                yield _unknown(f"models.{name}.labels", label, name, _labels(tasks[name]))
    for name, camera in settings.cameras.items():
        if camera.model not in tasks:
            continue
        known = settings.models[camera.model].labels or _labels(tasks[camera.model])
        people = settings.privacy.labels
        if blurs(settings) & {Blur.HEADS, Blur.PERSONS} and not set(people) & set(known):
            problem = f"people are to be blurred, and model '{camera.model}' gives no {' or '.join(people)}"
            yield f"cameras.{name}: {problem}. Look at `privacy.labels` and the model's `labels`."
        areas: dict[str, tuple[str, ...]] = {
            **{f"zones.{zone}": rule.labels for zone, rule in camera.zones.items()},
            **{f"lines.{line}": rule.labels for line, rule in camera.lines.items()},
            **{f"then.{name}": look.labels for name, look in camera.then.items()},
        }
        for area, labels in areas.items():
            for label in labels:
                if label not in known:
                    yield _unknown(f"cameras.{name}.{area}.labels", label, camera.model, known)


def _labels(task: TaskSpec) -> tuple[str, ...]:
    return () if isinstance(task, UnlabelledSpec) else task.labels


def _unknown(place: str, label: str, model: str, known: tuple[str, ...]) -> str:
    return f"{place}: model '{model}' gives no '{label}'. {did_you_mean(label, known)}"


def _block(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
