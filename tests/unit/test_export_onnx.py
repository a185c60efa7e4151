"""ONNX sources made ready for all later steps, and every file that is refused; ONNX to OpenVINO IR."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from converters.export import onnx_graph, onnx_openvino
from converters.export.onnx_source import normalize
from converters.step import Facts
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine

Array = np.ndarray[Any, Any]
TASK: dict[str, Any] = {"kind": "classification", "input": {"layout": "nchw"}, "labels": ["a", "b"]}
NET = """
    <ir_version: 8, opset_import: ["" : {opset}]>
    net ({batch} image) => (float[N, 2] scores) {{
        h = Conv<pads = [1, 1, 1, 1]>(image, w)
        r = Relu(h)
        unused = Exp(h)
        p = GlobalAveragePool(r)
        scores = Flatten(p)
    }}
"""


def weights(*shape: int) -> Array:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def model(text: str, opset: int = 17, image: str = "float[N, 3, H, W]", **stored: Array) -> onnx.ModelProto:
    made = parser.parse_model(text.format(opset=opset, batch=image))
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in stored.items())
    return made


def net(**options: Any) -> onnx.ModelProto:
    return model(NET, w=weights(2, 3, 3, 3), **options)


def quiet(share: float, what: str) -> None:
    assert 0 <= share <= 1
    assert what


def run_step(source: Path | onnx.ModelProto, folder: Path, **options: Any) -> Facts:
    if isinstance(source, onnx.ModelProto):
        onnx.save(source, folder / "source.onnx")
        source = folder / "source.onnx"
    (folder / "out").mkdir(exist_ok=True)
    return normalize({"source": source}, folder / "out", options, quiet)


def answer(file: Path, inputs: Tensors, engine: str = "onnxruntime") -> Tensors:
    session = load_engine(engine).open(file, options=EngineOptions())
    try:
        return session.run(inputs)
    finally:
        session.close()


def refusal(source: Path | onnx.ModelProto, folder: Path, **options: Any) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        run_step(source, folder, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_clean_model(tmp_path: Path) -> None:
    facts = run_step(net(), tmp_path, task=TASK)
    assert facts["inputs"] == {"image": "image"}
    assert facts["outputs"] == {"scores": "scores"}
    assert (facts["opset"], facts["layout"], facts["warnings"]) == (17, "nchw", [])
    made = onnx.load(tmp_path / "out/model.onnx")
    assert "Exp" not in {node.op_type for node in made.graph.node}  # nobody needs it
    assert all(node.name for node in made.graph.node)
    x = {"image": weights(2, 3, 5, 4)}
    np.testing.assert_allclose(
        answer(tmp_path / "out/model.onnx", x)["scores"],
        answer(tmp_path / "source.onnx", x)["scores"],
        rtol=1e-6,
    )


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    run_step(net(), tmp_path)
    first = (tmp_path / "out/model.onnx").read_bytes()
    run_step(net(), tmp_path)
    assert (tmp_path / "out/model.onnx").read_bytes() == first


def test_size_batch_and_opset(tmp_path: Path) -> None:
    facts = run_step(net(), tmp_path, task=TASK, size=[6, 10], dynamic=False, opset=13)
    made = onnx.load(tmp_path / "out/model.onnx")
    assert onnx_graph.shape_of(made.graph.input[0]) == (1, 3, 6, 10)
    assert onnx_graph.shape_of(made.graph.output[0]) == (1, 2)
    assert facts["opset"] == onnx_graph.opset_of(made) == 13


def test_weights_that_old_exporters_list_as_inputs(tmp_path: Path) -> None:
    old = net(image="float[1, 3, 4, 4]")
    old.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [2, 3, 3, 3]))
    old.ir_version = 3
    old.opset_import[0].version = 8
    assert run_step(old, tmp_path)["inputs"] == {"image": "image"}


def test_external_data_stays_where_weights_are_many(tmp_path: Path) -> None:
    made = net()
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights(2, 3, 30, 30), "w"))
    onnx_graph.save(made, tmp_path, limit_bytes=100)
    assert (tmp_path / onnx_graph.DATA_FILE).stat().st_size >= 4 * 2 * 3 * 900
    read = onnx_graph.load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(numpy_helper.to_array(read.graph.initializer[0]), weights(2, 3, 30, 30))
    assert run_step(tmp_path / "model.onnx", tmp_path)["outputs"] == {"scores": "scores"}


@pytest.mark.parametrize("keep", [None, 50])
def test_missing_external_data_is_named(tmp_path: Path, keep: int | None) -> None:
    made = net()
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="big.bin", size_threshold=0)
    file = tmp_path / "big.bin"
    content = file.read_bytes()
    file.unlink()
    if keep is not None:
        file.write_bytes(content[:keep])
    message = str(refusal(tmp_path / "m.onnx", tmp_path))
    assert "big.bin" in message
    assert "tensor 'w'" in message


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert "corrupt or no ONNX model" in str(refusal(tmp_path / "m.onnx", tmp_path))


def test_a_missing_file(tmp_path: Path) -> None:
    assert "No such file" in str(refusal(tmp_path / "m.onnx", tmp_path))


def test_a_truncated_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(net().SerializeToString()[:-40])
    refusal(tmp_path / "m.onnx", tmp_path)


def test_a_graph_that_breaks_the_rules(tmp_path: Path) -> None:
    made = net()
    made.graph.node[1].input[0] = "nowhere"
    assert "breaks the rules of ONNX" in str(refusal(made, tmp_path))


@pytest.mark.parametrize(("value", "got"), [(np.nan, "1 NaN"), (np.inf, "1 infinite")])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float, got: str) -> None:
    w = weights(2, 3, 3, 3)
    w[1, 2, 0, 0] = value
    error = refusal(model(NET, w=w), tmp_path)
    assert error.layer == "w"
    assert got in str(error)


def test_infinity_in_a_mask_means_something(tmp_path: Path) -> None:
    text = (
        """<ir_version: 8, opset_import: ["" : 17]> net (float[2] x) => (float[2] y) {{ y = Add(x, mask) }}"""
    )
    run_step(model(text, mask=np.array([0, -np.inf], np.float32)), tmp_path)


def test_operators_of_nobody(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
        net (float[2] x) => (float[2] y) {{ y = acme.Wobble(x) }}"""
    error = refusal(model(text), tmp_path)
    assert (error.operator, error.layer) == ("acme.Wobble", "y")


