"""Makes the benchmark's YOLO11n in the rival's own environment: labels, training, ONNX exports.

Run by `model.py` with the Python of the ultralytics environment, never by ours. Nobody may ship the weights:
they are made on the spot, for the comparison only. Folds, quantizes and measures nothing; `model.py` does.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")

import cv2
import numpy as np
import onnxruntime

HELD_OUT = 0.25
"""Share of the recording, its end, that neither training nor calibration sees."""
TEACHER_PX = 416
SEED = 7


def label(teacher: Path, frames: list[Path], folder: Path) -> None:
    """Write what the teacher (YOLOX-tiny, person only) sees in each frame as YOLO label files."""
    folder.mkdir(parents=True, exist_ok=True)
    session = onnxruntime.InferenceSession(str(teacher), providers=["CPUExecutionProvider"])
    for path in frames:
        target = folder / f"{path.stem}.txt"
        if not target.exists():
            picture = cv2.imread(str(path))
            height, width = picture.shape[:2]
            boxes = _people(session, picture)
            centres, sizes = (boxes[:, :2] + boxes[:, 2:4]) / 2, boxes[:, 2:4] - boxes[:, :2]
            rows = np.hstack([centres, sizes]) / (width, height, width, height)
            target.write_text("".join("0 " + " ".join(f"{v:.5f}" for v in row) + "\n" for row in rows))


def _people(session: onnxruntime.InferenceSession, picture: np.ndarray) -> np.ndarray:
    """Look at the left and the right square of the picture, so that far people are not too small."""
    height, width = picture.shape[:2]
    found = []
    for left in (0, width - height):
        tile = cv2.resize(picture[:, left : left + height], (TEACHER_PX, TEACHER_PX))
        tensor = tile.transpose(2, 0, 1)[None].astype(np.float32)
        rows = session.run(None, {session.get_inputs()[0].name: tensor})[0][0]
        rows = rows[rows[:, 4] > 0.4].astype(np.float64)
        rows[:, :4] = rows[:, :4] * (height / TEACHER_PX) + (left, 0, left, 0)
        found.append(rows)
    rows = np.concatenate(found)
    rows[:, :4] = rows[:, :4].clip(0, (width, height, width, height))
    sides = np.hstack([rows[:, :2], rows[:, 2:4] - rows[:, :2]])
    keep = cv2.dnn.NMSBoxes(sides, rows[:, 4].astype(np.float32), 0.4, 0.5)
    return rows[np.asarray(keep, dtype=int).reshape(-1)]


def train(data: Path, weights: Path, *, epochs: int) -> None:
    """Train YOLO11n from its YAML, 80 classes as everybody has them, of which this scene holds one."""
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(os.cpu_count() or 1)
    model = YOLO("yolo11n.yaml")
    model.train(
        data=str(data),
        imgsz=320,
        epochs=epochs,
        batch=8,
        optimizer="AdamW",
        lr0=0.002,
        warmup_epochs=0.5,
        scale=0.7,
        close_mosaic=3,
        workers=0,
        seed=SEED,
        device="cpu",
        plots=False,
        val=False,
        project=str(weights.parent / "runs"),
        exist_ok=True,
        verbose=False,
    )
    Path(model.trainer.last).replace(weights)


def export(weights: Path, folder: Path) -> None:
    """Write the ONNX files each runner is at its best with, and the square ones most people use."""
    from ultralytics import YOLO

    wanted = {
        "square-320": {"imgsz": 320},
        "square-640": {"imgsz": 640},
        "dynamic": {"imgsz": 640, "dynamic": True},
        "rect-320": {"imgsz": (192, 320)},
        "rect-640": {"imgsz": (384, 640)},
    }
    for name, options in wanted.items():
        made = YOLO(str(weights)).export(format="onnx", simplify=True, opset=17, device="cpu", **options)
        Path(made).replace(folder / f"{name}.onnx")


def main() -> None:
    order = json.loads(sys.argv[1])
    folder = Path(order["folder"])
    frames = sorted((folder / "images").glob("*.jpg"))
    label(Path(order["teacher"]), frames, folder / "labels")
    seen = frames[: int(len(frames) * (1 - HELD_OUT))]
    (folder / "train.txt").write_text("\n".join(map(str, seen)))
    (folder / "held-out.txt").write_text("\n".join(map(str, frames[len(seen) :])))
    names = {"0": "person"} | {str(i): f"class-{i}" for i in range(1, 80)}
    data = folder / "data.yaml"  # JSON is YAML
    data.write_text(
        json.dumps({"path": str(folder), "train": "train.txt", "val": "held-out.txt", "names": names})
    )
    weights = folder / "yolo11n.pt"
    if not weights.exists():
        train(data, weights, epochs=order["epochs"])
    export(weights, folder)


if __name__ == "__main__":
    main()
