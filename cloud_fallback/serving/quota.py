"""How much each API key may ask: token buckets of requests and of rows, and who a key belongs to.

Pure: `now` comes in, and secrets are only compared by their digests. Reads no file; `keys` does.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MINUTE_S = 60.0

_DUST = 1e-9
"""What is missing by rounding alone is not missing."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; never the key itself.

    Args:
        name: Who it was given to; appears in logs and metrics.
        sha256: Hex digest of the key. A key is 256 random bits, so a plain digest cannot be searched.
        requests_per_minute: None: as many as come.
        rows_per_minute: Rows of tensors, texts or pictures; None: as many as come.
        control: Whether it may change traffic, keys and what is loaded.
    """

    name: str
    sha256: str
    requests_per_minute: float | None = None
    rows_per_minute: float | None = None
    control: bool = False


class Bucket:
    """A token bucket: holds a minute's worth, fills steadily, and is in debt after a request larger than it.

    A request larger than the whole bucket is let in when the bucket is full; otherwise it could never come.

    Args:
        per_minute: Tokens of a minute, and what the bucket holds.
    """

    __slots__ = ("_at_s", "_level", "_per_minute")

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._level = per_minute
        self._at_s = -math.inf

    def wait_s(self, amount: float, now_s: float) -> float:
        """Tell how long until this much may be taken; 0: now.

        Args:
            amount: Tokens wanted.
            now_s: Monotonic seconds.
        """
        missing = min(amount, self._per_minute) - self._filled(now_s)
        return missing / self._per_minute * MINUTE_S if missing > _DUST else 0.0

    def take(self, amount: float, now_s: float) -> None:
        """Take tokens; what is not there is owed.

        Args:
            amount: Tokens.
            now_s: Monotonic seconds.
        """
        self._level = self._filled(now_s) - amount
        self._at_s = now_s

    def _filled(self, now_s: float) -> float:
        gained = max(now_s - self._at_s, 0.0) / MINUTE_S * self._per_minute
        return min(self._level + gained, self._per_minute)


class Quotas:
    """Every key with its buckets.

    Args:
        keys: At the start.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._buckets: dict[str, Mapping[str, Bucket]] = {}
        for key in keys:
            self.add(key)

    def add(self, key: ApiKey) -> None:
        """Accept a key, or replace what was said of one of the same digest; its buckets begin full."""
        self._keys[key.sha256] = key
        limits = (("requests", key.requests_per_minute), ("rows", key.rows_per_minute))
        self._buckets[key.sha256] = {what: Bucket(limit) for what, limit in limits if limit is not None}

    def remove(self, name: str) -> int:
        """Take every key of a name away.

        Returns:
            How many there were.
        """
        gone = [digest for digest, key in self._keys.items() if key.name == name]
        for digest in gone:
            del self._keys[digest], self._buckets[digest]
        return len(gone)

    def all(self) -> tuple[ApiKey, ...]:
        """Give all keys, by name."""
        return tuple(sorted(self._keys.values(), key=lambda key: key.name))

    def owner(self, secret: str) -> ApiKey | None:
        """Find whose key this is.

        Args:
            secret: As the caller sent it. What is looked up is its digest, which says nothing about others'.
        """
        return self._keys.get(digest_of(secret))

    def charge(self, key: ApiKey, what: str, amount: float, now_s: float) -> float:
        """Take from a key's bucket if there is enough.

        Args:
            key: Whose.
            what: `requests` or `rows`.
            amount: How many.
            now_s: Monotonic seconds.

        Returns:
            0 when taken, otherwise the seconds until it can be, and nothing is taken.
        """
        bucket = self._buckets.get(key.sha256, {}).get(what)
        if bucket is None:
            return 0.0
        wait_s = bucket.wait_s(amount, now_s)
        if wait_s == 0:
            bucket.take(amount, now_s)
        return wait_s


def digest_of(secret: str) -> str:
    """Give the digest that a key is kept as."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
