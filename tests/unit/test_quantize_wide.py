"""Which nets have wide activations: by their configuration, their weights and their operators."""

from collections.abc import Mapping

import pytest

from converters.quantize.wide import Operator, by_config, by_operators, by_weights


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "vit", "num_attention_heads": 12}, True),
        ({"model_type": "distilbert", "n_heads": 12}, True),
        ({"model_type": "swin", "num_heads": [3, 6]}, True),
        ({"model_type": "bart", "encoder_attention_heads": 16}, True),
        ({"model_type": "convnext", "hidden_sizes": [96, 192]}, False),
        ({"model_type": "resnet", "num_attention_heads": 0}, False),
    ],
)
def test_a_configuration_names_heads(config: Mapping[str, object], *, expected: bool) -> None:
    assert by_config(config) is expected


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"norm.weight": 1, "norm.bias": 1}, True),
        ({"norm.weight": 1, "norm.bias": 1, "norm.running_mean": 1}, False),
        ({"conv.weight": 4, "conv.bias": 1}, False),
        ({"slope.weight": 1}, False),  # of a PReLU
    ],
)
def test_weights_of_a_normalization_without_a_kept_mean(axes: Mapping[str, int], *, expected: bool) -> None:
    assert by_weights(axes) is expected


def chain(*kinds: str) -> list[Operator]:
    """Operators that each take what the one before gave."""
    return [Operator(kind, (f"t{at}", "constant"), (f"t{at + 1}",)) for at, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("MatMul", "Softmax", "MatMul"), True),
        (("BATCH_MATMUL", "SOFTMAX", "RESHAPE", "BATCH_MATMUL"), True),
        (("MultiHeadAttention",), True),
        (("Conv", "LayerNormalization"), True),
        (("SQUARED_DIFFERENCE", "MEAN", "RESHAPE", "ADD", "RSQRT"), True),
        (("Pow", "ReduceMean", "Add", "Sqrt", "Div"), True),
        (("Conv", "Gemm", "Softmax"), False),  # a classifier's probabilities
        (("Conv", "Softmax", "Conv"), False),
        (("Softmax", "Add", "MatMul"), False),
        (("MEAN", "RESHAPE", "CONV_2D", "LOGISTIC"), False),  # squeeze and excite
        (("BatchNormalization", "ReduceMean", "Gemm"), False),
    ],
)
def test_operators(kinds: tuple[str, ...], *, expected: bool) -> None:
    assert by_operators(chain(*kinds)) is expected
