"""Is a failure rate over a limit, or over another one, or was that bad luck? Exact tests of counts.

Clopper and Pearson's lower bound (Biometrika 26, 1934, 404-413) rather than Wilson's: used on one side,
Wilson's lower bound is too high where the rate is small (Cai, J. Stat. Plan. Inference 131, 2005, 63-88), and
rollouts would halt on one failure of three. Pure. Knows nothing of rollouts, and does not correct for looking
often: the page on rollouts says how often that halts a good one.
"""

import math

from edge_runtime.contract.errors import ConfigError

_SMALLEST_PART = 1e-17
"""Of the sum: terms of a tail fall geometrically, and what follows a part so small changes no digit of it."""
_HALVINGS = 60


def at_least(count: int, of: int, rate: float) -> float:
    """Give the probability of `count` or more failures in `of` attempts.

    Args:
        count: Failures.
        of: Independent attempts.
        rate: At which each of them fails, in [0, 1].

    Returns:
        P(X >= count) for X binomial.
    """
    if count <= 0:
        return 1.0
    if count > of or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    if count > of * rate:
        return _tail(count, of, rate)
    # Below the middle the other tail is the short one: fewer failures than `count` are so many successes.
    return 1.0 - _tail(of - count + 1, of, 1.0 - rate)


def _tail(count: int, of: int, rate: float) -> float:
    """Sum P(X = count), P(X = count + 1), … for a count over the mean."""
    term = math.exp(_log_choose(of, count) + count * math.log(rate) + (of - count) * math.log1p(-rate))
    total, odds = term, rate / (1.0 - rate)
    while count < of and term > total * _SMALLEST_PART:
        term *= odds * (of - count) / (count + 1)
        count += 1
        total += term
    return min(1.0, total)


def exceeds(failed: int, attempted: int, limit: float, confidence: float) -> bool:
    """Say whether the lower confidence bound of a failure rate is over a limit.

    The same as `lower_bound(failed, attempted, confidence) > limit`, without searching for the bound: it is
    over the limit exactly where so many failures would be rarer than `1 - confidence` at a rate of the limit.

    Args:
        failed: Failures.
        attempted: Attempts, at least as many.
        limit: A rate in [0, 1].
        confidence: In (0, 1).
    """
    _check(failed, attempted, confidence)
    return failed > 0 and at_least(failed, attempted, limit) < 1.0 - confidence


def more_often(hits: int, of: int, others: int, of_others: int, confidence: float) -> bool:
    """Say whether something happens more often in one group than in another.

    Fisher's exact test, on one side: were both drawn from one urn with all the hits in it, so many or
    more would fall to the first group with a probability under `1 - confidence`.

    Args:
        hits: In the group.
        of: Its size.
        others: Hits in the other group.
        of_others: Its size.
        confidence: In (0, 1).
    """
    _check(hits, of, confidence)
    _check(others, of_others, confidence)
    all_hits, size = hits + others, of + of_others
    if size == 0 or hits * size <= of * all_hits:
        return False  # not more than its share
    term = math.exp(
        _log_choose(all_hits, hits) + _log_choose(size - all_hits, of - hits) - _log_choose(size, of)
    )
    total, count = term, hits
    while count < min(of, all_hits) and term > total * _SMALLEST_PART:
        term *= (all_hits - count) * (of - count) / ((count + 1) * (size - all_hits - of + count + 1))
        count += 1
        total += term
    return total < 1.0 - confidence


def _log_choose(size: int, some: int) -> float:
    return math.lgamma(size + 1) - math.lgamma(some + 1) - math.lgamma(size - some + 1)


def lower_bound(failed: int, attempted: int, confidence: float) -> float:
    """Give the rate that the true one is over with a confidence, whatever it is.

    Args:
        failed: Failures.
        attempted: Attempts, at least as many.
        confidence: In (0, 1).

    Returns:
        The one-sided Clopper-Pearson bound, 0 where nothing failed.
    """
    _check(failed, attempted, confidence)
    if failed == 0:
        return 0.0
    low, high = 0.0, failed / attempted
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if at_least(failed, attempted, middle) < 1.0 - confidence else (low, middle)
        )
    return low


def _check(failed: int, attempted: int, confidence: float) -> None:
    if not 0 <= failed <= attempted:
        raise ConfigError("bound: failed", expected=f"from 0 to the {attempted} attempted", got=str(failed))
    if not 0 < confidence < 1:
        raise ConfigError("bound: confidence", expected="in (0, 1)", got=f"{confidence:g}")
