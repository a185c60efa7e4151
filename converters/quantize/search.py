"""How many layers to give back: the fewest that satisfy, with few attempts. Pure; knows no model."""

from collections.abc import Callable


def fewest(most: int, good: Callable[[int], bool]) -> int:
    """Find the least number that is good, if every greater one is good as well.

    Doubles first: mostly few are enough, and small numbers are told apart by few attempts. Where `good` is
    not quite monotone, as measured things are, the answer still is good, only perhaps not the least.

    Args:
        most: Taken as good without asking.
        good: Asked at most once a number.

    Returns:
        From 0 to `most`.
    """
    low, high = -1, 0
    while high < most and not good(high):
        low, high = high, min(max(1, 2 * high), most)
    while high - low > 1:
        middle = (low + high) // 2
        if good(middle):
            high = middle
        else:
            low = middle
    return high
