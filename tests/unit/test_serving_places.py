"""What callers are told names no folder of the server."""

import asyncio
from pathlib import Path

import httpx
import pytest

from cloud_fallback.serving.app import make_app
from cloud_fallback.serving.places import placeless, placeless_error, placeless_run
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.contract.errors import EngineError, InputError
from edge_runtime.contract.tensors import Tensors
from tests.simulators.served_bundles import bundle, scaling


@pytest.mark.parametrize(
    ("text", "root", "told"),
    [
        ("cannot open /srv/bundles/a/model.onnx: no", "/srv/bundles", "cannot open a/model.onnx: no"),
        ("cannot open /home/me/.cache/x/model.onnx: no", "bundles", "cannot open model.onnx: no"),
        ("cannot open bundles/a/model.onnx", "bundles", "cannot open a/model.onnx"),
        ("tokenizer '/srv/a/tokenizer.json', bad", ".", "tokenizer 'tokenizer.json', bad"),
        (r"cannot open C:\srv\a\model.onnx: no", ".", "cannot open model.onnx: no"),
        (
            "https://models.example.com/a/b is gone, 3/4 of it",
            ".",
            "https://models.example.com/a/b is gone, 3/4 of it",
        ),
    ],
)
def test_folders_are_left_out(text: str, root: str, told: str) -> None:
    assert placeless(text, root) == told


def test_an_engines_error_keeps_its_kind_and_a_callers_its_words() -> None:
    def failing(_: Tensors) -> Tensors:
        raise EngineError("failed to run /srv/a/model.bin", do="Look into /srv/a/log")

    with pytest.raises(EngineError) as told:
        placeless_run(failing, "/srv")({})
    assert str(told.value) == "failed to run a/model.bin. Look into a/log"
    own = InputError("text", got="/etc/passwd/x")
    assert placeless_error(own, "/srv") is own


async def _index_and_load(root: Path) -> str:
    app = make_app(ServeSettings(str(root)))
    await app.start()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8009"
    ) as client:
        index = await client.post("/v2/repository/index")
        loaded = await client.post("/v2/repository/models/torn/load")
        assert loaded.status_code == 500
        asked = await client.get("/v2/models/torn")
        assert asked.status_code == 503
    await app.stop()
    return index.text + loaded.text + asked.text


def test_the_index_and_a_failed_load_name_no_folder(tmp_path: Path) -> None:
    torn = bundle(tmp_path / "torn", scaling(2.0), name="torn")
    (torn / "model.onnx").write_bytes(b"torn")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bundle.json").write_text("{")
    assert str(tmp_path) not in asyncio.run(_index_and_load(tmp_path))
