"""Receipts of real models in real engines: parity, accuracy, latency, traces, golden files."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.recipe import Budgets
from converters.step import MODEL_FILES
from converters.verify import golden
from converters.verify.gate import Evidence, Outcome, judge
from converters.verify.receipts import measure, read_receipts
from converters.verify.runners import STANDS, Runner, runners
from converters.verify.samples import prepare
from edge_runtime.contract.bundle import Precision
from edge_runtime.contract.errors import ConversionError, EdgeRuntimeError
from edge_runtime.engines.registry import FORMATS
from edge_runtime.tasks.rows import read_rows
from tests.conformance.graphs import Graph, Node, Value, to_onnx, to_tflite

LABELS = ["red", "green", "blue"]
WEIGHTS = np.array([[9, 1, 0], [1, 9, 1], [0, 1, 9]], np.float32) / 9
IMAGE = {"layout": "nchw", "fit": "stretch", "scale": 0.01}
TASK = {"kind": "classification", "input": IMAGE, "labels": LABELS}


def picture_model(
    weights: np.ndarray, *, layout: str = "nchw", output: str = "logits", node: str = "Relu"
) -> bytes:
    """The mean of each colour, a matrix, and a node that changes nothing for positive numbers."""
    shape = [1, 3, 8, 8] if layout == "nchw" else [1, 8, 8, 3]
    axes = [2, 3] if layout == "nchw" else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], name="pool", axes=axes, keepdims=0),
        helper.make_node(node, ["mean"], ["kept"], name="keep"),
        helper.make_node("MatMul", ["kept", "weights"], [output], name="classify"),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def table(x: str = "x", y: str = "y") -> Graph:
    return Graph(
        values={name: Value("float32", (1, 3)) for name in (x, "product", y)},
        inputs=(x,),
        outputs=(y,),
        nodes=[Node("MatMul", (x, "w"), "product"), Node("Relu", ("product",), y)],
        constants={"w": WEIGHTS},
    )


def table_model() -> bytes:
    return to_onnx(table()).SerializeToString()


class Bench:
    """Folders as steps leave them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def model(self, name: str, content: bytes, form: str = "onnx") -> Path:
        (self.folder(name) / MODEL_FILES[form]).write_bytes(content)
        return self.folder(name)

    def samples(self, task: dict[str, Any], labels: list[Any] | None = None, **arrays: np.ndarray) -> Path:
        np.savez(self.root / "raw.npz", **arrays)
        files = {"samples": self.root / "raw.npz"}
        if labels is not None:
            files["labels"] = self.root / "labels.npy"
            np.save(files["labels"], np.array(labels))
        prepare(
            files,
            self.folder("samples"),
            {"task": task, "calibration": 1, "verification": 99},
            lambda *_: None,
        )
        return self.folder("samples")

    def measure(self, model: Path, *, fp32: Path | None = None, **options: Any) -> tuple[Any, dict[str, Any]]:
        inputs = {"source_model": self.root / "source", "model": model, "samples": self.root / "samples"}
        if fp32 is not None:
            inputs["fp32"] = fp32
        defaults = {"variant": "it", "format": "onnx", "engines": ["onnxruntime"], "seconds": 0.001}
        facts = measure(inputs, self.folder("out"), {**defaults, **options}, lambda *_: None)
        json.dumps(facts, allow_nan=False)
        return read_receipts(self.root / "out"), facts


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A classifier of colours as source, and nine labelled pictures."""
    made = Bench(tmp_path)
    made.model("source", picture_model(WEIGHTS))
    pictures = np.full((9, 8, 8, 3), 20, np.uint8)
    classes = [at % 3 for at in range(9)]
    for at, number in enumerate(classes):
        pictures[at, ..., 2 - number] = 100 + 10 * at  # BGR
    made.samples(TASK, classes, pictures=pictures)
    return made


def test_a_variant_of_another_layout_and_name(bench: Bench) -> None:
    model = bench.model("nhwc", picture_model(WEIGHTS, layout="nhwc", output="Identity"))
    variant = {**TASK, "input": {**IMAGE, "layout": "nhwc"}, "output": "Identity"}
    (receipt,), facts = bench.measure(model, task=TASK, variant_task=variant, outputs={"logits": "Identity"})
    assert receipt.engine == "onnxruntime"
    assert receipt.parity["cosine.logits"] == pytest.approx(1)
    assert receipt.parity["max_abs.logits"] < 1e-5
    assert receipt.parity["sqnr_db.logits"] > 100
    assert receipt.parity["agreement.top1"] == 1
    assert receipt.accuracy == {
        **{name: pytest.approx(1) for name in ("top1", "macro_f1", "source.top1", "source.macro_f1")}
    }
    assert receipt.latency is not None
    assert receipt.latency.threads == 1
    assert receipt.latency.times_fp32 is None
    assert receipt.peak_memory_bytes is not None
    assert receipt.machine
    assert facts["labelled"]
    assert len(facts["rows"]) == receipt.parity["samples"] == 9
    assert "trace" not in facts
    verdict = judge(Evidence(Precision.FP32, 10, [receipt], labelled=True), Budgets())
    assert verdict.outcome is Outcome.PASSED


def test_a_broken_variant_is_traced_to_its_operator(bench: Bench) -> None:
    model = bench.model("broken", picture_model(WEIGHTS, node="Neg"))
    (receipt,), facts = bench.measure(model, task=TASK, fp32=bench.root / "source", export_rel=1e-6)
    assert receipt.parity["cosine.logits"] == pytest.approx(-1)
    assert receipt.parity["export.rel"] == 1e-6
    assert receipt.accuracy["top1"] < receipt.accuracy["source.top1"] == 1
    assert receipt.latency.times_fp32 > 0
    assert facts["trace"]["first_diverging"]["name"] == "keep"
    assert [layer["name"] for layer in facts["trace"]["layers"]] == ["pool", "keep", "classify"]
    assert "first to diverge is Relu 'keep'" in facts["trace"]["note"]
    verdict = judge(Evidence(Precision.INT8, 10, [receipt], labelled=True), Budgets())
    assert verdict.outcome is Outcome.FAILED
    assert "cosine.logits -1.0000" in verdict.why


def test_a_variant_that_gives_no_numbers(bench: Bench) -> None:
    model = bench.model("nan", picture_model(np.full((3, 3), np.nan, np.float32)))
    (receipt,), facts = bench.measure(model, task=TASK)
    assert receipt.parity["agreement.answered"] == 0
    assert receipt.accuracy == {}
    assert "onnxruntime: no answer to sample 0" in facts["not_verified"][0]
    assert judge(Evidence(Precision.FP32, 10, [receipt]), Budgets()).outcome is Outcome.FAILED


def test_what_no_engine_here_runs_is_not_verified(bench: Bench) -> None:
    model = bench.model("page", b"anything", "aimodel")
    receipts, facts = bench.measure(model, task=TASK, format="aimodel", engines=[])
    assert receipts == ()
    assert facts["receipts"] == 0
    assert facts["not_verified"] == ["no engine here takes aimodel: not verified here"]
    assert judge(Evidence(Precision.FP16, 10, receipts), Budgets()).outcome is Outcome.NOT_VERIFIED


def test_a_model_that_no_engine_opens_is_an_error(bench: Bench) -> None:
    with pytest.raises(EdgeRuntimeError, match="onnxruntime cannot open"):
        bench.measure(bench.model("torn", b"torn"), task=TASK)
    with pytest.raises(ConversionError, match=r"has no model\.onnx"):
        bench.measure(bench.folder("hollow"), task=TASK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": {"kind": "poem"}}, "option 'task': .*poem"),
        ({"task": TASK, "variant": 5}, "option 'variant': expected a text, got 5"),
        ({"task": TASK, "engines": "onnxruntime"}, "a list of texts"),
        ({"task": TASK, "verification": 0}, "a whole number from 1 on"),
        ({"task": TASK, "outputs": [1]}, "a mapping of names"),
        ({"task": TASK, "seconds": "long"}, "a number"),
    ],
)
def test_wrong_options(bench: Bench, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        bench.measure(bench.root / "source", **options)


def test_a_table_in_another_format_with_other_names(tmp_path: Path) -> None:
    task = {"kind": "tensors", "labels": LABELS}
    bench = Bench(tmp_path)
    source = bench.model("source", table_model())
    rows = np.random.default_rng(0).random((12, 3), np.float32)
    bench.samples(task, (rows @ WEIGHTS).argmax(axis=1).tolist(), x=rows)
    model = bench.model("lite", to_tflite(table("X", "Y")), "tflite")
    (receipt,), _ = bench.measure(
        model, task=task, format="tflite", engines=["litert"], inputs={"x": "X"}, outputs={"y": "Y"}
    )
    assert receipt.engine == "litert"
    assert receipt.parity["cosine.y"] == pytest.approx(1)
    assert receipt.parity["agreement.top1"] == 1
    assert receipt.accuracy["top1"] == 1
    both, facts = bench.measure(source, task=task, engines=[])
    assert [one.engine for one in both] == [
        name for name, forms in FORMATS.items() if "onnx" in forms and name not in str(facts["not_verified"])
    ]


@pytest.mark.filterwarnings("ignore")  # coremltools leaves files open
def test_core_ml_is_evaluated_where_it_does_not_exist(tmp_path: Path) -> None:
    coremltools = pytest.importorskip("coremltools")
    if sys.platform == "darwin":
        pytest.skip("here Core ML itself runs")
    from coremltools.converters.mil import Builder

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 3))])
    def program(x: Any) -> Any:
        return Builder.relu(x=Builder.matmul(x=x, y=WEIGHTS), name="y")

    bench = Bench(tmp_path)
    bench.model("source", table_model())
    task = {"kind": "tensors", "labels": LABELS}
    bench.samples(task, x=np.random.default_rng(0).random((6, 3), np.float32))
    converted = coremltools.convert(program, minimum_deployment_target=coremltools.target.iOS16)
    converted.save(str(bench.folder("apple") / MODEL_FILES["coreml"]))
    (receipt,), facts = bench.measure(bench.folder("apple"), task=task, format="coreml", engines=["coreml"])
    assert receipt.engine == "mil-evaluator"
    assert receipt.parity["cosine.y"] > 0.999
    assert receipt.parity["agreement.top1"] == 1
    assert receipt.latency is None
    assert receipt.peak_memory_bytes is None
    assert "coreml" in facts["not_verified"][0]
    verdict = judge(Evidence(Precision.INT8, 10, [receipt]), Budgets())
    assert verdict.why == "its speed against fp32: not verified here"


def test_golden_files(bench: Bench) -> None:
    out = bench.folder("golden")
    inputs = {"source_model": bench.root / "source", "samples": bench.root / "samples"}
    assert golden.make(inputs, out, {"task": TASK, "count": 3}, lambda *_: None) == {"rows": 3}
    given, answers = read_rows(out / golden.INPUTS), read_rows(out / golden.OUTPUTS)
    assert list(given) == ["pictures"]
    assert [answer.shape for answer in answers["logits"]] == [(1, 3)] * 3
    for picture, answer in zip(given["pictures"], answers["logits"], strict=True):
        colours = picture.reshape(-1, 3).mean(axis=0)[::-1] * 0.01
        np.testing.assert_allclose(answer[0], colours @ WEIGHTS, rtol=1e-4)
    first = (out / golden.INPUTS).read_bytes(), (out / golden.OUTPUTS).read_bytes()
    golden.make(inputs, out, {"task": TASK, "count": 3}, lambda *_: None)
    assert ((out / golden.INPUTS).read_bytes(), (out / golden.OUTPUTS).read_bytes()) == first


def test_which_engines_run_a_format() -> None:
    found, absent = runners("onnx", ["onnxruntime"])
    assert found == (Runner("onnxruntime"),)
    assert absent == ()
    assert runners("tfjs") == ((), ())
    assert all(stand.engine not in FORMATS for stands in STANDS.values() for stand in stands)
