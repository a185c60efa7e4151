"""A runtime for MLServer that runs an ONNX file; imported in its environment."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

THREADS = ThreadPoolExecutor(2)


class OnnxModel(MLModel):
    async def load(self) -> bool:
        file = Path(os.environ["SERVED_MODELS"]) / f"{self.name}.onnx"
        self.session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        loop = asyncio.get_running_loop()
        (y,) = await loop.run_in_executor(THREADS, lambda: self.session.run(None, {"x": x}))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])
