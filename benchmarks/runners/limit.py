"""The limit: bare PyAV decoding and a bare onnxruntime session on a ready input. Nothing can be cheaper.

Resizes, converts, decodes boxes, tracks and reports nothing. A thread a camera and one shared session of one
thread, as ours.
"""

import threading
from collections.abc import Callable

import av
import numpy as np
import onnxruntime
from meter import Meter, order


def decode(clip: str, decoding: dict[str, object], step: Callable[[], bool]) -> None:
    """Decode a recording, calling `step` after each frame until it says stop."""
    with av.open(clip) as container:
        stream = container.streams.video[0]
        stream.thread_type = str(decoding["thread_type"]).upper()
        stream.codec_context.thread_count = int(str(decoding["threads"]))
        stream.codec_context.options = {"skip_loop_filter": str(decoding["skip_loop_filter"])}
        for _ in container.decode(stream):
            if step():
                return


def main() -> None:
    asked = order()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(asked["model"], options, providers=["CPUExecutionProvider"])
    declared = session.get_inputs()[0]
    ready = {declared.name: np.full(declared.shape, 0.4, np.float32)}
    meter = Meter(asked["warm_up"], asked["frames"])
    turn = threading.Lock()
    over = threading.Event()

    def step() -> bool:
        session.run(None, ready)
        with turn:
            if not over.is_set() and meter.frame():
                over.set()
        return over.is_set()

    cameras = [
        threading.Thread(target=decode, args=(asked["clip"], asked["decoding"], step))
        for _ in range(asked["cameras"])
    ]
    for camera in cameras:
        camera.start()
    for camera in cameras:
        camera.join()
    meter.report()


if __name__ == "__main__":
    main()
