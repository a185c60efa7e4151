"""LitServe with its batching; run by its own environment. Takes a row as base64 in JSON, not a raw body."""

import base64
import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime as ort
from fastapi import Response

models, port = Path(sys.argv[1]), int(sys.argv[2])


class OnnxApi(litserve.LitAPI):
    def __init__(self, file: Path, **options):
        super().__init__(**options)
        self.file = str(file)

    def setup(self, device):
        self.session = ort.InferenceSession(self.file, providers=["CPUExecutionProvider"])
        self.shape = self.session.get_inputs()[0].shape[1:]

    def decode_request(self, request):
        return np.frombuffer(base64.b64decode(request["x"]), np.float32).reshape(self.shape)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return self.session.run(None, {"x": x})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    apis = [
        OnnxApi(file, max_batch_size=64, batch_timeout=0.002, api_path=f"/{file.stem}")
        for file in sorted(models.glob("*.onnx"))
    ]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
