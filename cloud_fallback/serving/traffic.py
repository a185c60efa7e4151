"""Which version of a model answers a request: weights, sticky keys, a shadow beside, promotion, rollback.

Pure: the dice come in as a number, and nothing is sent. Does not say which versions are loaded, mirrors
nothing and keeps nothing on disk; `shadow` and `steering` do.
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from edge_runtime.contract.errors import InputError

WHOLE = 100.0
"""Weights are percent."""

HISTORY = 16
"""Splits that a rollback can go back to, at most."""


@dataclass(frozen=True, slots=True)
class Split:
    """How the requests to one model are shared out.

    Args:
        weights: Version -> percent of the requests; they sum to 100.
        shadow: A version that gets a copy of requests and whose answers nobody sees; None: none.
        shadow_percent: Of the requests, how many are copied.
    """

    weights: Mapping[str, float]
    shadow: str | None = None
    shadow_percent: float = WHOLE

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        if not 0 <= self.shadow_percent <= WHOLE:
            raise InputError("shadow_percent", expected="0 to 100", got=str(self.shadow_percent))
        if self.shadow is not None and self.weights.get(self.shadow, 0) > 0:
            raise InputError(
                f"shadow '{self.shadow}' answers requests itself",
                expected="a version without weight",
                got=f"weight {self.weights[self.shadow]:g}",
                do="Take its weight away, or shadow another version",
            )

    def versions(self) -> frozenset[str]:
        """Give every version that this split needs loaded."""
        needed = {version for version, weight in self.weights.items() if weight > 0}
        return frozenset(needed | ({self.shadow} if self.shadow is not None else set()))


@dataclass(frozen=True, slots=True)
class Steering:
    """A split with those it replaced.

    Args:
        split: The one that holds.
        before: Earlier ones, newest last.
    """

    split: Split
    before: tuple[Split, ...] = field(default=())


def steer(steering: Steering | None, split: Split) -> Steering:
    """Put a split in force, remembering the one it replaces.

    Args:
        steering: What holds now; None: nothing was said yet.
        split: What shall hold.
    """
    if steering is None:
        return Steering(split)
    if steering.split == split:
        return steering
    return Steering(split, (*steering.before, steering.split)[-HISTORY:])


def promote(steering: Steering | None, version: str) -> Steering:
    """Give all requests to one version and end its shadow run.

    Args:
        steering: What holds now; None: nothing was said yet.
        version: The one that takes over.
    """
    return steer(steering, Split({version: WHOLE}))


def roll_back(steering: Steering | None) -> Steering:
    """Put the split before the present one in force again.

    Args:
        steering: What holds now.

    Raises:
        InputError: There is none to go back to.
    """
    if steering is None or not steering.before:
        raise InputError("there is no earlier split to go back to", do="Set the weights instead")
    return Steering(steering.before[-1], steering.before[:-1])


def choose(
    split: Split, available: Collection[str], *, model: str, sticky: str | None, dice: float
) -> str | None:
    """Pick the version that answers one request.

    The same sticky key gets the same version as long as the weights stay. When they change, a key moves only
    away from a version that lost weight or to one that gained some: weighted rendezvous hashing
    (Schindelhauer and Schomaker 2005).

    Args:
        split: In force.
        available: Versions that are loaded; the others' shares fall to these in proportion.
        model: Whose split it is: a key is not sent the same way by every model.
        sticky: The caller's key; None: every request for itself.
        dice: Uniform in [0, 1); decides where there is no key.

    Returns:
        None where no version with weight is loaded.
    """
    weights = {v: w for v, w in sorted(split.weights.items()) if w > 0 and v in available}
    if not weights:
        return None
    if sticky is not None:
        return max(weights, key=lambda version: _pull(f"{model}\0{version}\0{sticky}", weights[version]))
    mark = dice * sum(weights.values())
    for version, weight in weights.items():
        mark -= weight
        if mark < 0:
            return version
    return next(reversed(weights))


def mirrors(split: Split, available: Collection[str], *, dice: float) -> str | None:
    """Tell which version gets a copy of a request, if any.

    Args:
        split: In force.
        available: Versions that are loaded.
        dice: Uniform in [0, 1).
    """
    wanted = split.shadow in available and dice * WHOLE < split.shadow_percent
    return split.shadow if wanted else None


def _pull(text: str, weight: float) -> float:
    """Draw an exponential variate from a text, the larger the heavier: the largest wins in proportion."""
    drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return weight / -math.log((drawn + 1) / (2**64 + 1))


def _check_weights(weights: Mapping[str, float]) -> None:
    for version, weight in weights.items():
        if not 0 <= weight <= WHOLE:  # refuses NaN, too
            raise InputError(f"weight of version '{version}'", expected="0 to 100 percent", got=str(weight))
    total = math.fsum(weights.values())
    if not math.isclose(total, WHOLE, abs_tol=1e-6):
        raise InputError("weights", expected="a sum of 100 percent", got=f"{total:g}")
