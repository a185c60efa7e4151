"""Compression of Core ML packages, checked by the evaluator of their programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.digests import Digests
from converters.export.coreml_package import make_reproducible
from converters.quantize import coreml
from converters.step import MODEL_FILES
from converters.verify.mil import MilSession
from edge_runtime.contract.errors import ConversionError
from edge_runtime.tasks.likeness import cosine

pytestmark = pytest.mark.filterwarnings("ignore")  # coremltools warns about itself
PACKAGE = MODEL_FILES["coreml"]
PICTURE = np.random.default_rng(9).standard_normal((1, 3, 16, 16)).astype(np.float32)


def quiet(share: float, what: str) -> None:
    assert 0 <= share <= 1, what


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a small net, by minimum target and precision."""
    import coremltools as vendor

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(), nn.Conv2d(64, 64, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 40),
    ).eval()  # fmt: skip
    program = torch.export.export(net, (torch.zeros(PICTURE.shape),)).run_decompositions({})
    known: dict[tuple[str, str], Path] = {}

    def make(target: str = "iOS16", precision: str = "FLOAT16") -> Path:
        if (target, precision) not in known:
            model: Any = vendor.convert(
                program,
                inputs=[vendor.TensorType("picture", PICTURE.shape, dtype=np.float32)],
                outputs=[vendor.TensorType("scores", dtype=np.float32)],
                minimum_deployment_target=vendor.target[target],
                compute_precision=vendor.precision[precision],
                skip_model_load=True,
            )
            folder = tmp_path_factory.mktemp("package")
            model.save(str(folder / PACKAGE))
            make_reproducible(folder / PACKAGE)
            known[target, precision] = folder
        return known[target, precision]

    return make


def step(model: Path, out: Path, **options: Any) -> dict[str, Any]:
    out.mkdir()
    return coreml.convert({"model": model}, out, options, quiet)


def run(folder: Path) -> np.ndarray:
    session = MilSession(folder / PACKAGE)
    return session.run({session.inputs[0].name: PICTURE})[session.outputs[0].name]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("weight.bin"))


@pytest.mark.parametrize(
    ("target", "options", "precision", "weights", "share", "least"),
    [
        ("iOS16", {"precision": "int8"}, "int8", {"affine_dequantize": 3}, 0.56, 0.999),
        ("iOS18", {"precision": "int8"}, "int8", {"blockwise_shift_scale": 3}, 0.56, 0.999),
        ("iOS18", {"precision": "int4"}, "int4", {"blockwise_shift_scale": 3}, 0.36, 0.99),
        ("iOS16", {"precision": "palettized"}, "palettized", {"lut_to_dense": 3}, 0.46, 0.99),
        ("iOS16", {"precision": "palettized", "bits": 4}, "palettized", {"lut_to_dense": 3}, 0.33, 0.97),
        ("iOS18", {"precision": "palettized", "bits": 4}, "palettized", {"lut_to_dense": 3}, 0.36, 0.98),
    ],
)
def test_smaller_alike_and_the_same_each_time(
    made: Any, target: str, options: Any, precision: str, weights: Any, share: float, least: float,
    tmp_path: Path,
) -> None:  # fmt: skip
    source = made(target)
    for name in ("a", "b"):
        facts = step(source, tmp_path / name, **options)
        assert facts["precision"] == precision
        assert facts["weights"] == weights
    digests = Digests(tmp_path / "digests")
    assert digests.of(tmp_path / "a") == digests.of(tmp_path / "b")
    assert size(tmp_path / "a") < share * size(source)
    assert cosine(run(source), run(tmp_path / "a")) > least


def test_fp16_passes_through_and_float32_is_refused(made: Any, tmp_path: Path) -> None:
    step(made(), tmp_path / "a", precision="fp16")
    np.testing.assert_array_equal(run(made()), run(tmp_path / "a"))
    with pytest.raises(ConversionError, match="expected fp16 weights, got float32"):
        step(made("iOS16", "FLOAT32"), tmp_path / "b", precision="fp16")


def test_four_bits_need_a_new_target(made: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="expected minimum target iOS18 or macOS15, got iOS16"):
        step(made(), tmp_path / "a", precision="int4")


def test_unfit_inputs_are_one_line(made: Any, tmp_path: Path) -> None:
    step(made(), tmp_path / "a", precision="int8")
    with pytest.raises(ConversionError, match="is compressed already"):
        step(tmp_path / "a", tmp_path / "b", precision="palettized")
    with pytest.raises(ConversionError, match="option 'precision'"):
        step(made(), tmp_path / "c", precision="int16x8")
    with pytest.raises(ConversionError, match="option 'bits': expected 4 or 6"):
        step(made(), tmp_path / "d", precision="palettized", bits=5)
    with pytest.raises(ConversionError, match=r"model\.mlpackage"):
        step(tmp_path, tmp_path / "e", precision="int8")
