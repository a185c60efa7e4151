"""A decoder small enough for a test, with a real past: Hugging Face's names, random weights.

Its tokenizer has a token for each byte, so that a character of several bytes is several tokens.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundle import ModelBundle, wrap_model
from edge_runtime.contract.task import GenerationSpec

END = "<|end|>"
BYTES = 256
VOCABULARY = BYTES + 1
LAYERS, HEADS, SIZE, LONGEST = 2, 2, 8, 256
_WIDTH = HEADS * SIZE
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "


def spec(**more: Any) -> GenerationSpec:
    told: dict[str, Any] = {"context_length": 64, "end_tokens": (END,), "chat_template": TEMPLATE}
    return GenerationSpec(kind="generation", **(told | more))


def write_bundle(folder: Path, *, dtype: str = "float32", **more: Any) -> ModelBundle:
    """Write the model and its tokenizer, and open them as a bare model."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer.json")
    onnx.save(decoder(dtype=dtype), folder / "model.onnx")
    return wrap_model(folder / "model.onnx", spec(**more))


def write_genai(folder: Path) -> Path:
    """Write the float32 model as a folder of ONNX Runtime GenAI."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer.json")
    onnx.save(decoder(), folder / "model.onnx")
    ids = {name: name for name in ("input_ids", "attention_mask", "position_ids")}
    parts = ("key", "value")
    config: dict[str, Any] = {
        "model": {
            "type": "llama",
            "context_length": 64,
            "vocab_size": VOCABULARY,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), BYTES),
            "decoder": {
                "filename": "model.onnx",
                "head_size": SIZE,
                "hidden_size": _WIDTH,
                "num_attention_heads": HEADS,
                "num_key_value_heads": HEADS,
                "num_hidden_layers": LAYERS,
                "session_options": {"provider_options": []},
                "inputs": ids | {f"past_{part}_names": f"past_key_values.%d.{part}" for part in parts},
                "outputs": {
                    "logits": "logits",
                    **{f"present_{part}_names": f"present.%d.{part}" for part in parts},
                },
            },
        },
        "search": {"max_length": 64},
    }
    (folder / "genai_config.json").write_text(json.dumps(config))
    return folder


def write_tokenizer(path: Path) -> Path:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END, special=True)])
    made.save(str(path))
    return path


def decoder(*, dtype: str = "float32", without: tuple[str, ...] = (), seed: int = 0) -> onnx.ModelProto:
    """Make the graph: embeddings of tokens and places, attention over past and present, logits.

    Args:
        dtype: float32 or float16, of everything but the ids.
        without: Inputs that the model shall not have: `attention_mask`.
        seed: Of the weights.
    """
    graph = _Graph(np.random.default_rng(seed), np.dtype(dtype))
    hidden = graph.node("Gather", graph.weight(VOCABULARY, _WIDTH), "input_ids")
    places = graph.node("Gather", graph.weight(LONGEST, _WIDTH), "position_ids")
    hidden = graph.node("Add", hidden, places)
    for layer in range(LAYERS):
        hidden = graph.node("Add", hidden, _attention(graph, hidden, layer, masked=not without))
        wide = graph.node("Relu", graph.node("MatMul", hidden, graph.weight(_WIDTH, 32)))
        hidden = graph.node("Add", hidden, graph.node("MatMul", wide, graph.weight(32, _WIDTH)))
    graph.node("MatMul", hidden, graph.weight(_WIDTH, VOCABULARY), out="logits")
    return graph.model(without)


def _attention(graph: "_Graph", hidden: str, layer: int, *, masked: bool) -> str:
    parts = [_heads(graph, graph.node("MatMul", hidden, graph.weight(_WIDTH, _WIDTH))) for _ in range(3)]
    past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
    present = [
        graph.node("Concat", old, new, out=old.replace("past_key_values", "present"), axis=2)
        for old, new in zip(past, parts[1:], strict=True)
    ]
    scores = graph.node("MatMul", parts[0], graph.node("Transpose", present[0], perm=[0, 1, 3, 2]))
    # A query sees the keys up to its own place.
    count = graph.node("Gather", graph.node("Shape", present[0]), graph.constant(np.array(2)))
    keys = graph.node("Range", graph.constant(np.array(0)), count, graph.constant(np.array(1)))
    queries = graph.node("Unsqueeze", "position_ids", graph.constant(np.array([1, 3])))
    seen = graph.node("LessOrEqual", keys, queries)
    if masked:
        mask = graph.node("Unsqueeze", "attention_mask", graph.constant(np.array([1, 2])))
        seen = graph.node("And", seen, graph.node("Cast", mask, to=TensorProto.BOOL))
    scores = graph.node("Where", seen, scores, graph.constant(np.array(-1e4, graph.dtype)))
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), present[1])
    joined = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = graph.node("Reshape", joined, graph.constant(np.array([0, 0, _WIDTH])))
    return graph.node("MatMul", flat, graph.weight(_WIDTH, _WIDTH))


def _heads(graph: "_Graph", flat: str) -> str:
    apart = graph.node("Reshape", flat, graph.constant(np.array([0, 0, HEADS, SIZE])))
    return graph.node("Transpose", apart, perm=[0, 2, 1, 3])


class _Graph:
    """Nodes and weights that are being put together."""

    def __init__(self, dice: np.random.Generator, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._dice = dice
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        return self.constant((self._dice.standard_normal(shape) * 0.25).astype(self.dtype))

    def constant(self, value: Any) -> str:
        name = f"constant{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def model(self, without: tuple[str, ...]) -> onnx.ModelProto:
        real = helper.np_dtype_to_tensor_dtype(self.dtype)
        ids = {
            "input_ids": ["batch", "length"],
            "attention_mask": ["batch", "total"],
            "position_ids": ["batch", "length"],
        }
        parts = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
        inputs = [
            *(_value(name, TensorProto.INT64, shape) for name, shape in ids.items() if name not in without),
            *(_value(f"past_key_values.{part}", real, ["batch", HEADS, "past", SIZE]) for part in parts),
        ]
        outputs = [
            _value("logits", real, ["batch", "length", VOCABULARY]),
            *(_value(f"present.{part}", real, ["batch", HEADS, "total", SIZE]) for part in parts),
        ]
        graph = helper.make_graph(self._nodes, "decoder", inputs, outputs, self._weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        made.ir_version = 9
        onnx.checker.check_model(made)
        return made


def _value(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
