"""How long to wait before a source is opened again. Rolls no dice itself."""

FIRST_S = 0.5
LONGEST_S = 30.0


def backoff_s(attempt: int, dice: float) -> float:
    """Wait before the next attempt: doubling, capped, with half of it left to the dice.

    Args:
        attempt: 0 for the first retry since the source last worked.
        dice: Uniform in [0, 1); spreads cameras that fell over together.

    Returns:
        Seconds in [wait / 2, wait).
    """
    wait = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 16))
    return wait * (0.5 + dice / 2)
