"""Played with served models: start a repository, act, close; and the request most acts begin with."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from cloud_fallback.serving.backend import Pick, ServedModels, ServingOptions, newest
from cloud_fallback.serving.repository import Repository
from edge_runtime.contract.request import Request

X = np.arange(8, dtype=np.float32).reshape(2, 4)
OPTIONS = ServingOptions(instances=2, threads=1)


def play(
    root: Path,
    act: Callable[[ServedModels], Awaitable[None]],
    options: ServingOptions = OPTIONS,
    pick: Pick = newest,
) -> None:
    async def whole() -> None:
        models = ServedModels(Repository(root), options, pick=pick)
        await models.start()
        try:
            await act(models)
        finally:
            await models.close()

    asyncio.run(whole())


def asked(value: Any = None, model: str = "scale", **told: Any) -> Request:
    return Request("id", model, {"x": X} if value is None else value, **told)
