"""Choosing the next token of a text from a model's logits. Pure: the dice are an argument."""

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import EngineError


def next_token(
    logits: NDArray[np.float32], dice: np.random.Generator, *, temperature: float, top_p: float
) -> tuple[int, float]:
    """Choose a token.

    Args:
        logits: (vocabulary,) float32; minus infinity for tokens that must not come.
        dice: Thrown once where `temperature` is not 0.
        temperature: 0: the likeliest token (the first of equals); above: logits are divided by it.
        top_p: Only the likeliest tokens whose probabilities reach this sum (nucleus sampling, Holtzman et
            al. 2020); the one that reaches it counts.

    Returns:
        The token, and its probability as the model sees it: at temperature 1, among all tokens.

    Raises:
        EngineError: The logits are no numbers.
    """
    own = _probabilities(logits, 1.0)
    if temperature == 0:
        token = int(own.argmax())
        return token, float(own[token])
    chances = own if temperature == 1 else _probabilities(logits, temperature)
    tokens: NDArray[np.int64] = (
        np.arange(len(chances), dtype=np.int64) if top_p >= 1 else nucleus(chances, top_p)
    )
    reached = np.cumsum(chances[tokens])
    place = int(np.searchsorted(reached, dice.random() * float(reached[-1]), side="right"))
    token = int(tokens[min(place, len(tokens) - 1)])
    return token, float(own[token])


def nucleus(chances: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Find the smallest set of the likeliest tokens whose probabilities reach a sum.

    Args:
        chances: (vocabulary,) float64, sum 1.
        top_p: In (0, 1).

    Returns:
        (k,) indices, likeliest first; at least one.
    """
    # All tokens below this together are less than what may be left out, so that only the others are sorted.
    tokens = np.flatnonzero(chances >= (1 - top_p) / len(chances))
    tokens = tokens[np.argsort(-chances[tokens], kind="stable")]
    reached = np.cumsum(chances[tokens])
    return tokens[: int(np.searchsorted(reached, top_p, side="left")) + 1]


def _probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64)
    top = float(scaled.max())
    if not np.isfinite(top):
        raise EngineError(
            "logits of the next token",
            expected="numbers",
            got="NaN or infinity",
            do="Run another variant of the model; this one overflows in its precision",
        )
    scaled -= top
    scaled /= temperature
    powers: NDArray[np.float64] = np.exp(scaled)
    powers /= powers.sum()
    return powers
