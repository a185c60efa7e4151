"""Tokenizers and models of text, small enough for a test, with answers that a test can work out."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundle import ModelBundle, wrap_model
from edge_runtime.contract.task import TaskSpec

WORDS = 100


def write_words(path: Path, names: tuple[str, ...] = tuple(f"w{number}" for number in range(WORDS))) -> Path:
    """Write a tokenizer of whole words, BERT's special tokens around them; ids rise from 4."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3} | {w: at for at, w in enumerate(names, 4)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.save(str(path))
    return path


def table_model(table: NDArray[np.float32], *, pooled: bool, batch: int | None = None) -> onnx.ModelProto:
    """Make a model that looks each token up: its row, or with `pooled` the mean of the rows of a text.

    Args:
        table: (vocabulary, columns) float32.
        pooled: Whether it gives `(batch, columns)` instead of `(batch, length, columns)`.
        batch: Texts that it takes; None: any number.
    """
    axis: Any = batch or "batch"
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows" if pooled else "logits"])]
    shape: list[Any] = [axis, "length", table.shape[1]]
    if pooled:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["some"]),
            helper.make_node("ReduceSum", ["some", "middle"], ["sum"], keepdims=0),
            helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
            helper.make_node("Div", ["sum", "count"], ["logits"]),
        ]
        shape = [axis, table.shape[1]]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [axis, "length"])
        for name in _INPUTS[: 1 + pooled]
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        ids,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(table.astype(np.float32), "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    onnx.checker.check_model(made)
    return made


_INPUTS = ("input_ids", "attention_mask")


def write_bundle(
    folder: Path, words: tuple[str, ...], table: NDArray[np.float32], task: TaskSpec, **more: Any
) -> ModelBundle:
    """Write such a model with its tokenizer, and open them as a bare model."""
    folder.mkdir(parents=True, exist_ok=True)
    write_words(folder / "tokenizer.json", words)
    onnx.save(table_model(table, pooled=task.kind == "text-classification", **more), folder / "model.onnx")
    return wrap_model(folder / "model.onnx", task)
