"""Identities: who is who across the cameras of one store, by vectors of how objects look. Pure.

Compares vectors only: knows no camera's place and no walking time. An identity is the mean of the vectors of
its sightings, and is forgotten with time: nobody is recognized the next day.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import ConfigError, InputError

Vector = NDArray[np.float32]

_LEARN = 0.3
"""Share of a new sighting in an identity's vector: light and pose change, people do not."""


@dataclass(frozen=True, slots=True)
class IdentityOptions:
    """When two sightings are one object.

    Args:
        similarity: Least cosine of their vectors.
        keep_s: An identity that is not seen for this long is forgotten.
        most: Identities at the same time; the one not seen for the longest gives way.

    Raises:
        ConfigError: A value is out of its range.
    """

    similarity: float = 0.7
    keep_s: float = 1800.0
    most: int = 1000

    def __post_init__(self) -> None:
        if not -1 <= self.similarity <= 1:
            raise ConfigError("similarity", expected="-1 to 1", got=str(self.similarity))
        if self.keep_s <= 0 or self.most < 1:
            raise ConfigError("keep_s and most", expected="more than 0", got=f"{self.keep_s}, {self.most}")


class Identities:
    """The objects of one store that were seen lately.

    Args:
        options: When two sightings are one object.
    """

    def __init__(self, options: IdentityOptions = IdentityOptions()) -> None:
        self._options = options
        self._vectors: NDArray[np.float32] | None = None
        self._names: list[int] = []
        self._seen_s: list[float] = []
        self._next = 1

    def __len__(self) -> int:
        """Identities that are known now."""
        return len(self._names)

    def match(self, vector: Vector, now_s: float) -> int:
        """Give the identity of a sighting; a new one where it looks like nobody known.

        Args:
            vector: (size,) float32, any length but 0.
            now_s: Time of the sighting, seconds of any one clock.

        Raises:
            InputError: The vector is of another size than those before, or has no direction.
        """
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0:
            raise InputError(
                "a vector of how an object looks", expected="a direction", got=f"length {length}"
            )
        unit = (vector / length).astype(np.float32)
        self._forget(now_s)
        if self._vectors is None:
            self._vectors = np.empty((0, len(unit)), np.float32)
        if self._vectors.shape[1] != len(unit):
            raise InputError(
                "a vector of how an object looks",
                expected=f"{self._vectors.shape[1]} numbers",
                got=str(len(unit)),
            )
        if self._names:
            similar = self._vectors @ unit
            best = int(similar.argmax())
            if similar[best] >= self._options.similarity:
                mixed = (1 - _LEARN) * self._vectors[best] + _LEARN * unit
                self._vectors[best] = mixed / max(float(np.linalg.norm(mixed)), 1e-12)
                self._seen_s[best] = max(self._seen_s[best], now_s)
                return self._names[best]
        return self._begin(unit, now_s)

    def _begin(self, unit: Vector, now_s: float) -> int:
        if len(self._names) >= self._options.most:
            self._drop([int(np.argmin(self._seen_s))])
        vectors = self._vectors
        self._vectors = unit[None] if vectors is None else np.concatenate((vectors, unit[None]))
        self._names.append(self._next)
        self._seen_s.append(now_s)
        self._next += 1
        return self._names[-1]

    def _forget(self, now_s: float) -> None:
        self._drop([at for at, seen in enumerate(self._seen_s) if now_s - seen > self._options.keep_s])

    def _drop(self, places: list[int]) -> None:
        if not places or self._vectors is None:
            return
        gone = set(places)
        self._vectors = np.delete(self._vectors, places, axis=0)
        self._names = [name for at, name in enumerate(self._names) if at not in gone]
        self._seen_s = [seen for at, seen in enumerate(self._seen_s) if at not in gone]
