"""What every decoder must do, against the whole text read at once by ONNX's own reference evaluator."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edge_runtime.contract.errors import BundleError, ConfigError, EngineError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.decoder import DECODERS, Decoder, open_decoder
from edge_runtime.engines.registry import load_engine
from tests.simulators.tiny_decoder import HEADS, LAYERS, SIZE, VOCABULARY, decoder, write_genai

TEXT = tuple(int(token) for token in np.random.default_rng(7).integers(0, VOCABULARY, 24))
TOLERANCE = {"float32": 1e-5, "float16": 0.03}


@pytest.fixture(
    scope="module", params=[("onnxruntime", "float32"), ("onnxruntime", "float16"), ("genai", "float32")]
)
def form(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An engine, and the numbers that the model calculates with."""
    missing = load_engine(request.param[0]).available()
    if missing is not None:
        pytest.skip(missing)
    return request.param


@pytest.fixture(scope="module")
def dtype(form: tuple[str, str]) -> str:
    return form[1]


@pytest.fixture(scope="module")
def opened(form: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    folder = tmp_path_factory.mktemp("decoder")
    engine, dtype = form
    if engine == "genai":
        found = open_decoder(engine, write_genai(folder), EngineOptions())
    else:
        onnx.save(decoder(dtype=dtype), folder / "model.onnx")
        found = open_decoder(engine, folder / "model.onnx", EngineOptions())
    yield found
    found.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("decoder") / "model.onnx"
    onnx.save(decoder(), file)
    return file


@pytest.fixture(scope="module")
def expected() -> NDArray[np.float32]:
    """(tokens, vocabulary): logits after each token of the text, past and present in one run."""
    empty = np.zeros((1, HEADS, 0, SIZE), np.float32)
    past = {f"past_key_values.{at}.{part}": empty for at in range(LAYERS) for part in ("key", "value")}
    given: dict[str, Any] = {
        "input_ids": np.array([TEXT]),
        "attention_mask": np.ones((1, len(TEXT)), np.int64),
        "position_ids": np.arange(len(TEXT))[None],
        **past,
    }
    found: Any = ReferenceEvaluator(decoder()).run(["logits"], given)
    return np.asarray(found[0][0], np.float32)


@pytest.mark.parametrize("sizes", [(1,) * 24, (24,), (5, 1, 1, 10, 1, 6)])
def test_the_past_stands_for_what_was_read(
    opened: Decoder, expected: NDArray[np.float32], sizes: tuple[int, ...], dtype: str
) -> None:
    reading = opened.start()
    end = 0
    for size in sizes:
        logits = reading.read(TEXT[end : end + size])
        end += size
        assert logits.shape == (VOCABULARY,)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected[end - 1], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    reading.close()


def test_texts_in_turns_do_not_disturb_each_other(
    opened: Decoder, expected: NDArray[np.float32], dtype: str
) -> None:
    one, other = opened.start(), opened.start()
    for at, token in enumerate(TEXT):
        other.read([TEXT[-1 - at]])
        np.testing.assert_allclose(
            one.read([token]), expected[at], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
        )


def test_texts_on_several_threads(opened: Decoder, expected: NDArray[np.float32], dtype: str) -> None:
    wrong: list[int] = []

    def read() -> None:
        reading = opened.start()
        for at, token in enumerate(TEXT):
            if np.abs(reading.read([token]) - expected[at]).max() > 10 * TOLERANCE[dtype]:
                wrong.append(at)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_copy_of_the_past(model: Path) -> None:
    found = open_decoder("onnxruntime", model, EngineOptions())
    reading: Any = found.start()
    reading.read(TEXT[:3])
    before = {name: value.data_ptr() for name, value in reading._past.items()}
    held = dict(reading._past)
    reading.read(TEXT[3:4])
    # What the run before gave lies where it lay, and is not what the next run gave.
    assert {name: value.data_ptr() for name, value in held.items()} == before
    assert all(value.shape()[2] == 4 for value in reading._past.values())
    assert all(value.shape()[2] == 3 for value in held.values())
    found.close()


def test_closed_is_closed(model: Path) -> None:
    found = open_decoder("onnxruntime", model, EngineOptions())
    reading, other = found.start(), found.start()
    reading.read([1])
    reading.close()
    reading.close()
    with pytest.raises(EngineError, match="this text is closed"):
        reading.read([2])
    found.close()
    with pytest.raises(EngineError, match="closed"):
        other.read([1])
    with pytest.raises(EngineError, match="closed"):
        found.start()


def test_a_model_without_a_mask(tmp_path: Path, expected: NDArray[np.float32]) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(decoder(without=("attention_mask",)), file)
    reading = open_decoder("onnxruntime", file, EngineOptions()).start()
    reading.read(TEXT[:-1])
    np.testing.assert_allclose(reading.read(TEXT[-1:]), expected[-1], atol=1e-5, rtol=1e-5)


def _rename(model: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    for value in (*model.graph.input, *model.graph.output):
        if value.name == old:
            value.name = new
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    return model


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("past_key_values.0.key", "cache.0.key", "got input cache.0.key"),
        ("present.1.value", "cache.1.value", r"got no output present.1.value"),
        ("logits", "scores", "got no output logits"),
        ("input_ids", "tokens", "got input tokens"),
    ],
)
def test_other_names_are_no_decoder(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(_rename(decoder(), old, new), file)
    with pytest.raises(BundleError, match=said):
        open_decoder("onnxruntime", file, EngineOptions())


def test_engines_that_do_not_generate(model: Path) -> None:
    with pytest.raises(ConfigError, match="one that generates: onnxruntime, genai, got openvino"):
        open_decoder("openvino", model, EngineOptions())
    assert set(DECODERS) == {"onnxruntime", "genai"}
