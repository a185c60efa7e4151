"""Sentiment models that a person can compute in the head: a text's score is the sum of its words' scores.

The small one knows few words and is unsure of the others; the large one knows all of them.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from converters.bundle.writer import BuiltVariant, write
from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.bundle import Format, Latency, Precision, Receipt
from edge_runtime.contract.task import TextClassificationSpec, TextInput

LABELS = ("negative", "positive")
WORDS = ("[PAD]", "[UNK]", "good", "kind", "bad", "rude", "slow", "short", "queue", "staff", "meh")
SMALL: Mapping[str, float] = {"good": 3.0, "bad": -3.0, "kind": 0.2, "rude": 0.2}
LARGE: Mapping[str, float] = {"good": 5.0, "bad": -5.0, "kind": 5.0, "rude": -5.0, "slow": -4.0, "short": 4.0}


def sentiment_bundle(
    target: Path,
    words: Mapping[str, float] = SMALL,
    *,
    name: str = "sentiment",
    version: str = "1.0.0",
    peak_memory_bytes: int | None = 1_000_000,
) -> ModelBundle:
    """Write a bundle whose one variant scores `words`; "positive" by the logistic function of the sum.

    Args:
        target: Folder of the bundle.
        words: What each word adds.
        name: Of the bundle.
        version: Of the bundle.
        peak_memory_bytes: What its receipt says; None: it has none.
    """
    steps = target.with_name(target.name + ".steps")
    steps.mkdir(parents=True)
    onnx.save(_graph(words), str(steps / "model.onnx"))
    (steps / "facts.json").write_text("{}")
    _tokenizer().save(str(steps / "tokenizer.json"))
    receipt = Receipt(
        variant="onnx-fp32",
        engine="onnxruntime",
        machine="a desk",
        measured_at="2026-01-01T00:00:00Z",
        latency=Latency(p50_ms=0.1, p95_ms=0.2, threads=1, runs=10),
        peak_memory_bytes=peak_memory_bytes,
    )
    return write(
        target,
        name=name,
        version=version,
        licence="Apache-2.0",
        source="made for a test",
        task=TextClassificationSpec(
            kind="text-classification", input=TextInput(max_length=32), labels=LABELS, top_k=2
        ),
        variants=[BuiltVariant("onnx-fp32", Format.ONNX, Precision.FP32, steps, ())],
        receipts=[receipt] if peak_memory_bytes is not None else [],
        tokenizer=steps / "tokenizer.json",
    )


def _graph(words: Mapping[str, float]) -> onnx.ModelProto:
    half = np.array([words.get(word, 0.0) / 2 for word in WORDS], np.float32)
    table = numpy_helper.from_array(np.stack((-half, half), axis=1), "table")
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    last = numpy_helper.from_array(np.array([2], np.int64), "last")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["scores"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["scores", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["logits"], keepdims=0),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "sentiment", ids, [logits], [table, axis, last])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer
