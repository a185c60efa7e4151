"""Allowance: how long one engine may be busy with a variant, counted while it is. Stops nothing by itself."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf


@dataclass(slots=True)
class Allowance:
    """See the module.

    Args:
        limit_s: How long; infinite where it is absent.
        clock: Gives seconds.
        spent_s: What is counted so far.
    """

    limit_s: float = inf
    clock: Callable[[], float] = time.monotonic
    spent_s: float = 0.0

    @contextmanager
    def counted(self) -> Generator[None]:
        """Count what happens meanwhile, however it ends."""
        began = self.clock()
        try:
            yield
        finally:
            self.spent_s += self.clock() - began

    @property
    def used_up(self) -> bool:
        """Whether nothing is left."""
        return self.spent_s >= self.limit_s
