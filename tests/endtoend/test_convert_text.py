"""Text models whole: a trained Hugging Face folder and a recipe in, a bundle and the same answers out.

Classifier and tagger in int8 and int4 for onnxruntime, and in Core ML with palettes, which the evaluator of
its programs measures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle import open_bundle
from edge_runtime.contract.bundle import BundleManifest
from edge_runtime.contract.result import Entities, TextClassification
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine
from edge_runtime.tasks.make import make_any_task
from tests.simulators import trained_texts as texts
from tests.simulators.conversions import Called, call

# Two whole conversions, each of a dozen processes.
pytestmark = pytest.mark.timeout(600)
PROFILE = """\
name: counter
title: A counter with everything
cpu: {name: some, arch: x86_64, cores: 2, threads: 2, features: [avx_vnni]}
memory_bytes: 4294967296
memory_budget_bytes: 2147483648
engines:
  - {engine: onnxruntime, formats: [onnx], precisions: [int8, fp32, int8-dynamic, int4]}
  - {engine: coreml, formats: [coreml], precisions: [fp16, palettized]}
target_latency_ms: 10
facts: [{says: nothing, source: this test}]
"""
RECIPE = """\
name: words
source: {{path: folder}}
task:
  kind: {kind}
  input: {{max_length: 16}}
  labels: [{labels}]
samples: {{path: samples.txt, {more}calibration: 32, verification: 32}}
profiles: [counter.yaml]
want: {{precisions: [fp32, fp16, int8, int4, palettized], palette_bits: 6}}
budgets: {{slower_than_fp32: 1000}}
"""
VARIANTS = {"onnx-fp32", "onnx-int8-dynamic", "onnx-int4", "coreml-fp16", "coreml-palettized"}


def furnish(folder: Path, kind: str, labels: tuple[str, ...], lines: list[str], more: str = "") -> None:
    (folder / "counter.yaml").write_text(PROFILE, "utf-8")
    (folder / "samples.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "recipe.yaml").write_text(
        RECIPE.format(kind=kind, labels=", ".join(labels), more=more), "utf-8"
    )


def convert(folder: Path) -> Called:
    return call(
        folder, folder / "recipe.yaml", "--out", folder / "bundle", "--cache", folder / "cache", "--json"
    )


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Called:
    """The conversion of the classifier, with labelled samples."""
    folder = tmp_path_factory.mktemp("reviews")
    texts.save_classifier(folder / "folder")
    dice = np.random.default_rng(11)
    lines, labels = zip(*(texts.review(dice) for _ in range(64)), strict=True)
    (folder / "labels.csv").write_text("label\n" + "".join(f"{texts.SENTIMENTS[one]}\n" for one in labels))
    furnish(folder, "text-classification", texts.SENTIMENTS, list(lines), "labels: labels.csv, ")
    return convert(folder)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Called:
    """The conversion of the tagger."""
    folder = tmp_path_factory.mktemp("letters")
    texts.save_tagger(folder / "folder")
    dice = np.random.default_rng(12)
    furnish(folder, "token-classification", texts.TAGS, [texts.letter(dice)[0] for _ in range(64)])
    return convert(folder)


def predictor(folder: Path, variant: str) -> Callable[[str], Any]:
    """What a device does with a variant: its own engine, its own pre- and postprocessing."""
    bundle = open_bundle(folder / "bundle")
    chosen = next(one for one in bundle.manifest.variants if one.id == variant)
    session = load_engine("onnxruntime").open(bundle.root / chosen.path, options=EngineOptions())
    tokenizer = bundle.manifest.tokenizer
    assert tokenizer is not None
    task = make_any_task(
        bundle.manifest.task_of(chosen), session.inputs, session.outputs, bundle.root / tokenizer.path
    )

    def predict(text: str) -> Any:
        tensors, undo = task.preprocess(text)
        return task.postprocess(session.run(tensors), undo)

    return predict


def manifest(called: Called) -> BundleManifest:
    return open_bundle(called.folder / "bundle").manifest


@pytest.mark.parametrize("made", ["reviews", "letters"])
def test_every_variant_of_a_text_model_is_shipped(made: str, request: pytest.FixtureRequest) -> None:
    called: Called = request.getfixturevalue(made)
    assert called.code == 0, called.err
    outcomes = {one["id"]: (one["outcome"], one["why"]) for one in called.document["variants"]}
    assert set(outcomes) == VARIANTS
    assert not [one for one in outcomes.values() if one[0] not in {"shipped", "not verified here"}], outcomes
    assert {variant.id for variant in manifest(called).variants} == VARIANTS


@pytest.mark.parametrize("variant", ["onnx-int8-dynamic", "onnx-int4"])
def test_a_quantized_classifier_gives_the_same_classes(reviews: Called, variant: str) -> None:
    small, whole = predictor(reviews.folder, variant), predictor(reviews.folder, "onnx-fp32")
    dice = np.random.default_rng(13)
    for _ in range(64):
        text, label = texts.review(dice)
        answer = small(text)
        assert isinstance(answer, TextClassification)
        assert answer.labels[int(answer.classes[0])] == texts.SENTIMENTS[label]
        assert int(answer.classes[0]) == int(whole(text).classes[0])


@pytest.mark.parametrize("variant", ["onnx-int8-dynamic", "onnx-int4"])
def test_a_quantized_tagger_finds_the_same_names(letters: Called, variant: str) -> None:
    small, whole = predictor(letters.folder, variant), predictor(letters.folder, "onnx-fp32")
    dice = np.random.default_rng(14)
    named = 0
    for _ in range(64):
        text, tags = texts.letter(dice)
        answer = small(text)
        assert isinstance(answer, Entities)
        words = text.split()
        wanted = [f"{words[at]} {words[at + 1]}" for at, tag in enumerate(tags) if tag == 1]
        found = [one.text for one in answer.entities]
        assert found == wanted
        assert found == [one.text for one in whole(text).entities]
        named += len(wanted)
    assert named > 32


@pytest.mark.parametrize("made", ["reviews", "letters"])
def test_palettes_are_measured_by_the_evaluator(made: str, request: pytest.FixtureRequest) -> None:
    called: Called = request.getfixturevalue(made)
    found = manifest(called)
    variants = {one.id: one for one in found.variants}
    receipts = {one.variant: one for one in found.receipts if one.engine == "mil-evaluator"}
    palette = receipts["coreml-palettized"]
    assert variants["coreml-palettized"].precision == "palettized"
    cosines = [value for key, value in palette.parity.items() if key.startswith("cosine.")]
    assert cosines
    assert min(cosines) > 0.99
    assert palette.latency is None
    # Of a small net the program itself is most of it; the weights are 6 bits instead of 16.
    assert variants["coreml-palettized"].size_bytes < variants["coreml-fp16"].size_bytes
