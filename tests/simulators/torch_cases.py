"""The modules of `tiny_models` as recipes name them, inputs for them, and what torch itself answers."""

from typing import Any

import numpy as np
import torch

from edge_runtime.contract.task import ImageInput

MODULES = "tests.simulators.tiny_models"
IMAGE = {"layout": "nchw", "scale": 1 / 255, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
PICTURE = {"name": "image", "shape": [1, 3, 16, 24], "dynamic": [0, 2, 3]}
TEXT = [
    {"name": name, "shape": [1, 7], "dtype": "int64", "dynamic": [0, 1]}
    for name in ("input_ids", "attention_mask")
]
CLASSIFIER: dict[str, Any] = {
    "source": {"module": f"{MODULES}:Classifier", "inputs": [PICTURE]},
    "input": IMAGE,
}
DETECTOR: dict[str, Any] = {
    "source": {"module": f"{MODULES}:Detector", "inputs": [PICTURE]},
    "input": IMAGE,
}
ENCODER: dict[str, Any] = {"source": {"module": f"{MODULES}:Encoder", "inputs": TEXT}}
IDS = np.array([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 0, 0, 0]])
MASK = np.array([[1] * 7, [1] * 4 + [0] * 3])
ONE = [{"name": "x", "shape": [1, 3]}]
OUTPUTS = ("boxes", "scores_classes", "scores_objectness")


def quietly(share: float, doing: str) -> None:
    """Progress that nobody watches."""


def picture(height: int, width: int, channels_last: bool = False) -> Any:
    shape = (1, height, width, 3) if channels_last else (1, 3, height, width)
    return np.random.default_rng(0).integers(0, 256, shape)


def answers(module: torch.nn.Module, *inputs: Any) -> list[Any]:
    """What torch gives, flat."""
    with torch.no_grad():
        found = module.eval()(*map(torch.from_numpy, inputs))
    if isinstance(found, torch.Tensor):
        return [found.numpy()]
    return [found.boxes.numpy(), *(part.numpy() for part in found.scores.values())]


def normalised(pixels: Any) -> Any:
    """`(pixel * scale - mean) / std` of uint8 NHWC, as NCHW float32: what the module was trained on."""
    image = ImageInput.model_validate(IMAGE)
    real = (pixels * image.scale - np.array(image.mean)) / np.array(image.std)
    return np.ascontiguousarray(real.transpose(0, 3, 1, 2), np.float32)


def assert_close(found: Any, wanted: Any, relative: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= relative * np.abs(wanted).max()
