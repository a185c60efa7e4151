"""ultralytics `track` with ByteTrack, streamed, people only: its documented way over a video.

ByteTrack is its cheaper tracker; the default, BoT-SORT, estimates camera motion on every frame as well.
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")

from meter import Meter, one_thread_sessions, order

asked = order()  # before torch and onnxruntime count the cores they may use
if not asked.get("as_installed"):
    one_thread_sessions()

from ultralytics import YOLO  # noqa: E402


def main() -> None:
    source = asked["clip"]
    if asked["cameras"] > 1:
        listed = Path(tempfile.mkdtemp()) / "cameras.streams"
        listed.write_text("\n".join([asked["clip"]] * asked["cameras"]))
        source = str(listed)
    meter = Meter(asked["warm_up"], asked["frames"])
    found = 0
    model = YOLO(asked["model"], task="detect")
    for result in model.track(
        source,
        stream=True,
        stream_buffer=True,  # several recordings: every frame, as with one
        imgsz=asked["size"],
        conf=0.25,
        classes=[0],
        tracker="bytetrack.yaml",
        persist=True,
        device="cpu",
        verbose=False,
    ):
        found += len(result.boxes)
        if meter.frame():
            break
    meter.report(found=found / meter.seen)
    os._exit(0)  # its reading threads do not end with the generator


if __name__ == "__main__":
    main()
