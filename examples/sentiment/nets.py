"""The two classifiers as ONNX: a bag of words of some kilobytes, and MiniLM with a head on its mean vector.

Trains the last layer of both by logistic regression, and makes its probabilities honest. Fetches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

PAD, UNKNOWN = "[PAD]", "[UNK]"
OPSET = 17
VECTOR = 384
"""Numbers that MiniLM gives for a text."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """Logit of "positive": `x @ weights + bias`."""

    weights: Matrix
    bias: float

    def logits(self, x: Matrix) -> Matrix:
        return x @ self.weights + self.bias


def fit(x: Matrix, y: NDArray[np.int64], strength: float, rounds: int = 12) -> Line:
    """Logistic regression with an L2 penalty, by Newton's method.

    Args:
        x: (n, features).
        y: (n,) of 0 and 1.
        strength: Inverse of the penalty, as scikit-learn's `C`.
        rounds: Newton steps.
    """
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = np.full(ones.shape[1], 1 / strength)
    penalty[-1] = 0
    solution = np.zeros(ones.shape[1])
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-(ones @ solution)))
        gradient = ones.T @ (p - y) + penalty * solution
        curvature = (ones * (p * (1 - p))[:, None]).T @ ones + np.diag(penalty + 1e-9)
        solution -= np.linalg.solve(curvature, gradient)
    return Line(solution[:-1], float(solution[-1]))


def honest(line: Line, x: Matrix, y: NDArray[np.int64]) -> Line:
    """Scale a line so that its probabilities are as likely as can be on samples it has not seen.

    Temperature scaling (Guo et al., ICML 2017); the temperature goes into the weights.
    """
    logits = line.logits(x) * np.where(y == 1, 1, -1)
    scales = np.geomspace(0.1, 4, 200)
    losses = [np.logaddexp(0, -scale * logits).mean() for scale in scales]
    best = float(scales[int(np.argmin(losses))])
    return Line(line.weights * best, line.bias * best)


# --- the small one ------------------------------------------------------------------------------------------


def word_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Learn the words of some texts: those that come at least twice, in small letters."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous")]
    )
    trainer = trainers.WordLevelTrainer(
        vocab_size=4000, min_frequency=2, special_tokens=[PAD, UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.enable_padding(pad_id=0, pad_token=PAD)
    return tokenizer


def word_counts(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Matrix:
    """Count each word in each text, as far as the model looks."""
    counts = np.zeros((len(texts), tokenizer.get_vocab_size()))
    for row, text in zip(counts, texts, strict=True):
        np.add.at(row, np.array(tokenizer.encode(text).ids[:longest], np.int64), 1)
    return counts


def words_model(line: Line, target: Path) -> None:
    """Write the bag of words: look up a weight for each token, add up, done."""
    table = np.stack([-line.weights / 2, line.weights / 2], axis=1).astype(np.float32)
    bias = np.array([-line.bias / 2, line.bias / 2], np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["each", "mask3"], ["there"]),
        helper.make_node("ReduceSum", ["there", "second"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "bias"], ["logits"]),
    ]
    constants = {"table": table, "bias": bias, "last": np.array([-1]), "second": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "words",
        [_ids("input_ids"), _ids("attention_mask")],
        [_logits()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    _save(model, target)


# --- the large one ------------------------------------------------------------------------------------------


def pooled_model(encoder: Path, target: Path, line: Line | None) -> None:
    """Put mean pooling over an encoder's tokens, to length 1, and a head over that.

    Args:
        encoder: The ONNX file; gives `last_hidden_state`.
        target: The file to write.
        line: The head; None: the vectors themselves come out, to train one.
    """
    model = onnx.load(encoder)
    graph = model.graph
    hidden = graph.output[0].name
    graph.node.extend(
        [
            helper.make_node("Cast", ["attention_mask"], ["head/mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["head/mask", "head/last"], ["head/mask3"]),
            helper.make_node("Mul", [hidden, "head/mask3"], ["head/there"]),
            helper.make_node("ReduceSum", ["head/there", "head/second"], ["head/sum"], keepdims=0),
            helper.make_node("LpNormalization", ["head/sum"], ["head/vector"], axis=-1, p=2),
        ]
    )
    constants: dict[str, Any] = {"head/last": np.array([-1]), "head/second": np.array([1])}
    del graph.output[:]
    if line is None:
        shape = ["batch", VECTOR]
        graph.output.append(helper.make_tensor_value_info("head/vector", TensorProto.FLOAT, shape))
    else:
        weights = np.stack([-line.weights / 2, line.weights / 2], axis=1).astype(np.float32)
        constants["head/weights"] = weights
        constants["head/bias"] = np.array([-line.bias / 2, line.bias / 2], np.float32)
        graph.node.append(helper.make_node("Gemm", ["head/vector", "head/weights", "head/bias"], ["logits"]))
        graph.output.append(_logits())
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    _save(model, target)


def _ids(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])


def _logits() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])


def _save(model: onnx.ModelProto, target: Path) -> None:
    onnx.checker.check_model(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, target)
