"""`edge-runtime predict`: a model on pictures, as a table, as JSON, or drawn. Tracks nothing.

Models of text are in `predict_text`; here it is told which of the two a model is.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
from rich.console import Console
from rich.table import Table

from edge_runtime.bundle import ModelBundle
from edge_runtime.cli.predict_text import TextReport, predict_texts
from edge_runtime.contract.errors import ConfigError, InputError, StorageError
from edge_runtime.contract.frame import Picture, Plane
from edge_runtime.contract.request import Sampling
from edge_runtime.contract.result import Classification, Detections, Embedding
from edge_runtime.contract.task import ClassificationSpec, DetectionSpec, TensorsSpec
from edge_runtime.local_model import LocalModel, find_bundle, open_model, this_device
from edge_runtime.settings import load_task
from edge_runtime.sinks.drawing import label_boxes
from edge_runtime.tasks.picture_file import read_picture


@dataclass(frozen=True, slots=True)
class Found:
    """One object or class.

    Args:
        label: What it is.
        score: In [0, 1].
        box: (x1, y1, x2, y2) in pixels of the picture; None for a classifier.
    """

    label: str
    score: float
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer for one picture; `drawn` is where the annotated copy is."""

    image: Path
    height: int
    width: int
    latency_ms: float
    found: tuple[Found, ...]
    drawn: Path | None = None


@dataclass(frozen=True, slots=True)
class PredictReport:
    """The answers, and what gave them."""

    model: str
    version: str
    variant: str
    engine: str
    provider: str
    images: tuple[Seen, ...]


def predict(
    name: str,
    inputs: list[str],
    *,
    task: Path | None = None,
    engine: str | None = None,
    min_score: float | None = None,
    out: Path | None = None,
    prompt: str | None = None,
    sampling: Sampling,
    as_json: bool = False,
) -> PredictReport | TextReport:
    """Run a model on what it takes, and show the answers unless they are wanted as JSON.

    Args:
        name: A bundle's name or folder, or a bare file with its `task`.
        inputs: Paths of pictures, or texts.
        task: A task file.
        engine: Only this engine; None: the best one.
        min_score: Of pictures: answers below are left out; None: as the task declares.
        out: Of pictures: where the annotated ones go.
        prompt: Of a model that generates: what it continues.
        sampling: Of a model that generates: how.
        as_json: Show nothing.

    Raises:
        ConfigError: An option is for another kind of model, or there is nothing to predict.
        EdgeRuntimeError: As `predict_images` and `predict_texts`.
    """
    bundle = find_bundle(name, load_task(task) if task else None)
    spec = bundle.manifest.task
    if isinstance(spec, TensorsSpec):
        raise ConfigError(
            "predict",
            expected="a model of pictures or texts",
            got="a model of tensors",
            do="Run it with `edge-runtime bench`, or ask it through the door's /v2 routes",
        )
    pictures = isinstance(spec, DetectionSpec | ClassificationSpec)
    given = {"--out": out, "--min-score": min_score} if not pictures else {"--prompt": prompt}
    for option, value in given.items():
        if value is not None:
            wanted = "a model that generates" if pictures else "a model of pictures"
            raise ConfigError(option, expected=wanted, got=f"a model of kind '{spec.kind}'")
    if not pictures:
        return predict_texts(bundle, inputs, prompt=prompt, sampling=sampling, engine=engine, as_json=as_json)
    if not inputs:
        raise ConfigError("what to predict", expected="a picture", got="none", do="Give its path")
    for path in inputs:
        if not Path(path).suffix and not os.path.exists(path):  # noqa: PTH110 - a text may be no path at all
            raise InputError(
                f"'{path[:80]}'",
                expected=f"a picture's file, for '{bundle.manifest.name}' is a model of kind '{spec.kind}'",
                got="no such file",
                do="A text needs a model of texts",
            )
    report = predict_images(
        bundle, [Path(path) for path in inputs], engine=engine, min_score=min_score, out=out
    )
    if not as_json:
        show(report, Console(highlight=False))
    return report


