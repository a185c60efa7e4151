"""The rivals' own environments, made on first use with exact versions. Nothing of them enters ours."""

import os
import subprocess
import sys
from pathlib import Path

from clips import CACHE

TORCH = "torch==2.13.0"
"""Installed first and alone: otherwise a plain torch, with gigabytes of CUDA, comes as a dependency."""
ULTRALYTICS = (
    ("--no-deps", "ultralytics==8.4.190", "ultralytics-thop==2.2.3", "torchvision==0.28.0"),
    (
        "numpy==2.3.5", "opencv-python-headless==4.14.0.94", "pillow==13.0.0", "pyyaml==6.0.3", "lap==0.5.13",
        "matplotlib==3.11.2", "polars==2.1.0", "psutil==7.2.2", "requests==2.34.2", "scipy==1.17.1",
        "nvidia-ml-py==13.615.71", "onnx==1.23.2", "onnxruntime==1.32.0", "onnxslim==0.1.98",
        "openvino==2026.4.1", "nncf==3.4.0",
    ),
)  # fmt: skip
ROBOFLOW = (("inference==1.8.3",),)

MEND = """

# The published wheel's C++ part needs CUDA. The one operator the detectors use, on the CPU, through OpenCV.
_library = torch.library.Library("torchvision", "DEF")
_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _nms(dets, scores, iou_threshold):
    import cv2

    boxes = dets.numpy().copy()
    boxes[:, 2:] -= boxes[:, :2]
    keep = cv2.dnn.NMSBoxes(boxes, scores.numpy(), 0.0, iou_threshold)
    return torch.as_tensor(keep, dtype=torch.int64).reshape(-1)


_library.impl("nms", _nms, "CPU")


def _assert_has_ops():
    pass
"""


def ultralytics() -> Path:
    """The Python of the ultralytics environment, which also trains, exports and quantizes the model."""
    return _environment("ultralytics-venv", ULTRALYTICS)


def roboflow() -> Path:
    """The Python of the roboflow environment."""
    return _environment("roboflow-venv", ROBOFLOW)


def as_installed() -> dict[str, str]:
    """The environment variables under which a runner starts the threads it likes."""
    return os.environ | {"YOLO_CONFIG_DIR": str(CACHE / "yolo-config")}


def one_thread() -> dict[str, str]:
    """The environment variables under which every runner, ours too, is compared: one thread a library."""
    return as_installed() | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENCV_FFMPEG_THREADS": "1",
    }


def _environment(name: str, installs: tuple[tuple[str, ...], ...]) -> Path:
    folder = CACHE / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists() or ready.read_text() != repr(installs):
        print(f"making {folder} (once, several minutes)", file=sys.stderr)
        subprocess.run((sys.executable, "-m", "venv", "--clear", str(folder)), check=True)
        for packages in (("--upgrade", "pip==26.3"), (TORCH,), *installs):
            subprocess.run(
                (str(python), "-m", "pip", "install", "--quiet", *packages), check=True, stdout=sys.stderr
            )
        _mend_torchvision(python)
        (CACHE / "yolo-config").mkdir(exist_ok=True)
        ready.write_text(repr(installs))
    return python


def _mend_torchvision(python: Path) -> None:
    """Append an NMS to torchvision, whose wheel finds no CUDA beside the CPU build of torch."""
    found = python.parent.parent.glob("lib/python*/site-packages/torchvision/extension.py")
    for extension in found:
        if MEND not in extension.read_text():
            extension.write_text(extension.read_text() + MEND)
