"""Visits: who is inside a served model, so that unloading lets nobody in and waits until all have left.

For one event loop; engines have their own gates for threads.
"""

import asyncio

from edge_runtime.contract.errors import OverloadedError

_RETRY_S = 1.0


class Visits:
    """Counts.

    Args:
        what: What is visited, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._inside = 0
        self._closed: asyncio.Future[None] | None = None

    def inside(self) -> "Visits":
        """Be inside, within a `with` block.

        Raises:
            OverloadedError: It is being unloaded; another version, or the same again, may be there soon.
        """
        if self._closed is not None:
            raise OverloadedError(f"{self._what} is being unloaded", retry_after_s=_RETRY_S)
        return self

    def __enter__(self) -> None:
        self._inside += 1

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
        self._tell()

    async def close(self) -> None:
        """Let nobody in any more and wait until all have left."""
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        self._tell()
        await asyncio.shield(self._closed)

    def _tell(self) -> None:
        if self._closed is not None and not self._inside and not self._closed.done():
            self._closed.set_result(None)
