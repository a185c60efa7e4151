"""Golden inputs: what they let pass, what they refuse, and whether rows may run together."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from cloud_fallback.serving.golden import Proof, prove
from device_profiles.loader import load_profile
from edge_runtime.bundle import open_bundle, shipped_bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.frame import Picture
from edge_runtime.local_model import open_any_model, variant_of
from edge_runtime.predict import ValuePredictor
from edge_runtime.tasks.rows import write_rows
from edge_runtime.update.trial_side import Side
from tests.simulators.served_bundles import Array, bundle, centring, file_ref, scaling

ROWS = np.random.default_rng(4).random((5, 4)).astype(np.float32)


def tried(folder: Path, model: onnx.ModelProto, **told: Any) -> Proof:
    return tried_bundle(bundle(folder, model, **told))


def tried_bundle(folder: Path) -> Proof:
    opened = open_any_model(open_bundle(folder), load_profile("store-pc-cpu"))
    assert isinstance(opened.predictor, ValuePredictor)
    variant = variant_of(opened.bundle, opened.choice)
    try:
        return prove(Side(opened.bundle, variant, opened.spec, opened.session, opened.predictor.task))
    finally:
        opened.predictor.close()


def askew(rows: Array, cosine: float) -> Array:
    """Turn every row so far that its cosine with what it was is this."""
    turned = []
    for row in rows.astype(np.float64):
        other = np.roll(row, 1)
        other -= row * (other @ row) / (row @ row)
        other *= np.linalg.norm(row) / np.linalg.norm(other)
        turned.append(cosine * row + np.sqrt(1 - cosine**2) * other)
    return np.array(turned, np.float32)


def test_the_right_answers_pass(tmp_path: Path) -> None:
    proof = tried(tmp_path / "b", scaling(2.0), golden=(ROWS, ROWS * 2))
    assert proof.rows == 5
    assert proof.likeness == pytest.approx(1.0)
    assert proof.batches
    assert proof.run_s > 0


@pytest.mark.parametrize(
    ("cosine", "measured", "passes"),
    [
        (0.9995, None, True),
        (0.998, None, False),
        (0.98, 0.99, True),  # 1 - 3 * 0.01 - 0.001 = 0.969
        (0.96, 0.99, False),
        (0.9, 1.0, False),
    ],
)
def test_how_near_is_near_enough(tmp_path: Path, cosine: float, measured: float | None, passes: bool) -> None:
    told: dict[str, Any] = {"golden": (ROWS, askew(ROWS * 2, cosine)), "cosine": measured}
    if passes:
        assert tried(tmp_path / "b", scaling(2.0), **told).likeness == pytest.approx(cosine, abs=1e-3)
    else:
        with pytest.raises(
            BundleError, match=rf"got output 'y': cosine {cosine:.3f}\d, at least 0\.\d+ expected"
        ):
            tried(tmp_path / "b", scaling(2.0), **told)


def test_a_size_that_is_wrong_is_not_hidden_by_the_direction(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="times as large"):
        tried(tmp_path / "b", scaling(2.0), golden=(ROWS, ROWS * 4))


def test_outputs_must_be_as_many_as_inputs(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="5 rows, as many as there are inputs"):
        tried(tmp_path / "b", scaling(2.0), golden=(ROWS, ROWS[:3]))


def test_a_bundle_without_golden_inputs_is_warmed_up(tmp_path: Path) -> None:
    proof = tried(tmp_path / "b", scaling(2.0))
    assert (proof.rows, proof.likeness, proof.batches) == (0, None, True)


def test_rows_that_mind_each_other_stay_apart(tmp_path: Path) -> None:
    proof = tried(tmp_path / "b", centring())
    assert not proof.batches
    assert "depends on the other rows" in proof.why_alone


def test_a_model_of_a_fixed_first_axis_runs_alone(tmp_path: Path) -> None:
    proof = tried(tmp_path / "b", scaling(2.0, fixed=True), golden=(ROWS, ROWS * 2))
    assert not proof.batches
    assert "no free first axis" in proof.why_alone


@pytest.fixture
def street(tmp_path: Path, shipped_clip: Path) -> tuple[Path, dict[str, Array]]:
    """The shipped detector with a street for a golden picture; what it says to it is still to be written."""
    shipped = shipped_bundle("efficientdet-lite0")
    assert shipped is not None
    root = tmp_path / "detector"
    shutil.copytree(shipped, root)
    clip = cv2.VideoCapture(str(shipped_clip))
    _, picture = clip.read()
    clip.release()
    write_rows(root / "inputs.npz", {"pictures": [picture]})
    opened = open_any_model(open_bundle(root), load_profile("store-pc-cpu"))
    assert isinstance(opened.predictor, ValuePredictor)
    tensors, _ = opened.predictor.task.preprocess(Picture.from_bgr(np.asarray(picture, np.uint8)))
    said = {name: np.array(array) for name, array in opened.session.run(tensors).items()}
    opened.predictor.close()
    return root, said


def with_outputs(root: Path, said: dict[str, Array]) -> Path:
    write_rows(root / "outputs.npz", {name: [array] for name, array in said.items()})
    manifest = json.loads((root / "bundle.json").read_text())
    golden = {key: file_ref(root, f"{key}.npz").model_dump() for key in ("inputs", "outputs")}
    (root / "bundle.json").write_text(json.dumps(manifest | {"golden": golden}))
    return root


def test_boxes_are_compared_as_boxes(street: tuple[Path, dict[str, Array]]) -> None:
    root, said = street
    proof = tried_bundle(with_outputs(root, said))
    assert proof.likeness == 1.0
    assert not proof.batches


def test_boxes_that_are_elsewhere_are_refused(street: tuple[Path, dict[str, Array]]) -> None:
    root, said = street
    moved = {name: array + 0.3 if array.shape[-1] == 4 else array for name, array in said.items()}
    with pytest.raises(BundleError, match=r"got 0 of \d+ objects found .* at least 60% expected"):
        tried_bundle(with_outputs(root, moved))
