"""What a source is, told without loading it; and what is refused before anything starts."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, helper, numpy_helper

from converters.planned import SourceFacts
from converters.recipe import Source, SourceKind
from converters.source import SUFFIXES, detect, examine
from edge_runtime.bundle import shipped_bundle
from edge_runtime.contract.bundle import Precision
from edge_runtime.contract.errors import ConversionError, InputError
from edge_runtime.contract.task import EmbeddingSpec, TensorsSpec

TENSORS = TensorsSpec(kind="tensors")
IMAGE = {"name": "image", "shape": [1, 3, 8, 8]}


def look(path: Path, **told: object) -> SourceFacts:
    return examine(Source.model_validate({"path": path, **told}), None, TENSORS)


def net(folder: Path, dtype: str = "float32", *, external: bool = False, opset: int = 13) -> Path:
    ones: Any = np.ones((64, 32), dtype)
    weights = numpy_helper.from_array(ones, "w")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "net",
        [],
        [helper.make_tensor_value_info("y", weights.data_type, [64, 32])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    if external:
        external_data_helper.convert_model_to_external_data(model, location="net.data", size_threshold=0)
    writer: Any = onnx
    writer.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def test_an_onnx_header_is_read(tmp_path: Path) -> None:
    found = look(net(tmp_path, opset=11))
    assert (found.kind, found.float_bytes, found.precision, found.opset) == (
        SourceKind.ONNX,
        4 * 64 * 32,
        None,
        11,
    )


@pytest.mark.parametrize(("dtype", "precision"), [("int8", Precision.INT8), ("float16", Precision.FP16)])
def test_a_small_model_is_known_as_one(tmp_path: Path, dtype: str, precision: Precision) -> None:
    found = look(net(tmp_path, dtype))
    assert (found.precision, found.float_bytes) == (precision, 4 * 64 * 32)


def test_external_data_counts_and_belongs_to_the_source(tmp_path: Path) -> None:
    found = look(net(tmp_path, external=True))
    assert found.files["source-net.data"] == tmp_path / "net.data"
    assert found.size_bytes > 4 * 64 * 32


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    model = net(tmp_path, external=True)
    (tmp_path / "net.data").unlink()
    with pytest.raises(InputError, match=r"external data 'net\.data' is missing"):
        look(model)


def test_external_data_outside_is_refused(tmp_path: Path) -> None:
    model = net(tmp_path, external=True)
    model.write_bytes(model.read_bytes().replace(b"net.data", b"../n.dat"))
    with pytest.raises(InputError, match="in its own folder"):
        look(model)


def test_the_shipped_tflite_model_is_known_as_int8() -> None:
    bundle = shipped_bundle("efficientdet-lite0")
    assert bundle is not None
    found = look(bundle / "model.tflite")
    assert (found.kind, found.precision) == (SourceKind.TFLITE, Precision.INT8)
    assert 3_000_000 < found.float_bytes / 4 < 4_000_000


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_model_cut_off_is_damaged(tmp_path: Path, share: float) -> None:
    model = net(tmp_path)
    content = model.read_bytes()
    model.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="is damaged"):
        look(model)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").touch()
    with pytest.raises(InputError, match="got 0 bytes"):
        look(tmp_path / f"model{suffix}", trust=True)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".keras", ".h5", ".pt2", ".txt"])
def test_what_is_not_what_its_name_says_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="a Git LFS pointer"):
        look(tmp_path / f"model{suffix}", trust=True)


@pytest.mark.parametrize(
    ("name", "more"), [("model.pkl", {}), ("model.joblib", {}), ("model.pt", {}), ("model.pt2", {})]
)
def test_pickles_are_refused_unless_trusted(tmp_path: Path, name: str, more: dict[str, str]) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(64))
    with pytest.raises(ConversionError, match=r"is a pickle.*trust: true"):
        look(tmp_path / name, **more)
    assert look(tmp_path / name, trust=True, inputs=[IMAGE]).files["source"] == tmp_path / name


def test_weights_of_a_named_module_need_no_trust(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04" + bytes(64))
    found = look(tmp_path / "weights.pt", module="package.nets:Net", inputs=[IMAGE])
    assert found.kind is SourceKind.TORCH


@pytest.mark.parametrize("path", [None, "weights.pt"])
def test_a_torch_module_without_inputs_is_refused_before_anything_starts(
    tmp_path: Path, path: str | None
) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04" + bytes(64))
    told = {"module": "package.nets:Net", "path": path and tmp_path / path}
    with pytest.raises(ConversionError, match=r"source package\.nets:Net: .*got none\. Give --input image="):
        examine(Source.model_validate(told), None, TENSORS)
    (tmp_path / "program.pt2").write_bytes(b"PK\x03\x04" + bytes(64))
    assert look(tmp_path / "program.pt2", trust=True).kind is SourceKind.TORCH_EXPORT, "it has its own"


def test_weights_alone_are_told_what_they_lack(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ConversionError, match=r"weights alone are no model.*this file as --weights"):
        look(tmp_path / "w.safetensors", inputs=[IMAGE])


def test_folders_are_told_by_what_is_in_them(tmp_path: Path) -> None:
    for name, marker in (("hf", "config.json"), ("saved", "saved_model.pb")):
        (tmp_path / name).mkdir()
        (tmp_path / name / marker).write_text("{}")
    assert detect(Source(path=tmp_path / "hf")) is SourceKind.HUGGING_FACE
    assert detect(Source(path=tmp_path / "saved")) is SourceKind.SAVED_MODEL
    (tmp_path / "none").mkdir()
    with pytest.raises(ConversionError, match=r"config\.json and safetensors.*got an empty folder"):
        detect(Source(path=tmp_path / "none"))


def test_a_hugging_face_folder_brings_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    found = examine(Source(path=tmp_path), None, EmbeddingSpec(kind="embedding"))
    assert found.tokenizer == tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(("MatMul", "Softmax", "MatMul"), True), (("MatMul", "Relu", "Softmax"), False)],
)
def test_wide_activations_are_seen_in_an_onnx_graph(
    tmp_path: Path, kinds: tuple[str, ...], *, expected: bool
) -> None:
    names = ["x", "a", "b", "y"]
    nodes = [
        helper.make_node(kind, [names[at], "w"][: 1 + (kind == "MatMul")], [names[at + 1]])
        for at, kind in enumerate(kinds)
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [8, 8]) for name in ("x", "y")]
    ones: Any = np.ones((8, 8), np.float32)
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(ones, "w")])
    writer: Any = onnx
    writer.save(helper.make_model(graph), tmp_path / "net.onnx")
    assert look(tmp_path / "net.onnx").wide is expected


@pytest.mark.parametrize(("config", "expected"), [('{"num_attention_heads": 3}', True), ("{}", False)])
def test_wide_activations_are_seen_in_a_configuration(tmp_path: Path, config: str, *, expected: bool) -> None:
    (tmp_path / "config.json").write_text(config)
    assert look(tmp_path).wide is expected


@pytest.mark.parametrize("config", ["{", "[]"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=r"config\.json: expected a"):
        look(tmp_path)


@pytest.mark.parametrize("name", ["model.mlmodel", "model", "saved_model.pb"])
def test_an_unknown_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConversionError, match=r"expected one of \.onnx"):
        look(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        look(tmp_path / "gone.onnx")


def test_a_module_alone_needs_no_file() -> None:
    told = {"module": "tests.simulators.tiny_models:Classifier", "inputs": [IMAGE]}
    found = examine(Source.model_validate(told), None, TENSORS)
    assert found.kind is SourceKind.TORCH
    assert set(found.files) <= {"code"}
