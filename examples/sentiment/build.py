"""Builds the two bundles of the sentiment example: a small one for the device, a large one for the cloud.

    .venv/bin/python examples/sentiment/build.py          # into examples/sentiment/bundles

Trained on the spot on tweets with human scores; nothing that is fetched is shipped. Takes about a minute.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import nets
from tweets import MINILM, MINILM_TOKENIZER, TWEETS, Split, Tweet, fetch, load_tweets

from converters.bundle.writer import TOKENIZER, BuiltVariant, GoldenFiles, write
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.task import EmbeddingSpec, TextClassificationSpec, TextInput
from edge_runtime.engines.base import EngineOptions, Session
from edge_runtime.engines.registry import load_engine
from edge_runtime.predict import ValuePredictor
from edge_runtime.tasks.make import make_any_task
from edge_runtime.tasks.rows import TEXTS, write_rows

HERE = Path(__file__).resolve().parent
BUNDLES = HERE / "bundles"
VERSION = "1.0.0"
LONGEST = 128
LABELS = ("negative", "positive")
GOLDEN = (
    "The queue was short and the staff kind.",
    "I waited an hour and nobody even said sorry.",
    "not bad at all, actually quite good!",
    "my phone died again :(",
)
SMALL_STRENGTH, LARGE_STRENGTH = 3.0, 5.0


def build(target: Path) -> tuple[ModelBundle, ModelBundle]:
    """Train both models and write both bundles.

    Args:
        target: The folder that will hold `sentiment-small`, `sentiment-large` and `calibration.csv`.

    Returns:
        The small one and the large one.
    """
    tweets, work = load_tweets(), target / ".work"
    shutil.rmtree(work, ignore_errors=True)
    small, large = _small(tweets, work / "small"), _large(tweets, work / "large")
    bundles = (
        _bundle(
            target / "sentiment-small",
            work / "small",
            tokenizer=small,
            precision=Precision.FP32,
            licence="MIT",
            source=f"trained on tweets of {TWEETS}",
        ),
        _bundle(
            target / "sentiment-large",
            work / "large",
            tokenizer=large,
            precision=Precision.INT8_DYNAMIC,
            licence="Apache-2.0",
            source=f"{MINILM}, with a head trained on tweets of {TWEETS}",
        ),
    )
    shutil.rmtree(work)
    _write_samples(target / "calibration.csv", bundles[1], _of(tweets, Split.CALIBRATION))
    return bundles


def open_session(model: Path) -> Session:
    """Open an ONNX file on one thread."""
    return load_engine("onnxruntime").open(model, options=EngineOptions(threads=1))


def _small(tweets: Sequence[Tweet], work: Path) -> Path:
    training, held = _of(tweets, Split.TRAINING), _of(tweets, Split.CALIBRATION)
    tokenizer = nets.word_tokenizer([each.text for each in training])
    counts = [nets.word_counts(tokenizer, [each.text for each in some], LONGEST) for some in (training, held)]
    line = nets.fit(counts[0], _labels(training), SMALL_STRENGTH)
    nets.words_model(nets.honest(line, counts[1], _labels(held)), work / "model.onnx")
    file = work.with_name("small-tokenizer.json")
    tokenizer.save(str(file))
    return file


def _large(tweets: Sequence[Tweet], work: Path) -> Path:
    encoder = next(fetch(MINILM).rglob("model.onnx"))
    tokenizer = next(fetch(MINILM_TOKENIZER).rglob("tokenizer.json"))
    vectors = work.with_name("vectors.onnx")
    nets.pooled_model(encoder, vectors, None)
    training, held = _of(tweets, Split.TRAINING), _of(tweets, Split.CALIBRATION)
    seen = [_vectors(vectors, tokenizer, some) for some in (training, held)]
    line = nets.fit(seen[0], _labels(training), LARGE_STRENGTH)
    nets.pooled_model(encoder, work / "model.onnx", nets.honest(line, seen[1], _labels(held)))
    return tokenizer


def _vectors(model: Path, tokenizer: Path, tweets: Sequence[Tweet]) -> nets.Matrix:
    """Run the encoder by the device's own tokenizing; (n, 384)."""
    session = open_session(model)
    try:
        text = TextInput(max_length=LONGEST)
        spec = EmbeddingSpec(kind="embedding", input=text, pooling="none", normalize=False)
        predictor = ValuePredictor(
            make_any_task(spec, session.inputs, session.outputs, tokenizer), session, GOLDEN[0]
        )
        return np.stack([predictor.predict(each.text).vector for each in tweets]).astype(np.float64)
    finally:
        session.close()


def _bundle(
    place: Path, folder: Path, *, tokenizer: Path, precision: Precision, licence: str, source: str
) -> ModelBundle:
    name = place.name
    session = open_session(folder / "model.onnx")
    try:
        task = make_any_task(_task(), session.inputs, session.outputs, tokenizer)
        outputs = [session.run(task.preprocess(text)[0]) for text in GOLDEN]
    finally:
        session.close()
    golden = GoldenFiles(folder.with_name(f"{name}-in.npz"), folder.with_name(f"{name}-out.npz"))
    write_rows(golden.inputs, {TEXTS: [np.array(text) for text in GOLDEN]})
    write_rows(golden.outputs, {key: [each[key] for each in outputs] for key in outputs[0]})
    return write(
        place,
        name=name,
        version=VERSION,
        licence=licence,
        source=source,
        task=_task(),
        variants=[BuiltVariant(f"onnx-{precision}", Format.ONNX, precision, folder)],
        golden=golden,
        tokenizer=tokenizer,
    )


def _write_samples(target: Path, large: ModelBundle, tweets: Sequence[Tweet]) -> None:
    """Write what `route calibrate` reads: texts with their labels and the large model's answers."""
    session = open_session(large.path(large.manifest.variants[0]))
    try:
        tokenizer = large.root / TOKENIZER
        task = make_any_task(_task(), session.inputs, session.outputs, tokenizer)
        predictor = ValuePredictor(task, session, GOLDEN[0])
        best = [int(predictor.predict(each.text).classes[0]) for each in tweets]
    finally:
        session.close()
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label", "cloud"))
        pairs = zip(tweets, best, strict=True)
        writer.writerows((each.text, LABELS[each.label], LABELS[cloud]) for each, cloud in pairs)


def _task() -> TextClassificationSpec:
    text = TextInput(max_length=LONGEST, overflow="window")
    return TextClassificationSpec(kind="text-classification", input=text, labels=LABELS)


def _of(tweets: Sequence[Tweet], split: Split) -> list[Tweet]:
    return [each for each in tweets if each.split is split]


def _labels(tweets: Sequence[Tweet]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([each.label for each in tweets], np.int64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=BUNDLES)
    for bundle in build(parser.parse_args().out):
        size = sum(variant.size_bytes for variant in bundle.manifest.variants)
        print(f"{bundle.root}: {bundle.manifest.name} {bundle.manifest.version}, {size / 1e6:.2f} MB")
