"""Models that a replica holds, by a Ray Serve that keeps the least used ones no longer."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

import httpx
import pytest

from cloud_fallback.serving.app import App
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.ray_app import Arguments, Loading, app, model_of
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.contract.errors import ConfigError, UnknownModelError
from edge_runtime.protocol.backend import ModelState
from tests.simulators.parrot import Parrot


class FakeServe:
    """The part of `ray.serve` that decides which models a replica holds."""

    def __init__(self) -> None:
        self.named = ""

    def get_multiplexed_model_id(self) -> str:
        return self.named

    def multiplexed(self, *, max_num_models_per_replica: int) -> Callable[..., Any]:
        held: OrderedDict[str, Any] = OrderedDict()

        def decorate(load: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
            async def hold(model: str) -> Any:
                if model not in held:
                    if len(held) >= max_num_models_per_replica:
                        _, least = held.popitem(last=False)
                        await least.__del__()
                    held[model] = await load(model)
                held.move_to_end(model)
                return held[model]

            return hold

        return decorate


class Shelf(Parrot):
    """Several models, none loaded; remembers what was loaded and unloaded."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self.loaded: list[str] = []
        self.told: list[str] = []

    def index(self) -> list[ModelState]:
        return [
            ModelState(name, "1", "READY" if name in self.loaded else "UNAVAILABLE") for name in self.names
        ]

    async def start(self) -> None:
        """Nothing is loaded yet."""

    async def close(self) -> None:
        """It holds nothing."""

    async def load(self, model: str) -> None:
        if model == "broken":
            raise UnknownModelError("broken")
        self.loaded.append(model)
        self.told.append(f"load {model}")

    async def unload(self, model: str) -> None:
        self.loaded.remove(model)
        self.told.append(f"unload {model}")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/m/infer", "m"),
        ("/v2/models/m", "m"),
        ("/v1/predict/m", "m"),
        ("/v2/models", ""),
        ("/v2/health/ready", ""),
        ("/v1/embeddings", ""),
        ("/", ""),
    ],
)
def test_the_model_is_in_the_path(path: str, model: str) -> None:
    assert model_of(path) == model


def test_a_replica_loads_what_it_is_asked_for_and_lets_the_least_used_go() -> None:
    async def scene() -> None:
        shelf, serve = Shelf("a", "b", "c", "broken"), FakeServe()
        loading = Loading(App(ServeSettings(""), shelf, Metrics()), serve, most=2)
        transport = httpx.ASGITransport(loading)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for name in ("a", "b", "a", "c", "nobody", "broken"):
                await client.get(f"/v2/models/{name}/ready")
            serve.named = "a"
            assert (await client.get("/v2/health/live")).status_code == 200
        assert shelf.told[:4] == ["load a", "load b", "unload b", "load c"]
        assert shelf.loaded[-1] == "a"

    asyncio.run(scene())


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
def test_where_ray_is_missing_it_is_said() -> None:
    with pytest.raises(ConfigError, match=r"edge-runtime\[cloud,ray\]"):
        app(Arguments(bundles="bundles", no_auth=True))
