"""MLServer with adaptive batching; run by its own environment. Takes JSON: it refuses binary tensors."""

import asyncio
import os
import sys
from pathlib import Path

models, port = Path(sys.argv[1]), int(sys.argv[2])
os.environ["SERVED_MODELS"] = str(models)
sys.path.insert(0, str(Path(__file__).parent))

from mlserver import MLServer, ModelSettings, Settings  # noqa: E402
from mlserver_onnx import OnnxModel  # noqa: E402

settings = Settings(
    debug=False,
    host="127.0.0.1",
    http_port=port,
    grpc_port=port + 1,
    metrics_port=port + 2,
    parallel_workers=0,  # faster than its workers here, which pay for pickling
    access_log=False,
)


async def main() -> None:
    server = MLServer(settings)
    described = [
        ModelSettings(name=file.stem, implementation=OnnxModel, max_batch_size=64, max_batch_time=0.002)
        for file in sorted(models.glob("*.onnx"))
    ]
    await server.start(described)


asyncio.run(main())
