"""Ranges of ONNX tensors by each method, on numbers as a ReLU leaves them; poolings of a whole picture."""

from typing import Any

import numpy as np
import pytest

from converters.quantize.onnx_graph import prepared
from converters.quantize.onnx_ranges import Method, Seen, open_session, ranges
from tests.unit import quantize_nets as nets

SAMPLE = np.maximum(np.random.default_rng(3).normal(-1, 1.5, 100_000), 0).astype(np.float32)


@pytest.mark.parametrize(
    ("method", "least"), [("minmax", 1.0), ("percentile", 0.8), ("mse", 0.7), ("entropy", 0.5)]
)
def test_zeros_of_a_relu_do_not_cut_off_the_rest(method: Method, least: float) -> None:
    top = float(SAMPLE.max())
    assert (SAMPLE == 0).mean() > 0.7
    (low, high) = ranges(prepared(nets.classifier()), {"x": Seen(0.0, top, SAMPLE)}, method)["x"]
    assert low == 0
    assert least * top <= high <= top


@pytest.mark.parametrize(
    ("window", "attributes", "kind"),
    [
        (64, {"ceil_mode": 1, "count_include_pad": 1, "strides": [64, 64]}, "GlobalAveragePool"),
        (32, {}, "GlobalAveragePool"),
        (16, {"strides": [16, 16]}, "AveragePool"),
        (32, {"pads": [0, 0, 1, 1], "strides": [32, 32]}, "AveragePool"),
    ],
)
def test_a_pooling_of_the_whole_picture_is_a_global_one(
    window: int, attributes: dict[str, Any], kind: str
) -> None:
    build = nets.Builder()
    build.node("AveragePool", build.conv("x", 3, 8), kernel_shape=[window, window], **attributes)
    sides = 2 if kind == "AveragePool" and window == 16 else 1
    model = build.model({"x": nets.PICTURE}, {"y": (1, 8, sides, sides)})
    network = prepared(model)
    assert kind in {node.op_type for node in network.model.graph.node}
    x = np.random.default_rng(2).random(nets.PICTURE, np.float32)
    own, made = (open_session(one).run(None, {"x": x})[0] for one in (model, network.model))
    np.testing.assert_allclose(made, own, rtol=1e-5)
