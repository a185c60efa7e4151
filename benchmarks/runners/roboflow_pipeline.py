"""roboflow `InferencePipeline` over a local model package: detection only, the sink counts.

The package is the library's own format for a model from disk, which it has to be allowed to read.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ |= {
    "ALLOW_INFERENCE_MODELS_DIRECTLY_ACCESS_LOCAL_PACKAGES": "True",
    "OFFLINE_MODE": "True",
    "TELEMETRY_OPT_OUT": "True",
    "METRICS_ENABLED": "False",
    "ENABLE_STREAM_API": "False",
    "MODEL_CACHE_DIR": tempfile.mkdtemp(),
}

from meter import Meter, one_thread_sessions, order

asked = order()  # before torch and onnxruntime count the cores they may use
if not asked.get("as_installed"):
    one_thread_sessions()

from inference import InferencePipeline  # noqa: E402


def package(model: Path, size: int) -> Path:
    """Lay the ONNX file out as the library's loader wants it."""
    folder = Path(tempfile.mkdtemp())
    shutil.copy(model, folder / "weights.onnx")
    names = ["person", *(f"class-{number}" for number in range(1, 80))]
    (folder / "class_names.txt").write_text("\n".join(names))
    config = {"model_architecture": "yolov11", "task_type": "object-detection", "backend_type": "onnx"}
    (folder / "model_config.json").write_text(json.dumps(config))
    network = {
        "training_input_size": {"height": size, "width": size},
        "dynamic_spatial_size_supported": False,
        "color_mode": "rgb",
        "resize_mode": "letterbox",
        "padding_value": 114,
        "input_channels": 3,
        "scaling_factor": 255,
    }
    inference = {
        "network_input": network,
        "forward_pass": {"static_batch_size": 1},
        "post_processing": {"type": "nms", "fused": False},
    }
    (folder / "inference_config.json").write_text(json.dumps(inference))
    return folder


def main() -> None:
    meter = Meter(asked["warm_up"], asked["frames"])
    found = 0

    def sink(predictions: object, _frames: object) -> None:
        nonlocal found
        for one in predictions if isinstance(predictions, list) else [predictions]:
            if one is not None:
                found += len(one["predictions"])
                if meter.frame():
                    meter.report(found=found / meter.seen)
                    os._exit(0)  # its decoding threads would run on to the end of the recording

    pipeline = InferencePipeline.init(
        video_reference=[asked["clip"]] * asked["cameras"],
        model_id=str(package(Path(asked["model"]), asked["size"])),
        on_prediction=sink,
        confidence=0.25,
        active_learning_enabled=False,
    )
    pipeline.start()
    pipeline.join()
    raise SystemExit(f"only {meter.seen} frames came")


if __name__ == "__main__":
    main()
