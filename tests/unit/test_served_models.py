"""The cloud's backend over a folder of small models: asked, loaded, unloaded, and given what is wrong."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from cloud_fallback.serving.backend import ServedModels, ServingOptions
from cloud_fallback.serving.batcher import BatchLimits
from cloud_fallback.serving.dispatcher import Unobserved
from cloud_fallback.serving.repository import Repository
from cloud_fallback.serving.served import sure_engine
from device_profiles.loader import load_profile
from edge_runtime.bundle import ModelBundle, open_bundle
from edge_runtime.contract.bundle import Latency
from edge_runtime.contract.errors import (
    BundleError,
    DeadlineError,
    InputError,
    OverloadedError,
    UnknownModelError,
)
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Detections, TextClassification, Values
from edge_runtime.contract.route import Route
from edge_runtime.contract.task import TaskSpec
from edge_runtime.local_model import this_device
from edge_runtime.protocol.backend import Backend
from tests.simulators import tiny_decoder
from tests.simulators.sentiment import sentiment_bundle
from tests.simulators.served_bundles import Array, bundle, centring, scaling
from tests.simulators.served_play import OPTIONS, X, asked, play
from tests.simulators.text_bundles import table_model


async def scaled(models: ServedModels, **told: Any) -> Array:
    return (await models.infer(asked(**told), None)).tensors["y"]


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    """`scale`, doubling in version 1.9.0 and tripling in 1.10.0."""
    root = tmp_path / "models"
    bundle(root / "old", scaling(2.0), version="1.9.0", golden=(X, X * 2))
    bundle(root / "new", scaling(3.0), version="1.10.0", golden=(X, X * 3))
    return root


def test_it_is_a_backend(two_versions: Path) -> None:
    backend: Backend = ServedModels(Repository(two_versions))
    assert not backend.ready()


def test_the_newest_version_answers_unless_one_is_named(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        assert models.ready()
        np.testing.assert_array_equal(await scaled(models), X * 3)
        np.testing.assert_array_equal(await scaled(models, version="1.9.0"), X * 2)
        answer = await models.infer(asked(), ["y"])
        assert (answer.model, answer.version) == ("scale", "1.10.0")
        assert answer.details["route"] == "cloud"
        assert answer.details["variant"] == "onnx-fp32"
        assert answer.details["batch_rows"] == 2
        described = models.describe("scale", None)
        assert described.versions == ("1.9.0", "1.10.0")
        assert (described.version, described.platform, described.kind) == (
            "1.10.0",
            "onnx_onnxruntime",
            "tensors",
        )
        assert [str(spec) for spec in described.inputs] == ["x float32 (?, 4)"]
        assert models.describe("scale", "1.9.0").version == "1.9.0"

    play(two_versions, act)


def test_a_long_text_runs_in_parts_and_others_get_their_turn(tmp_path: Path) -> None:
    root = tmp_path / "models"
    windows = {"max_length": 6, "overflow": "window", "overlap": 1}
    task = TypeAdapter[TaskSpec](TaskSpec).validate_python(
        {"kind": "text-classification", "labels": ["no", "yes"], "input": windows, "activation": "sigmoid"}
    )
    table = np.zeros((tiny_decoder.VOCABULARY, 2), np.float32)
    model = table_model(table, pooled=True)
    bundle(root / "long", model, name="long", task=task, tokenizer=True)
    ran: list[tuple[int, int]] = []

    class Counting(Unobserved):
        def batch_ran(self, model: str, version: str, *, rows: int, requests: int, run_s: float) -> None:
            ran.append((rows, requests))

    async def whole() -> None:
        models = ServedModels(Repository(root), OPTIONS, observer=Counting())
        await models.start()
        try:
            long, short = "abcdefgh" * 11, "ab"
            answers = await asyncio.gather(
                models.predict(asked(long, "long")), models.predict(asked(short, "long"))
            )
            assert answers[0].value.windows > 16 and answers[1].value.windows == 1
            assert max(rows for rows, _ in ran) <= 8 + 1
            with pytest.raises(DeadlineError):
                await models.predict(asked(long, "long", timeout_s=1e-9))
        finally:
            await models.close()

    asyncio.run(whole())


def test_a_pick_chooses_the_version(two_versions: Path) -> None:
    def canary(model: str, request: Request) -> str | None:
        return "1.9.0" if request.id == "canary" else None

    async def act(models: ServedModels) -> None:
        canaried = await models.infer(Request("canary", "scale", {"x": X}), None)
        assert (canaried.version, (await models.infer(asked(), None)).version) == ("1.9.0", "1.10.0")
        named = Request("canary", "scale", {"x": X}, version="1.10.0")
        assert (await models.infer(named, None)).version == "1.10.0"

    play(two_versions, act, pick=canary)


def test_only_the_newest_versions_are_loaded_if_so_wished(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        states = {state.version: (state.state, state.reason) for state in models.index()}
        assert states == {"1.9.0": ("UNAVAILABLE", "not loaded"), "1.10.0": ("READY", "")}
        with pytest.raises(UnknownModelError, match=r"1\.9\.0 \(unavailable\)"):
            await scaled(models, version="1.9.0")
        await models.load("scale", "1.9.0")
        np.testing.assert_array_equal(await scaled(models, version="1.9.0"), X * 2)

    play(two_versions, act, ServingOptions("newest"))


def test_what_is_still_to_be_loaded_is_told_to_wait(two_versions: Path) -> None:
    async def act() -> None:
        models = ServedModels(Repository(two_versions), OPTIONS)
        with pytest.raises(OverloadedError, match="repository is being read"):
            await scaled(models)
        starting = asyncio.create_task(models.start())
        while not models.index():
            await asyncio.sleep(0)
        assert {state.state for state in models.index()} == {"LOADING"}
        for version in (None, "1.9.0", "1.10.0"):
            with pytest.raises(OverloadedError, match="being loaded") as told:
                await scaled(models, version=version)
            assert told.value.retry_after_s == 1
        with pytest.raises(UnknownModelError, match="got nobody"):
            await models.infer(asked(model="nobody"), None)
        await starting
        np.testing.assert_array_equal(await scaled(models), X * 3)
        await models.close()

    asyncio.run(act())


def test_a_version_that_could_not_be_loaded_is_not_unknown(tmp_path: Path) -> None:
    bundle(tmp_path / "bad", scaling(2.0), golden=(X, X * -3))

    async def act(models: ServedModels) -> None:
        with pytest.raises(OverloadedError, match=r"not ready: got 1\.0\.0 \(unavailable\)") as told:
            await scaled(models)
        assert told.value.retry_after_s == 30
        await models.unload("scale")
        with pytest.raises(UnknownModelError, match="Load it first"):
            await scaled(models)

    play(tmp_path, act)


def test_loading_and_unloading(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        await models.unload("scale")
        assert {state.state for state in models.index()} == {"UNAVAILABLE"}
        assert models.ready()  # nothing that should be loaded is missing
        with pytest.raises(UnknownModelError, match="ready"):
            await scaled(models)
        await models.load("scale")
        np.testing.assert_array_equal(await scaled(models), X * 3)
        assert models.versions("scale") == ["1.10.0"]
        await models.load("scale")  # again: it is

    play(two_versions, act)


def test_a_new_version_is_loaded_at_run_time_and_a_removed_one_is_forgotten(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        bundle(two_versions / "newer", scaling(5.0), version="2.0.0")
        await models.load("scale")
        np.testing.assert_array_equal(await scaled(models), X * 5)
        shutil.rmtree(two_versions / "newer")
        await models.rescan()
        np.testing.assert_array_equal(await scaled(models), X * 5)  # loaded is loaded
        await models.unload("scale", "2.0.0")
        await models.rescan()
        assert {state.version for state in models.index()} == {"1.9.0", "1.10.0"}

    play(two_versions, act)


def test_a_version_that_was_replaced_is_exchanged_without_a_gap(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        shutil.rmtree(two_versions / "new")
        bundle(two_versions / "new", scaling(7.0), version="1.10.0")
        loading = asyncio.create_task(models.load("scale"))
        while not loading.done():
            assert (await scaled(models))[0, 1] in {3, 7}
        await loading
        np.testing.assert_array_equal(await scaled(models), X * 7)

    play(two_versions, act)


def test_a_refused_version_stands_in_the_index_and_the_older_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "models"
    bundle(root / "good", scaling(2.0))
    bundle(root / "bad", scaling(3.0), version="2.0.0", golden=(X + 1, X[:, ::-1] + 1))
    bundle(root / "lonely", scaling(3.0), name="lonely", golden=(X + 1, X[:, ::-1] + 1))
    (root / "broken").mkdir()
    (root / "broken" / "bundle.json").write_text("{}")

    async def act(models: ServedModels) -> None:
        states = {(state.name, state.version): state for state in models.index()}
        assert states["scale", "1.0.0"].state == "READY"
        assert states["scale", "2.0.0"].state == "UNAVAILABLE"
        assert "at least 0.9990 expected" in states["scale", "2.0.0"].reason
        assert states["broken", ""].state == "UNAVAILABLE"
        assert not models.ready()  # `lonely` has no version that is
        np.testing.assert_array_equal(await scaled(models), X * 2)
        with pytest.raises(BundleError, match="cosine"):
            await models.load("scale")
        shutil.rmtree(root / "lonely")
        await models.rescan()
        assert models.ready()

    play(root, act)


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (asked(model="scal"), UnknownModelError, "got scal. Did you mean 'scale'"),
        (asked(version="7"), UnknownModelError, "1.10.0 (ready)"),
        (asked({"x": X.astype(np.float64)}), InputError, "expected float32 (?, 4), got float64 (2, 4)"),
        (asked({"x": X[:, :3]}), InputError, "got float32 (2, 3)"),
        (asked({"z": X}), InputError, "expected x, got z"),
        (asked({"x": X[:0]}), InputError, "expected at least 1 on each axis, got (0, 4)"),
        (asked({"x": np.full((1, 4), np.nan, np.float32)}), InputError, "expected numbers, got NaN"),
        (asked("a text"), InputError, "expected tensors, got str"),
        (asked(timeout_s=0.0), DeadlineError, "late"),
    ],
)
def test_what_is_wrong_is_told(
    two_versions: Path, request_: Request, error: type[Exception], says: str
) -> None:
    async def act(models: ServedModels) -> None:
        with pytest.raises(error) as told:
            await models.infer(request_, None)
        assert says in str(told.value)
        np.testing.assert_array_equal(await scaled(models), X * 3)

    play(two_versions, act)


def test_an_output_that_there_is_not(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        with pytest.raises(InputError, match="of y, got z"):
            await models.infer(asked(), ["z"])

    play(two_versions, act)


def test_many_at_once_get_their_own(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        values = [np.full((1 + at % 3, 4), at, np.float32) for at in range(200)]
        answers = await asyncio.gather(*(models.infer(asked({"x": value}), None) for value in values))
        for value, answer in zip(values, answers, strict=True):
            np.testing.assert_array_equal(answer.tensors["y"], value * 3)

    play(two_versions, act)


def test_rows_that_mind_each_other_are_never_mixed(tmp_path: Path) -> None:
    bundle(tmp_path / "centre", centring(), name="centre")

    async def act(models: ServedModels) -> None:
        values = [np.full((1, 4), at, np.float32) for at in range(20)]
        asking = (models.infer(asked({"x": value}, "centre"), None) for value in values)
        for answer in await asyncio.gather(*asking):
            np.testing.assert_array_equal(answer.tensors["y"], np.zeros((1, 4)))

    play(tmp_path, act)


def test_tensors_texts_and_pictures_are_answered_by_the_task(tmp_path: Path, repository: Path) -> None:
    bundle(tmp_path / "models" / "scale", scaling(2.0))
    sentiment_bundle(tmp_path / "aside" / "sentiment")
    shutil.move(tmp_path / "aside" / "sentiment", tmp_path / "models" / "sentiment")
    shutil.copytree(repository / "edge_runtime/models/efficientdet-lite0", tmp_path / "models" / "detector")

    async def act(models: ServedModels) -> None:
        values = await models.predict(asked())
        assert isinstance(values.value, Values)
        np.testing.assert_array_equal(values.value.tensors["y"], X * 2)

        texts = ["good staff", "bad queue", "good good queue staff"] * 5
        answers = await asyncio.gather(*(models.predict(asked(text, "sentiment")) for text in texts))
        for text, answer in zip(texts, answers, strict=True):
            assert isinstance(answer.value, TextClassification)
            best = answer.value.labels[int(answer.value.classes[0])]
            assert best == ("positive" if "good" in text else "negative")
            assert answer.confidence == pytest.approx(float(answer.value.scores[0]))
        assert (answers[0].decision.route, answers[0].variant) == (Route.CLOUD, "onnx-fp32")

        grey = Picture.from_bgr(np.full((90, 160, 3), 114, np.uint8))
        found = await models.predict(asked(grey, "efficientdet-lite0"))
        assert isinstance(found.value, Detections)
        for value, model, says in (
            ({"x": X}, "sentiment", "expected a text, got dict"),
            (grey, "scale", "expected tensors, got Picture"),
            ("a text", "scale", "expected tensors, got str"),
            ("a text", "efficientdet-lite0", "expected a picture, got str"),
        ):
            with pytest.raises(InputError, match=says):
                await models.predict(asked(value, model))

    play(tmp_path / "models", act)


def test_a_queue_that_is_full_refuses(two_versions: Path) -> None:
    async def act(models: ServedModels) -> None:
        asking = [models.infer(asked(), None) for _ in range(50)]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        refused = [each for each in answers if isinstance(each, OverloadedError)]
        assert refused
        assert len(refused) < len(answers)
        assert all(each.retry_after_s > 0 for each in refused)

    play(
        two_versions,
        act,
        ServingOptions(limits=BatchLimits(max_rows=4, queue_rows=8)),
    )


def test_a_hundred_loads_and_unloads_leave_the_memory_flat(tmp_path: Path) -> None:
    """4 MB of weights each time: kept, they would be 360 MB. The first ten may fill caches.

    In a process of its own: other tests leave this one with a heap in which nothing can be seen.
    """
    bundle(tmp_path / "large", scaling(2.0, width=1024), name="large")
    command = (sys.executable, "-m", "tests.simulators.load_cycles", str(tmp_path), "large", "100")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    seen: list[int] = json.loads(done.stdout)
    assert len(seen) == 100
    assert max(seen[-10:]) - min(seen[10:20]) < 32 << 20


def test_engines_that_would_not_be_chosen_are_not_loaded(tmp_path: Path) -> None:
    here, shop = this_device("auto"), load_profile("store-pc-cpu")
    plain = open_bundle(bundle(tmp_path / "plain", scaling(2.0)))
    assert sure_engine(plain, here) == "onnxruntime"
    assert sure_engine(plain, shop) is None  # the profile has an order of its own
    receipt = plain.manifest.receipts[0]
    speed = Latency(p50_ms=1, p95_ms=1, threads=1, runs=1)
    fast = receipt.model_copy(update={"engine": "openvino", "machine": here.cpu.name, "latency": speed})
    measured = plain.manifest.model_copy(update={"receipts": (fast,)})
    assert sure_engine(ModelBundle(plain.root, measured), here) is None


def test_no_thread_is_left_behind(two_versions: Path) -> None:
    before = threading.active_count()

    async def act(models: ServedModels) -> None:
        await scaled(models)

    play(two_versions, act)
    left = [thread.name for thread in threading.enumerate()]
    assert threading.active_count() <= before, left
