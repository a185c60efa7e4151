"""NVIDIA Triton through pytriton, with its dynamic batcher; run by its own environment."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

models, port = Path(sys.argv[1]), int(sys.argv[2])
config = TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2, log_verbose=0)


def answering(session):
    @batch
    def infer(x):
        return session.run(None, {"x": x})

    return infer


with Triton(config=config) as triton:
    for file in sorted(models.glob("*.onnx")):
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        taken, given = session.get_inputs()[0], session.get_outputs()[0]
        triton.bind(
            model_name=file.stem,
            infer_func=[answering(session)] * 2,  # two cores
            inputs=[Tensor(name="x", dtype=np.float32, shape=tuple(taken.shape[1:]))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=tuple(given.shape[1:]))],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=False,
        )
    triton.serve()