def predict_images(
    bundle: ModelBundle,
    images: list[Path],
    *,
    engine: str | None = None,
    min_score: float | None = None,
    out: Path | None = None,
) -> PredictReport:
    """Run a model on pictures.

    Args:
        bundle: The model.
        images: Files that OpenCV reads: JPEG, PNG, WebP, BMP, TIFF.
        engine: Only this engine; None: the best one.
        min_score: Answers below are left out; None: as the task declares.
        out: Where the annotated picture goes; a folder when there are several pictures.

    Raises:
        ConfigError: Several pictures, and `out` is a file.
        InputError: A picture cannot be read.
        StorageError: `out` cannot be written.
        EdgeRuntimeError: The model does not open or fails.
    """
    if out is not None and len(images) > 1 and out.suffix:
        raise ConfigError("--out", expected="a folder for several pictures", got=str(out))
    pictures = [(image, read_picture(image)) for image in images]
    model = open_model(bundle, this_device("auto"), engine=engine, min_score=min_score)
    try:
        model.predictor.warm_up()
        seen = tuple(_see(model, image, pixels, out) for image, pixels in pictures)
    finally:
        model.predictor.close()
    manifest, choice = bundle.manifest, model.choice
    return PredictReport(
        manifest.name, manifest.version, choice.variant, choice.engine, model.session.provider, seen
    )


def show(report: PredictReport, screen: Console) -> None:
    """Print the answers for a person."""
    screen.print(f"{report.model} {report.version}, {report.variant} on {report.engine} ({report.provider})")
    for seen in report.images:
        screen.print(
            f"\n[bold]{seen.image}[/] {seen.width}×{seen.height}, {seen.latency_ms:.1f} ms", soft_wrap=True
        )
        table = Table("what", "score", "box x1 y1 x2 y2", box=None, pad_edge=False)
        for found in seen.found:
            box = " ".join(f"{side:.0f}" for side in found.box) if found.box else ""
            table.add_row(found.label, f"{found.score:.2f}", box)
        screen.print(table if seen.found else "nothing found")
        if seen.drawn:
            screen.print(f"drawn in {seen.drawn}", soft_wrap=True)


def _see(model: LocalModel, image: Path, pixels: Plane, out: Path | None) -> Seen:
    began = time.perf_counter()
    answer = model.predictor.predict(Picture.from_bgr(pixels))
    latency_ms = (time.perf_counter() - began) * 1e3
    found = tuple(_found(answer))
    drawn = None if out is None else _draw(image, pixels, found, out)
    return Seen(image, pixels.shape[0], pixels.shape[1], latency_ms, found, drawn)


def _found(answer: Detections | Classification | Embedding) -> Iterator[Found]:
    if isinstance(answer, Embedding):
        yield Found(f"a vector of {answer.vector.size} numbers", 1.0)
        return
    scores = [round(float(score), 4) for score in answer.scores]
    labels = [answer.labels[int(index)] for index in answer.classes]
    if isinstance(answer, Classification):
        yield from map(Found, labels, scores)
        return
    for label, score, box in zip(labels, scores, answer.boxes, strict=True):
        x1, y1, x2, y2 = (round(float(side), 2) for side in box)
        yield Found(label, score, (x1, y1, x2, y2))


def _draw(image: Path, pixels: Plane, found: tuple[Found, ...], out: Path) -> Path:
    path = out if out.suffix else out / f"{image.stem}.png"
    canvas = pixels.copy()
    label_boxes(canvas, [(f"{one.label} {one.score:.2f}", one.box) for one in found])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), canvas)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    except cv2.error as error:
        raise ConfigError("--out", expected="a name that ends in .png or .jpg", got=str(path)) from error
    if not written:
        raise StorageError(f"{path} cannot be written", do="Check the folder and the free space.")
    return path
