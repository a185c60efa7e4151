"""Loads a model, asks it and unloads it, again and again, and tells what memory the process then had.

    python -m tests.simulators.load_cycles REPOSITORY MODEL CYCLES

Prints the resident bytes after each cycle as a JSON list.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import psutil

from cloud_fallback.serving.backend import ServedModels, ServingOptions
from cloud_fallback.serving.repository import Repository
from edge_runtime.contract.request import Request


async def cycle(root: Path, model: str, count: int) -> list[int]:
    process, seen = psutil.Process(), list[int]()
    models = ServedModels(Repository(root), ServingOptions(instances=2, threads=1))
    await models.start()
    try:
        for _ in range(count):
            await models.load(model)
            width = models.describe(model, None).inputs[0].shape[1] or 1
            await models.infer(Request("id", model, {"x": np.ones((1, width), np.float32)}), None)
            await models.unload(model)
            seen.append(process.memory_info().rss)
    finally:
        await models.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(cycle(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))))
