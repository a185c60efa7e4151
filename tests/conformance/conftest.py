"""The engines under test, and how a definition becomes a file each of them opens."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from graphs import FORMS, Graph, to_onnx, to_tflite

from edge_runtime.engines.base import Engine, EngineOptions, Session
from edge_runtime.engines.registry import load_engine

Write = Callable[[Graph], Path]
Open = Callable[..., Session]


@pytest.fixture(params=FORMS, ids="-".join)
def form(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def engine(form: tuple[str, str]) -> Engine:
    found = load_engine(form[0])
    why = found.available()
    if why:
        pytest.skip(why)
    return found


@pytest.fixture
def write(engine: Engine, form: tuple[str, str], tmp_path: Path) -> Write:
    """Writes a definition in the form under test."""

    def write(graph: Graph) -> Path:
        if form[1] == "tflite":
            file = tmp_path / "model.tflite"
            file.write_bytes(to_tflite(graph))
            return file
        file = tmp_path / "model.onnx"
        file.write_bytes(to_onnx(graph).SerializeToString())
        if form[1] == "onnx":
            return file
        import openvino

        folder = tmp_path / "ir"
        openvino.save_model(openvino.Core().read_model(file), folder / "model.xml", compress_to_fp16=False)
        return folder

    return write


@pytest.fixture
def open_graph(engine: Engine, write: Write) -> Iterator[Open]:
    """Opens a definition; every session is closed after the test."""
    opened: list[Session] = []

    def open_graph(graph: Graph, **options: object) -> Session:
        opened.append(engine.open(write(graph), options=EngineOptions(**options)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_graph
    for session in opened:
        session.close()
