"""Quantization of ONNX models: what is in 8 bits, what stays float, and that the answers stay the same."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from converters.quantize import onnx_dynamic, onnx_half, onnx_int4, onnx_mixed, onnx_ort, onnx_static
from converters.quantize.onnx_graph import Network, load, prepared, save
from converters.quantize.onnx_qdq import integer_nodes, quantize, ranged_tensors
from converters.quantize.onnx_ranges import observe, open_session, ranges
from converters.quantize.onnx_tables import shrink_tables
from converters.quantize.scheme import Scheme
from converters.step import MODEL_FILES
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.onnxruntime import OnnxRuntime
from edge_runtime.tasks.likeness import cosine
from tests.unit import quantize_nets as nets

ONNX = MODEL_FILES["onnx"]
U8 = Scheme()


def quiet(share: float, what: str) -> None:
    assert 0 <= share <= 1, what


def step(function: Any, inputs: Mapping[str, Path], out: Path, **options: Any) -> tuple[onnx.ModelProto, Any]:
    out.mkdir()
    facts = function(inputs, out, options, quiet)
    return onnx.load(out / ONNX), facts


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    return open_session(model).run(None, inputs)


def executed(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """What onnxruntime really runs, after its fusions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return kinds(onnx.load(folder / "optimized.onnx"))


def quantized(
    model: onnx.ModelProto, scheme: Scheme = U8, layers: Any = None, batch: Any = nets.shares
) -> onnx.ModelProto:
    network = prepared(model)
    chosen = network.layers if layers is None else layers
    dice = np.random.default_rng(5)
    batches = [batch(dice) for _ in range(8)]
    seen = observe(network, ranged_tensors(network, network.layers), batches)
    made = quantize(network, chosen, ranges(network, seen, "mse"), scheme)
    onnx.checker.check_model(made, full_check=True)
    return made


def test_a_chain_of_a_backbone_runs_in_integers(tmp_path: Path) -> None:
    ran = executed(quantized(nets.classifier()), tmp_path)
    assert ran["QLinearConv"] == 3
    assert ran["QLinearConcat"] == ran["QLinearAdd"] == ran["QLinearGlobalAveragePool"] == 1
    assert ran["QLinearSigmoid"] == ran["QLinearMul"] == 2
    assert ran["QGemm"] == 1
    assert not ran["Conv"] + ran["Relu"] + ran["Sigmoid"] + ran["DequantizeLinear"]
    assert ran["QuantizeLinear"] == 1  # the picture


@pytest.mark.parametrize(
    "scheme",
    [Scheme(), Scheme("int8"), Scheme("int8", symmetric=True), Scheme(reduce_range=True)],
    ids=["u8", "s8", "s8 symmetric", "7 bit weights"],
)
def test_answers_stay_close(scheme: Scheme) -> None:
    model = nets.classifier()
    picture = np.random.default_rng(9).random(nets.PICTURE, np.float32)
    (own,), (other,) = run(model, picture=picture), run(quantized(model, scheme), picture=picture)
    assert cosine(own, other) > 0.998


def test_weights_are_signed_by_channel_and_seven_bits_where_asked() -> None:
    for scheme, largest in ((Scheme(), 127), (Scheme(reduce_range=True), 64)):
        made = quantized(nets.classifier(), scheme)
        stored = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
        convolutions = [array for array in stored.values() if array.ndim == 4]
        assert len(convolutions) == 3
        for array in convolutions:
            assert array.dtype == np.int8
            assert (np.abs(array.reshape(len(array), -1)).max(axis=1) == largest).all()


def test_symmetric_zero_points_are_zero() -> None:
    made = quantized(nets.classifier(), Scheme("int8", symmetric=True))
    zeros = [numpy_helper.to_array(each) for each in made.graph.initializer if each.name.endswith("_zero")]
    assert zeros
    assert not any(zero.any() for zero in zeros)


def test_what_a_detector_does_with_its_predictions_stays_float() -> None:
    network = prepared(nets.detector())
    last = network.last_layers()
    assert {network.nodes[name].op_type for name in last} == {"Conv"}
    assert len(last) == 2
    inside = integer_nodes(network, [layer for layer in network.layers if layer not in last])
    assert inside.isdisjoint(network.tail() | last)
    assert {network.nodes[name].op_type for name in network.tail()} >= {"Exp", "Sigmoid", "Reshape"}


def test_a_layer_given_back_has_its_float_weights_and_float_neighbours_take_floats() -> None:
    model = nets.classifier()
    network = prepared(model)
    spared = network.layers[1]
    made = quantized(model, layers=[layer for layer in network.layers if layer != spared])
    weights = network.nodes[spared].input[1]
    assert weights in {tensor.name for tensor in made.graph.initializer}
    node = Network(made).nodes[spared]
    assert node.input[1] == weights
    assert (
        Network(made).producers[node.input[0]].op_type == "DequantizeLinear"
    )  # its maker is an integer node
    gate = next(
        each for each in made.graph.node if each.op_type == "Sigmoid" and each.input[0] == node.output[0]
    )
    assert gate.input[0] == node.output[0]


