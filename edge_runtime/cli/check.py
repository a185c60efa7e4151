"""`edge-runtime check`: the settings read, every model run once, every camera, door and cloud tried."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edge_runtime.agent.models import open_settings_model
from edge_runtime.agent.plans import decoding_of
from edge_runtime.bundle import ModelBundle
from edge_runtime.cli.check_requests import PlaceCheck, RouteCheck, check_requests
from edge_runtime.cli.shell import ExitCode, exit_code
from edge_runtime.contract.device import Decoding, DeviceProfile
from edge_runtime.contract.errors import EdgeRuntimeError, InputError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Classification, Detections, Embedding
from edge_runtime.engines.select import explain
from edge_runtime.local_model import LocalModel, choices_here, this_device
from edge_runtime.runtime.bundles import bundles_of
from edge_runtime.settings import AgentSettings, CameraSettings, check_labels, load_settings
from edge_runtime.video.decoder import Decoded
from edge_runtime.video.source import SourceSpec, VideoSource
from edge_runtime.video.tape import Budget, StreamTape

AT_ONCE = 8
"""Cameras opened at the same time; one that does not answer takes its whole timeout."""


PLAYED_S = 2.0
"""A recording is read for so long, to find what does not decode."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """How a model did; empty fields where it did not get that far."""

    name: str
    bundle: str = ""
    variant: str = ""
    engine: str = ""
    provider: str = ""
    run_ms: float | None = None
    why: str = ""
    problem: str = ""
    code: ExitCode = ExitCode.OK


@dataclass(frozen=True, slots=True)
class CameraCheck:
    """How a camera did, and what its model saw in its first picture."""

    name: str
    source: str
    height: int | None = None
    width: int | None = None
    sees: str = ""
    problem: str = ""
    code: ExitCode = ExitCode.OK
    note: str = ""
    """What to know although it works: a recording that is cut short, hardware that is not used."""


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The whole answer; `exit_code` is OK when everything works."""

    store: Path
    site: str
    profile: str
    models: tuple[ModelCheck, ...]
    cameras: tuple[CameraCheck, ...]
    exit_code: ExitCode
    routes: tuple[RouteCheck, ...] = ()
    places: tuple[PlaceCheck, ...] = ()


def check_store(store: Path) -> StoreCheck:
    """Try a store out.

    Raises:
        ConfigError: The settings are wrong, or a label is none of its model's.
    """
    settings = load_settings(store)
    profile = this_device(settings.profile)
    models, opened = _check_models(settings, profile)
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tries = [
                pool.submit(check_camera, name, camera, profile.decoding, opened.get(camera.model))
                for name, camera in settings.cameras.items()
            ]
            cameras = tuple(one.result() for one in tries)
    finally:
        for model in opened.values():
            model.predictor.close()
    routes, places = check_requests(settings, profile)
    codes = {check.code for check in (*models, *cameras, *routes, *places)}
    order = (
        ExitCode.BUNDLE,
        ExitCode.ENGINE,
        ExitCode.INPUT,
        ExitCode.REMOTE,
        ExitCode.CONFIG,
        ExitCode.FAILURE,
    )
    code = next((code for code in order if code in codes), ExitCode.OK)
    return StoreCheck(store, settings.site, profile.name, models, cameras, code, routes, places)


def _check_models(
    settings: AgentSettings, profile: DeviceProfile
) -> tuple[tuple[ModelCheck, ...], dict[str, LocalModel]]:
    checks: list[ModelCheck] = []
    opened: dict[str, LocalModel] = {}
    bundles: dict[str, ModelBundle] = {}
    source = bundles_of(settings)
    watched = {camera.model for camera in settings.cameras.values()}
    for name, wanted in settings.models.items():
        if settings.door is not None and name not in watched:
            continue
        try:
            bundles[name] = source.open(wanted)
        except EdgeRuntimeError as error:
            checks.append(ModelCheck(name, problem=f"models.{name}: {error}", code=exit_code(error)))
    check_labels(settings, {name: bundle.manifest.task for name, bundle in bundles.items()})
    for name, bundle in bundles.items():
        wanted = settings.models[name]
        why = ""
        try:
            why = explain(choices_here(bundle, profile, wanted.engine.name))
            model = open_settings_model(wanted, bundle, profile)
            opened[name] = model
            model.predictor.warm_up()
            began = time.perf_counter()
            model.predictor.warm_up()
            run_ms = (time.perf_counter() - began) * 1e3
        except EdgeRuntimeError as error:
            problem = f"models.{name}: {error}"
            checks.append(ModelCheck(name, why=why, problem=problem, code=exit_code(error)))
            continue
        manifest, choice = bundle.manifest, model.choice
        title = f"{manifest.name} {manifest.version}"
        checks.append(
            ModelCheck(name, title, choice.variant, choice.engine, model.session.provider, run_ms, why)
        )
    order = list(settings.models)
    return tuple(sorted(checks, key=lambda check: order.index(check.name))), opened


