"""`edge-runtime serve` with models of text behind a web server: entities, vectors, quotas under load."""

import threading
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import openai
import pytest
from numpy.typing import NDArray

from cloud_fallback.serving.keys import KeyRing
from converters.bundle.writer import BuiltVariant, write
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.result import Entities
from edge_runtime.contract.task import EmbeddingSpec, TaskSpec, TextInput, TokenClassificationSpec
from edge_runtime.runtime.client import connect
from tests.endtoend.test_serve import Process, serving
from tests.simulators.text_bundles import table_model, write_words

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
NAMES = ("Ada", "Lovelace", "London", "met", "in")
TEXT = "Ada Lovelace met Ada in London"
PEOPLE = [("PER", "Ada Lovelace", 0, 12), ("PER", "Ada", 17, 20), ("LOC", "London", 24, 30)]
FEW, MANY = 20, 1000
"""Requests a minute of the two keys."""


def save(root: Path, name: str, table: NDArray[np.float32], task: TaskSpec) -> None:
    """Write a bundle whose model looks each token up; rows 0 to 3 are the special tokens'."""
    steps = root.parent / f"{name}.steps"
    steps.mkdir()
    onnx.save(table_model(table, pooled=False), steps / "model.onnx")
    (steps / "facts.json").write_text("{}")
    write(
        root / name,
        name=name,
        version="1.0.0",
        licence="Apache-2.0",
        source="made for a test",
        task=task,
        variants=[BuiltVariant("onnx-fp32", Format.ONNX, Precision.FP32, steps, ())],
        receipts=[],
        tokenizer=write_words(steps / "tokenizer.json", NAMES),
    )


def repository(root: Path) -> Path:
    """`people`, which tags words, and `vectors`, in which each word has an axis of its own."""
    tags = np.zeros((4 + len(NAMES), len(TAGS)), np.float32)
    for word, tag in zip(NAMES, ("B-PER", "I-PER", "B-LOC", "O", "O"), strict=True):
        tags[4 + NAMES.index(word), TAGS.index(tag)] = 9.0
    save(root, "people", tags, TokenClassificationSpec(kind="token-classification", labels=TAGS))
    axes = np.eye(4 + len(NAMES), dtype=np.float32)
    axes[:4] = 0.0
    spec = EmbeddingSpec(kind="embedding", input=TextInput(max_length=16), pooling="mean", normalize=True)
    save(root, "vectors", axes, spec)
    return root


@contextmanager
def web(folder: Path) -> Generator[str, None, None]:
    """A plain web server that lists its folders."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    ring = KeyRing(file, must_exist=False)
    return file, ring.create("few", requests_per_minute=FEW), ring.create("many", requests_per_minute=MANY)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, str, str]) -> Iterator[Process]:
    """What lies behind a URL, served."""
    folder = tmp_path_factory.mktemp("web")
    repository(folder / "models")
    with pytest.MonkeyPatch.context() as patched, web(folder) as url:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with serving(f"{url}/models", "--keys", str(keys[0])) as process:
            yield process
            assert process.stop() == 0


def test_bundles_behind_http_are_served(served: Process) -> None:
    assert {(one["model"], one["state"]) for one in served.models} == {
        ("people", "READY"),
        ("vectors", "READY"),
    }


def test_entities_over_http(served: Process, keys: tuple[Path, str, str]) -> None:
    headers = {"authorization": f"Bearer {keys[2]}"}
    got = httpx.post(f"{served.url}/v1/predict/people", json={"text": TEXT}, headers=headers)
    assert got.status_code == 200
    result = got.json()["result"]
    found = [(one["label"], one["text"], one["start"], one["end"]) for one in result["entities"]]
    assert (result["kind"], found) == ("token-classification", PEOPLE)
    with connect(served.url, token=keys[2]) as client:
        value = client.predict("people", TEXT).value
    assert isinstance(value, Entities)
    assert [(one.label, one.text, one.start, one.end) for one in value.entities] == PEOPLE


def test_vectors_by_the_openai_client(served: Process, keys: tuple[Path, str, str]) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=keys[2], max_retries=0) as client:
        got = client.embeddings.create(model="vectors", input=["Ada met", "London"])
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="people", input="Ada")
    first, second = (np.array(one.embedding) for one in got.data)
    expected = np.zeros(4 + len(NAMES))
    expected[[4, 7]] = 0.5**0.5
    np.testing.assert_allclose(first, expected, atol=1e-6)
    assert second[4 + NAMES.index("London")] == pytest.approx(1.0)
    assert got.usage.prompt_tokens == 7  # of each text, its two special ones among them


def test_two_keys_under_load_do_not_touch_each_other(served: Process, keys: tuple[Path, str, str]) -> None:
    def ask(key: str) -> tuple[str, int, str]:
        got = httpx.post(
            f"{served.url}/v1/predict/people",
            json={"text": TEXT},
            headers={"authorization": f"Bearer {key}"},
            timeout=60,
        )
        return key, got.status_code, got.headers.get("retry-after", "")

    asked: list[Any] = [key for _ in range(60) for key in keys[1:]]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(ask, asked))
    counts = Counter((key, status) for key, status, _ in got)
    assert counts[keys[2], 200] == 60
    # The bucket fills while the requests run: a few more than it held may pass.
    assert FEW <= counts[keys[1], 200] < 60
    assert counts[keys[1], 200] + counts[keys[1], 429] == 60
    assert all(int(wait) >= 1 for _, status, wait in got if status == 429)
