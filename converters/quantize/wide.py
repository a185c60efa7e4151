"""Wide activations: tells the nets that have them, unloaded: they attend, or normalize each sample.

In TFLite one range, fixed beforehand, holds for a whole tensor of static int8, and the steps of a layer
normalization are operators of their own, which have no fast integer kernels. Measured, cosine with the float
model's answers and time as a multiple of its, static int8 against weights in 8 bits with activations measured
at every run: a ViT of three layers 0.983 and 3.3 against 1.000 and 0.8, a ConvNeXt of four 0.998 and 2.2
against 1.000 and 0.4. Loads and quantizes nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_WHOLE = frozenset(
    {
        "attention",
        "groupnormalization",
        "groupqueryattention",
        "instancenormalization",
        "layernormalization",
        "meanvariancenormalization",
        "multiheadattention",
        "skiplayernormalization",
    }
)
"""Operators that are all of it."""
_CHAINS = (
    # What begins, what ends, and what may come between, which changes no more than shape, type or a little.
    (
        frozenset({"softmax"}),
        frozenset({"matmul", "batchmatmul", "gemm"}),
        frozenset({"cast", "dropout", "reshape", "transpose", "where"}),
    ),
    (
        frozenset({"mean", "reducemean"}),
        frozenset({"sqrt", "rsqrt"}),
        frozenset({"add", "cast", "reshape", "transpose"}),
    ),
)
"""Attention, and the variance of a sample, where they are taken apart."""
_HEADS = ("attention_heads", "num_heads", "n_heads", "n_head")


class Operator(NamedTuple):
    """A node of a graph.

    Args:
        kind: As its format names it: `MatMul`, `BATCH_MATMUL`.
        inputs: Names of tensors.
        outputs: Names of tensors.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def by_operators(operators: Iterable[Operator]) -> bool:
    """Tell it from a graph: a classifier's last softmax alone is no attention.

    Args:
        operators: In the order they run.
    """
    begun: tuple[set[str], ...] = tuple(set() for _ in _CHAINS)
    for kind, inputs, outputs in operators:
        plain = kind.replace("_", "").lower()
        if plain in _WHOLE:
            return True
        for (first, last, between), tensors in zip(_CHAINS, begun, strict=True):
            taken = not tensors.isdisjoint(inputs)
            if taken and plain in last:
                return True
            if plain in first or (taken and plain in between):
                tensors.update(outputs)
    return False


def by_config(config: Mapping[str, object]) -> bool:
    """Tell it from `config.json` of a Hugging Face folder: it has attention heads."""
    return any(str(key).endswith(_HEADS) and bool(value) for key, value in config.items())


def by_weights(axes: Mapping[str, int]) -> bool:
    """Tell it from the names of weights: a normalization without a mean kept from training.

    Args:
        axes: Name of a tensor, as torch names it -> how many axes it has.
    """
    return any(
        count == 1
        and name.endswith(".weight")
        and f"{module}.bias" in axes
        and f"{module}.running_mean" not in axes
        for name, count in axes.items()
        for module in [name.removesuffix(".weight")]
    )
