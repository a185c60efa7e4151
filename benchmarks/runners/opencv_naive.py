"""A loop as tutorials show it: VideoCapture, a square letterbox, a session, NMS. No tracking, no rules."""

import cv2
import numpy as np
import onnxruntime
from meter import Meter, order


def main() -> None:
    asked = order()
    size = asked["size"]
    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(asked["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    meter = Meter(asked["warm_up"], asked["frames"])
    video = cv2.VideoCapture(asked["clip"])
    found = 0
    while True:
        good, picture = video.read()
        if not good:
            break
        height, width = picture.shape[:2]
        factor = size / max(height, width)
        small = cv2.resize(picture, (round(width * factor), round(height * factor)))
        top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
        square = cv2.copyMakeBorder(
            small, top, size - small.shape[0] - top, left, size - small.shape[1] - left,
            cv2.BORDER_CONSTANT, value=(114, 114, 114),
        )  # fmt: skip
        tensor = cv2.dnn.blobFromImage(square, 1 / 255, swapRB=True)
        rows = session.run(None, {name: tensor})[0][0].T
        scores = rows[:, 4:].max(axis=1)
        rows, scores = rows[scores > 0.25], scores[scores > 0.25]
        sides = rows[:, :4].copy()
        sides[:, :2] = (rows[:, :2] - rows[:, 2:4] / 2 - (left, top)) / factor
        sides[:, 2:] /= factor
        found += len(cv2.dnn.NMSBoxes(sides.astype(np.float64), scores, 0.25, 0.7))
        if meter.frame():
            break
    meter.report(found=found / meter.seen)


if __name__ == "__main__":
    main()
