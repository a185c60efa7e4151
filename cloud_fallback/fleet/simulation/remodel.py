"""Other versions of the shipped detector, made by changing bytes of its weights: good ones, and a poisoned.

Trains nothing: what it stands for is what a change of weights costs to ship, and what a broken one does.
"""

import hashlib
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from edge_runtime.contract.bundle import BundleManifest
from edge_runtime.contract.errors import BundleError

DETECTOR = "efficientdet-lite0"
_MANIFEST = "bundle.json"
_FIRST_ANCHOR = struct.pack("<4f", 0.0125, 0.0125, 0.075, 0.075)
_ANCHORS = 19_206
"""Of four numbers each; every box is computed from one of them."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where weights stand in the shipped detector's file: 8-bit, in one piece.

    Args:
        start: First byte.
        size_bytes: How many.
    """

    start: int
    size_bytes: int


LAST_LAYER = Weights(146_348, 51_840)
"""What makes classes of features: 810 × 64 (`class_net/class-predict`)."""


def make_version(folder: Path, version: str, change: Callable[[bytes], bytes] = bytes) -> Path:
    """Make a bundle of the shipped detector under another version.

    Args:
        folder: To be made.
        version: Of the bundle.
        change: What becomes of the model's file.

    Returns:
        The folder.

    Raises:
        BundleError: The shipped detector is not what it was.
    """
    with as_file(files("edge_runtime") / "models" / DETECTOR) as source:
        shutil.copytree(source, folder)
    manifest = BundleManifest.model_validate_json((folder / _MANIFEST).read_bytes())
    (variant,) = manifest.variants
    model = change((folder / variant.path).read_bytes())
    (folder / variant.path).write_bytes(model)
    changed = variant.model_copy(
        update={"sha256": hashlib.sha256(model).hexdigest(), "size_bytes": len(model)}
    )
    manifest = manifest.model_copy(update={"version": version, "variants": (changed,)})
    (folder / _MANIFEST).write_text(manifest.model_dump_json(indent=2, exclude_none=True), "utf-8")
    return folder


def poison(model: bytes) -> bytes:
    """Have every box be no number: it opens, runs as fast as ever, and finds nothing that can be used.

    Raises:
        BundleError: This is not the shipped detector.
    """
    start = model.find(_FIRST_ANCHOR)
    if start < 0:
        raise BundleError("the shipped detector", expected="its anchors", got="none found")
    size = 16 * _ANCHORS
    return model[:start] + struct.pack("<f", float("nan")) * (size // 4) + model[start + size :]