def check_camera(
    name: str, camera: CameraSettings, decoding: Decoding, model: LocalModel | None
) -> CameraCheck:
    """Open a camera, read a picture, show it to its model; whatever happens becomes the answer."""
    spec = SourceSpec(name, camera.source, camera.transport, decoding=decoding_of(camera, decoding))
    picture: Picture | None = None
    try:
        with closing(VideoSource(spec)) as source:
            frames = source.frames()
            picture = _first_picture(name, frames)
            sees = said(model.predictor.predict(picture)) if model else ""
            notes = [
                source.cut_off() or _played(source, frames),
                source.decoder if spec.decoding.hardware not in {None, source.decoder} else "",
                _main_stream(name, camera),
            ]
    except EdgeRuntimeError as error:
        return CameraCheck(name, camera.shown_source, problem=_of(name, error), code=exit_code(error))
    except Exception as error:
        # A fault of this program or of FFmpeg with one camera must not hide what the others do.
        log.exception("camera '%s'", name)
        problem = f"camera '{name}': fault of this program: {error!r}"
        return CameraCheck(name, camera.shown_source, problem=problem, code=ExitCode.FAILURE)
    said_notes = "; ".join(filter(None, notes))
    return CameraCheck(name, camera.shown_source, picture.height, picture.width, sees, note=said_notes)


def _main_stream(name: str, camera: CameraSettings) -> str:
    """Open the stream that clips are made of; say why there can be no clips of it, empty: there can."""
    if camera.main is None:
        return ""
    tape = StreamTape(0, Budget(0), own_reader=True)
    with closing(VideoSource(SourceSpec(name, camera.main, camera.transport), tape)):
        return f"no clips: {tape.trouble}" if tape.trouble else ""


def _first_picture(camera: str, frames: Iterator[Decoded]) -> Picture:
    for decoded in frames:
        if decoded.picture is not None:
            return decoded.picture
    raise InputError(f"camera '{camera}': not one picture came")


def _played(source: VideoSource, frames: Iterator[Decoded]) -> str:
    """Read a recording for `PLAYED_S`; say what is wrong with it, if it is through by then."""
    until = time.monotonic() + PLAYED_S
    if not source.spec.live:
        for _ in frames:
            if time.monotonic() > until:
                return ""
    return source.trouble


def _of(camera: str, error: EdgeRuntimeError) -> str:
    said_so = str(error)
    return said_so if f"camera '{camera}'" in said_so else f"camera '{camera}': {said_so}"


def said(answer: Detections | Classification | Embedding) -> str:
    """Write an answer in a few words: `5 person, 1 car`, or `tabby 0.91`."""
    if isinstance(answer, Embedding):
        return f"a vector of {answer.vector.size} numbers"
    if isinstance(answer, Classification):
        return ", ".join(
            f"{answer.labels[int(index)]} {score:.2f}"
            for index, score in zip(answer.classes[:1], answer.scores[:1], strict=True)
        )
    found = Counter(answer.labels[int(index)] for index in answer.classes)
    return ", ".join(f"{number} {label}" for label, number in found.most_common()) or "nothing"


def show(check: StoreCheck, screen: Console, *, why: bool) -> None:
    """Print the answer for a person."""
    screen.print(f"[bold]{check.store}[/]: site {check.site}, device profile {check.profile}\n")
    models = Table("model", "bundle", "variant", "runs on", "inference", "", box=None, pad_edge=False)
    for model in check.models:
        took = "" if model.run_ms is None else f"{model.run_ms:.1f} ms"
        runs_on = f"{model.engine} ({model.provider})" if model.engine else ""
        models.add_row(model.name, model.bundle, model.variant, runs_on, took, _verdict(model.problem))
    cameras = Table("camera", "source", "picture", "its model sees", "", box=None, pad_edge=False)
    for camera in check.cameras:
        size = f"{camera.width}×{camera.height}" if camera.width else ""
        verdict = "[yellow]ok, but[/]" if camera.note else _verdict(camera.problem)
        cameras.add_row(camera.name, camera.source, size, camera.sees, verdict)
    if check.models:
        screen.print(models)
    if check.cameras:
        screen.print("", cameras, sep="\n")
    show_requests(check.routes, check.places, screen)
    for one in (*check.models, *check.cameras, *check.routes, *check.places):
        if one.problem:
            screen.print(f"\n{one.problem}", style="red", markup=False)
    for camera in check.cameras:
        if camera.note:
            screen.print(f"\ncamera '{camera.name}': {camera.note}", style="yellow", markup=False)
    if why:
        for model in check.models:
            screen.print(f"\n[bold]Why {model.name} runs where it does[/]")
            screen.print(model.why or "It could not be opened.", markup=False)


def show_requests(routes: tuple[RouteCheck, ...], places: tuple[PlaceCheck, ...], screen: Console) -> None:
    """Print what is said of requests, where there is anything to say."""
    table = Table("for requests", "bundle", "variant", "runs on", "answer", "", box=None, pad_edge=False)
    for route in routes:
        took = "" if route.run_ms is None else f"{route.run_ms:.1f} ms"
        verdict = "[yellow]ok, but[/]" if route.note else _verdict(route.problem)
        table.add_row(route.name, route.bundle, route.variant, route.runs_on, took, verdict)
    if routes:
        screen.print("", table, sep="\n")
    if places:
        screen.print()
    for place in places:
        took = "" if place.took_ms is None else f", answered in {place.took_ms:.0f} ms"
        verdict = "[yellow]ok, but[/]" if place.note else _verdict(place.problem)
        screen.print(f"{place.name} {place.address}{took} {verdict}")
    for place in places:
        if place.note:
            screen.print(f"\n{place.name}: {place.note}", style="yellow", markup=False)
    for route in routes:
        if route.note:
            screen.print(f"\nmodel '{route.name}': {route.note}", style="yellow", markup=False)


def _verdict(problem: str) -> str:
    return "[red]failed[/]" if problem else "[green]ok[/]"