def test_nothing_chosen_changes_nothing() -> None:
    model = nets.classifier()
    picture = np.random.default_rng(9).random(nets.PICTURE, np.float32)
    made = quantized(model, layers=[])
    assert "QuantizeLinear" not in kinds(made)
    np.testing.assert_array_equal(run(made, picture=picture)[0], run(model, picture=picture)[0])


def test_pixels_of_eight_bits_are_taken_as_they_are(tmp_path: Path) -> None:
    made = quantized(nets.folded(), batch=nets.pixels)
    assert "Cast" not in kinds(made)
    ran = executed(made, tmp_path)
    assert "QuantizeLinear" not in ran
    picture = nets.pixels(np.random.default_rng(9))["picture"]
    assert cosine(run(nets.folded(), picture=picture)[0], run(made, picture=picture)[0]) > 0.998


def test_a_mean_over_the_picture_is_a_pooling() -> None:
    build = nets.Builder()
    build.node("ReduceMean", build.conv("picture", 3, 8), axes=[-1, -2], keepdims=1)
    model = build.model({"picture": nets.PICTURE}, {"y": (1, 8, 1, 1)})
    network = prepared(model)
    assert kinds(network.model)["GlobalAveragePool"] == 1
    picture = np.random.default_rng(9).random(nets.PICTURE, np.float32)
    np.testing.assert_allclose(
        run(network.model, picture=picture)[0], run(model, picture=picture)[0], atol=1e-6
    )


def test_products_and_their_biases_run_in_integers(tmp_path: Path) -> None:
    for shape, wanted in (((1, 32), "QGemm"), ((1, 6, 32), "MatMulIntegerToFloat")):
        model = nets.dense(shape)
        network = prepared(model)
        dice = np.random.default_rng(5)
        batches = [{"x": dice.normal(size=shape).astype(np.float32)} for _ in range(8)]
        seen = observe(network, ranged_tensors(network, network.layers), batches)
        made = quantize(network, network.layers, ranges(network, seen, "mse"), U8)
        ran = executed(made, tmp_path)
        assert ran[wanted] == 1
        assert not ran["Gemm"] + ran["MatMul"]
        assert cosine(run(model, **batches[0])[0], run(made, **batches[0])[0]) > 0.999


def test_depthwise_layers_without_an_integer_kernel_stay_float() -> None:
    build = nets.Builder()
    x = build.conv("picture", 3, 16)
    for size in (3, 5, 7):
        x = build.conv(x, 16, 16, size=size, group=16)
    network = prepared(build.model({"picture": nets.PICTURE}, {"y": (1, 16, 32, 32)}))
    assert [network.slow_in_integers(layer) for layer in network.layers] == [False, False, False, True]


def test_static_and_mixed_of_a_classifier(tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.classifier(), {"pictures": nets.pictures(48)})
    static, facts = step(onnx_static.convert, inputs, tmp_path / "a", task=nets.CLASSIFICATION)
    assert facts["precision"] == "int8"
    assert facts["judged"]["loss"] < 0.02
    assert not facts["warnings"]
    mixed, facts = step(
        onnx_mixed.convert, inputs, tmp_path / "b", task=nets.CLASSIFICATION, accuracy_drop=0.05
    )
    assert facts["precision"] == "int8"
    assert [layer["precision"] for layer in facts["layers"]] == ["int8"] * 4
    assert all(layer["error"] > 0 for layer in facts["layers"])
    assert kinds(static) == kinds(mixed)


def test_mixed_of_a_detector_leaves_its_last_layers(tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.detector(), {"pictures": nets.pictures(24)})
    _, facts = step(onnx_mixed.convert, inputs, tmp_path / "b", task=nets.DETECTION, accuracy_drop=0.5)
    assert facts["precision"] == "mixed"
    assert [layer["precision"] for layer in facts["layers"]] == ["int8"] * 3 + ["fp32"] * 2
    assert {"loss", "error", "boxes", "scores"} == set(facts["judged"])
    assert facts["warnings"] == [
        "calibrated with 16 samples: give at least 32 like those the device will see"
    ]


def test_mixed_gives_back_the_layer_that_hurts_and_no_other(tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.chain(6, outlier=3), {"x": nets.vectors(64)})
    options = {"task": nets.TENSORS, "ranges": "minmax", "accuracy_drop": 0.005}
    _, static = step(onnx_static.convert, inputs, tmp_path / "a", **options)
    assert static["judged"]["loss"] > 0.1
    _, facts = step(onnx_mixed.convert, inputs, tmp_path / "b", **options)
    assert facts["judged"]["loss"] <= 0.005
    assert [layer["precision"] for layer in facts["layers"]] == ["int8"] * 3 + ["fp32"] + ["int8"] * 2
    assert max(facts["layers"], key=lambda layer: layer["error"]) == facts["layers"][3]
    assert facts["tried"] == 2


