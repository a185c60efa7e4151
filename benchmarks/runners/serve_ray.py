"""Ray Serve with `@serve.batch`; run by its own environment. Takes raw bytes, one row a request."""

import signal
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

models, port = Path(sys.argv[1]), int(sys.argv[2])


@serve.deployment(max_ongoing_requests=256)
class Onnx:
    def __init__(self, file: str) -> None:
        self.session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.shape = self.session.get_inputs()[0].shape[1:]

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def rows(self, inputs: list) -> list:
        return list(self.session.run(None, {"x": np.stack(inputs)})[0])

    async def __call__(self, request: Request) -> Response:
        x = np.frombuffer(await request.body(), np.float32).reshape(self.shape)
        y = await self.rows(x)
        return Response(y.tobytes(), media_type="application/octet-stream")


ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="error")
serve.start(http_options={"host": "127.0.0.1", "port": port, "access_log": False})
for file in sorted(models.glob("*.onnx")):
    # A share of a core, so that three models and the proxy find a place on two.
    deployment = Onnx.options(name=file.stem, ray_actor_options={"num_cpus": 1})
    serve.run(deployment.bind(str(file)), name=file.stem, route_prefix=f"/{file.stem}")
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
stop.wait()
serve.shutdown()
ray.shutdown()
