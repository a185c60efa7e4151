"""A conversion as a user starts it: a folder with pictures, a profile and a recipe, and the command line."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from typer.testing import CliRunner

from converters.bundle.sign import make_keys
from edge_runtime.cli.app import app

PROFILE = """\
name: kiosk
title: A kiosk with everything
cpu: {name: some, arch: x86_64, cores: 2, threads: 2, features: [avx_vnni]}
memory_bytes: 4294967296
memory_budget_bytes: 2147483648
engines:
  - {engine: onnxruntime, formats: [onnx], precisions: [int8, fp32]}
  - {engine: openvino, formats: [openvino, onnx], precisions: [fp32]}
  - {engine: coreml, formats: [coreml], precisions: [fp16]}
target_latency_ms: 10
facts: [{says: nothing, source: this test}]
"""
RECIPE = """\
name: signs
version: 2.1.0
licence: Apache-2.0
source:
  module: tests.simulators.tiny_models:Classifier
  inputs: [{name: image, shape: [1, 3, 16, 24]}]
task:
  kind: classification
  input: {layout: nchw, scale: 0.00392156862745098, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4], fit: stretch}
  labels: [a, b, c, d, e]
samples: {path: pictures, labels: labels.csv, calibration: 8, verification: 8}
profiles: [kiosk.yaml]
budgets: {slower_than_fp32: 1000, agreement: 0.5, accuracy_drop: 1.0}
"""


@dataclass(frozen=True)
class Called:
    """What one call of the command line left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def call(folder: Path, *arguments: object) -> Called:
    """Call `edge-runtime convert` in this process."""
    done = CliRunner().invoke(app, ["convert", *map(str, arguments)], env={"COLUMNS": "200"})
    return Called(done.exit_code, done.stdout, done.stderr, folder)


def furnish(folder: Path) -> Path:
    """Fill a folder as a user has it: pictures, labels, a profile, a recipe, a key."""
    (folder / "pictures").mkdir()
    dice = np.random.default_rng(7)
    rows = ["file,label"]
    for at in range(16):
        coarse = dice.integers(0, 256, (2, 3, 3), np.uint8)
        picture = cv2.resize(coarse, (48, 32), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / "pictures" / f"{at:02}.png"), picture)
        rows.append(f"{at:02}.png,{at % 5}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "kiosk.yaml").write_text(PROFILE, "utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, "utf-8")
    make_keys(folder / "key.pem")
    return folder