def test_a_budget_that_no_layer_keeps_is_told(tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.chain(2), {"x": nets.vectors(40)})
    with pytest.raises(ConversionError, match="no layer can be in 8 bits"):
        step(onnx_mixed.convert, inputs, tmp_path / "b", task=nets.TENSORS, accuracy_drop=0)


@pytest.mark.parametrize("function", [onnx_static.convert, onnx_mixed.convert, onnx_int4.convert])
def test_same_inputs_same_bytes(function: Any, tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.chain(3), {"x": nets.vectors(40)})
    for name in ("a", "b"):
        step(function, inputs, tmp_path / name, task=nets.TENSORS)
    assert (tmp_path / "a" / ONNX).read_bytes() == (tmp_path / "b" / ONNX).read_bytes()


def test_dynamic_takes_products_and_never_convolutions(tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.chain(3), {"x": nets.vectors(4)})
    made, facts = step(onnx_dynamic.convert, inputs, tmp_path / "a")
    assert kinds(made)["MatMulInteger"] == 3
    x = nets.vectors(1)[0][None]
    assert cosine(run(nets.chain(3), x=x)[0], run(made, x=x)[0]) > 0.99
    assert facts["tables"] == 0
    mixed = nets.lay(tmp_path / "a", nets.classifier(), {})
    made, _ = step(onnx_dynamic.convert, mixed, tmp_path / "b")
    assert kinds(made)["Conv"] == 3
    assert not kinds(made)["ConvInteger"]


def test_dynamic_of_convolutions_alone_is_refused(tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.detector(), {})
    with pytest.raises(ConversionError, match="no matrix product"):
        step(onnx_dynamic.convert, inputs, tmp_path / "a")


@pytest.mark.parametrize("width", [32, 40])  # 40: the last block of 16 is not full
def test_int4_packs_as_the_engine_reads(width: int, tmp_path: Path) -> None:
    model = nets.chain(2, width=width)
    inputs = nets.lay(tmp_path, model, {"x": nets.vectors(40, width)})
    plain, _ = step(onnx_int4.convert, {"model": inputs["model"]}, tmp_path / "a", block=16)
    assert kinds(plain)["MatMulNBits"] == 2
    x = nets.vectors(1, width)[0][None]
    (own,) = run(model, x=x)
    assert cosine(own, run(plain, x=x)[0]) > 0.98
    (tmp_path / "c").mkdir()
    onnx_ort.convert({"model": tmp_path / "a"}, tmp_path / "c", {}, quiet)
    phone = OnnxRuntime().open(tmp_path / "c" / MODEL_FILES["ort"], options=EngineOptions())
    assert cosine(own, phone.run({"x": x})[phone.outputs[0].name]) > 0.98
    finer, facts = step(
        onnx_int4.convert, inputs, tmp_path / "b", block=16, task=nets.TENSORS, accuracy_drop=1e-3
    )
    assert {layer["precision"] for layer in facts["layers"]} <= {"int4", "int8"}
    assert facts["judged"]["loss"] <= 1e-3
    assert cosine(own, run(finer, x=x)[0]) > 0.998


def test_an_unknown_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="block"):
        onnx_int4.convert({"model": tmp_path}, tmp_path, {"block": 20}, quiet)


def test_tables_of_words_get_a_scale_a_row() -> None:
    table = np.random.default_rng(1).normal(size=(4096, 64)).astype(np.float32)
    table *= np.geomspace(1e-3, 1e3, 4096, dtype=np.float32)[:, None]
    model = nets.lookup(table)
    made, count = shrink_tables(prepared(model))
    assert count == 1
    assert made.ByteSize() < 0.3 * model.ByteSize()
    ids = np.array([[0, 7, 2000, 4000, 4095]])
    own, other = run(model, ids=ids)[0], run(made, ids=ids)[0]
    assert (np.abs(own - other).max(axis=-1) <= np.abs(own).max(axis=-1) / 250).all()


def test_half_keeps_inputs_and_outputs_and_what_overflows(tmp_path: Path) -> None:
    build = nets.Builder()
    large = build.node("Mul", build.dense("x", 32, 32), build.constant(np.float32(1e6)))
    build.dense(build.node("Mul", large, build.constant(np.float32(1e-6))), 32, 32)
    model = build.model({"x": (1, 32)}, {"y": (1, 32)})
    inputs = nets.lay(tmp_path, model, {"x": nets.vectors(8)})
    made, facts = step(onnx_half.convert, inputs, tmp_path / "a", task=nets.TENSORS)
    assert any("too large for fp16" in warning for warning in facts["warnings"])
    assert {value.type.tensor_type.elem_type for value in made.graph.input} == {onnx.TensorProto.FLOAT}
    x = nets.vectors(1)[0][None]
    assert cosine(run(model, x=x)[0], run(made, x=x)[0]) > 0.9999