def test_operators_of_onnxruntime_are_told(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        net (float[2] x) => (float[2] y) {{ y = com.microsoft.Gelu(x) }}"""
    assert run_step(model(text), tmp_path)["warnings"] == [
        "only onnxruntime runs Gelu: no other format can be made"
    ]


def test_a_size_that_the_graph_cannot_have(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 3, 8, 8] image) => (float[1, 2] scores) {{
            flat = Flatten(image)
            scores = MatMul(flat, w)
        }}"""
    made = model(text, w=weights(192, 2))
    made.graph.node[1].name = "fc"
    error = refusal(made, tmp_path, task=TASK, size=[8, 16])
    assert (error.operator, error.layer) == ("MatMul", "fc")
    assert "8x16" in str(error)


def test_a_size_for_a_model_without_pictures(tmp_path: Path) -> None:
    text = (
        """<ir_version: 8, opset_import: ["" : 17]> net (float[2, 4] x) => (float[2, 4] y) {{ y = Exp(x) }}"""
    )
    assert "takes no picture" in str(refusal(model(text), tmp_path, size=[8, 8]))


def test_an_opset_that_is_out_of_reach(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]> net (float[4] x) => (float[4] y) {{ y = Gelu(x) }}"""
    made = model(text)
    made.graph.node[0].name = "act"
    error = refusal(made, tmp_path, opset=17)
    assert (error.operator, error.layer) == ("Gelu", "act")
    assert "from opset 20 to 17" in str(error)


def test_an_older_opset_where_the_converter_has_no_rules(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
        net (float[2, 4, 6] x) => (float[2, 4, 1] y, float[2, 2, 6] z) {{
            r = Relu(x)
            y = ReduceMean(r, axes)
            z, rest = Split<axis = 1, num_outputs = 2>(r)
        }}"""
    facts = run_step(model(text, axes=np.array([-1])), tmp_path, opset=13)
    assert facts["opset"] == 13
    x = {"x": weights(2, 4, 6)}
    have, want = answer(tmp_path / "out/model.onnx", x), answer(tmp_path / "source.onnx", x)
    for name in ("y", "z"):
        np.testing.assert_allclose(have[name], want[name], rtol=1e-6)


def test_openvino_ir_is_the_same_each_time_and_answers_alike(tmp_path: Path) -> None:
    run_step(net(), tmp_path, task=TASK, size=[6, 8], dynamic=False)
    contents: list[list[bytes]] = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        facts = onnx_openvino.export({"model": tmp_path / "out"}, out, {}, quiet)
        assert facts["outputs"] == {"scores": "scores"}
        contents.append([file.read_bytes() for file in sorted(out.iterdir())])
    assert contents[0] == contents[1]
    assert not re.search(rb"20\d\d\.\d\.\d", contents[0][1])
    x = {"image": weights(1, 3, 6, 8)}
    np.testing.assert_allclose(
        answer(tmp_path / "one/model.xml", x, "openvino")["scores"],
        answer(tmp_path / "out/model.onnx", x)["scores"],
        rtol=1e-4,
    )


def test_what_openvino_does_not_know_is_named(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 4, 4] x) => (float y) {{ y = Det(x) }}"""
    made = model(text)
    made.graph.node[0].name = "volume"
    made.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(ConversionError) as caught:
        onnx_openvino.export({"model": tmp_path}, tmp_path, {}, quiet)
    assert (caught.value.operator, caught.value.layer) == ("Det", "volume")


@pytest.mark.parametrize(
    ("body", "operator", "layer"),
    [
        # `Constant` is a word of the message, and comes first here.
        (
            """shape = Constant <value_ints = [7, 7]> ()
               a = Relu(x)
               [bad] y = Reshape(a, shape)""",
            "Reshape",
            "bad",
        ),
        # Of two alike, the one that fails is the second.
        (
            """[good] a = Reshape(x, long)
               [bad] b = Reshape(a, short)
               y = Relu(b)""",
            "Reshape",
            "bad",
        ),
        # No node is named at all, and a layer is called like another operator.
        (
            """[Model] a = Relu(x)
               [Det] b = Conversion(a)
               [blur_it] y = custom.Blur(b)""",
            "Conversion",
            "Det",
        ),
        (
            """[Det] a = Relu(x)
               [blur_it] y = custom.Blur(a)""",
            "Blur",
            "blur_it",
        ),
    ],
)
def test_what_openvino_names_is_what_is_told(body: str, operator: str, layer: str, tmp_path: Path) -> None:
    made = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 17, "custom" : 1]>
            net (float[1, 4, 4] x) => (float y) {{ {body} }}"""
    )
    made.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    for name, shape in (("long", [1, 16]), ("short", [7, 7])):
        made.graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(ConversionError) as caught:
        onnx_openvino.export({"model": tmp_path}, tmp_path, {}, quiet)
    assert (caught.value.operator, caught.value.layer) == (operator, layer)
    assert f"operator {operator} of layer '{layer}'" in str(caught.value)