def test_half_lets_infinite_numbers_inside_be(tmp_path: Path) -> None:
    build = nets.Builder()
    logarithm = build.node(
        "Log", build.node("Relu", build.dense("x", 32, 32))
    )  # of 0, for about half of them
    build.dense(build.node("Exp", logarithm), 32, 32)
    model = build.model({"x": (1, 32)}, {"y": (1, 32)})
    inputs = nets.lay(tmp_path, model, {"x": nets.vectors(8)})
    made, _ = step(onnx_half.convert, inputs, tmp_path / "a", task=nets.TENSORS)
    x = nets.vectors(1)[0][None]
    assert cosine(run(model, x=x)[0], run(made, x=x)[0]) > 0.9999


def test_half_of_a_detector_keeps_its_box_arithmetic(tmp_path: Path) -> None:
    inputs = nets.lay(tmp_path, nets.detector(), {"pictures": nets.pictures(4)})
    made, facts = step(onnx_half.convert, inputs, tmp_path / "a", task=nets.DETECTION)
    assert facts["float_nodes"] >= 6
    stored = {tensor.data_type for tensor in made.graph.initializer if len(tensor.dims) == 4}
    assert stored == {onnx.TensorProto.FLOAT16}
    picture = np.random.default_rng(9).random(nets.PICTURE, np.float32)
    assert cosine(run(nets.detector(), picture=picture)[0], run(made, picture=picture)[0]) > 0.9999


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
def test_ort_file_answers_the_same_and_is_reproducible(arch: str, tmp_path: Path) -> None:
    import onnxruntime

    inputs = nets.lay(tmp_path, quantized(nets.classifier(), Scheme("int8")), {})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        onnx_ort.convert(inputs, tmp_path / name, {"arch": arch}, quiet)
    first, second = (tmp_path / name / MODEL_FILES["ort"] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    picture = np.random.default_rng(9).random(nets.PICTURE, np.float32)
    session = onnxruntime.InferenceSession(str(first), providers=["CPUExecutionProvider"])
    assert (
        cosine(session.run(None, {"picture": picture})[0], run(nets.classifier(), picture=picture)[0]) > 0.998
    )


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ONNX).write_bytes(b"not a model at all")
    with pytest.raises(ConversionError, match="expected an ONNX file"):
        onnx_dynamic.convert({"model": tmp_path}, tmp_path, {}, quiet)
    (tmp_path / MODEL_FILES["ort"]).unlink(missing_ok=True)
    with pytest.raises(ConversionError, match="cannot open"):
        onnx_ort.convert({"model": tmp_path}, tmp_path, {}, quiet)


def test_what_exceeds_a_protobuf_lies_beside_the_file(tmp_path: Path) -> None:
    model = nets.chain(2)
    path = save(model, tmp_path, largest=1000)
    assert path.stat().st_size < 1000 < (tmp_path / f"{ONNX}.data").stat().st_size
    x = nets.vectors(1)[0][None]
    np.testing.assert_array_equal(run(load(path), x=x)[0], run(nets.chain(2), x=x)[0])
    (tmp_path / f"{ONNX}.data").unlink()
    with pytest.raises(ConversionError, match="external data beside it"):
        load(path)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    model = nets.chain(2)
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[3, 3] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, model.graph.initializer[0].name))
    inputs = nets.lay(tmp_path, model, {"x": nets.vectors(8)})
    with pytest.raises(ConversionError, match="NaN") as raised:
        step(onnx_static.convert, inputs, tmp_path / "a", task=nets.TENSORS)
    assert raised.value.operator == "MatMul"
    assert raised.value.layer == "matmul0"


def test_an_old_opset_is_raised_and_batch_normalisation_folded() -> None:
    build = nets.Builder()
    made = build.conv("picture", 3, 8)
    ones = [build.constant(np.full(8, value, np.float32)) for value in (1.5, 0.2, 0.1, 2.0)]
    build.node("Relu", build.node("BatchNormalization", made, *ones))
    model = build.model({"picture": nets.PICTURE}, {"y": (1, 8, 32, 32)}, opset=11)
    network = prepared(model)
    assert network.model.opset_import[0].version >= 13
    assert kinds(network.model)["BatchNormalization"] == 0
    picture = np.random.default_rng(9).random(nets.PICTURE, np.float32)
    np.testing.assert_allclose(
        run(network.model, picture=picture)[0], run(model, picture=picture)[0], atol=1e-5
    )
