"""The way in, the same for REST and gRPC: whose request it is, whether it may come in, and what became of it.

Speaks no protocol: a door reads the caller's metadata, and makes an answer of what is raised here.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from cloud_fallback.serving import logs
from cloud_fallback.serving.call import Call, current
from cloud_fallback.serving.keys import KeyRing
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.quota import ApiKey
from cloud_fallback.serving.tracing import Tracing
from edge_runtime.contract.errors import QuotaError, RefusedError, UnauthorizedError
from edge_runtime.protocol.headers import Metadata


class Gate:
    """Lets requests in and keeps count.

    Args:
        keys: Who may ask; None: everybody.
        metrics: Where requests are counted.
        tracing: None: no traces.
        log_requests: Whether each request gets a line in the log.
        clock_s: Monotonic seconds.
    """

    def __init__(
        self,
        keys: KeyRing | None,
        metrics: Metrics,
        tracing: Tracing | None = None,
        *,
        log_requests: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._metrics = metrics
        self._tracing = tracing
        self._log_requests = log_requests
        self._clock_s = clock_s

    def admit(self, metadata: Metadata, *, control: bool = False, count: bool = True) -> ApiKey | None:
        """Find out who asks, and charge the request.

        Args:
            metadata: Of the request.
            control: Whether it changes what the server does.
            count: Whether it counts against the key's requests a minute.

        Returns:
            The caller's key; None where no keys are used.

        Raises:
            UnauthorizedError: No key, or none that is known.
            RefusedError: The key may not do this.
            QuotaError: The key's requests of this minute are used up.
        """
        if self._keys is None:
            return None
        key = self._keys.quotas.owner(metadata.token) if metadata.token else None
        if key is None:
            raise UnauthorizedError(
                "this server answers callers with a key only",
                expected="Authorization: Bearer KEY",
                got="a key that is not known here" if metadata.token else "no key",
                do="Ask whoever runs the server for a key",
            )
        if control and not key.control:
            raise RefusedError(f"key '{key.name}' may not control the server", do="Use a control key")
        if count:
            self._charge(key, "requests", 1)
        return key

    def charge_rows(self, call: Call, rows: int) -> None:
        """Charge what a request holds.

        Args:
            call: The request; its rows grow by these.
            rows: How many.

        Raises:
            QuotaError: The key's rows of this minute are used up.
        """
        call.rows += rows
        if call.key is not None:
            self._charge(call.key, "rows", rows)

    def watch(self, call: Call) -> "Watch":
        """Count, time, trace and log a request for as long as a `with` block runs.

        Args:
            call: In the context of what runs inside.
        """
        return Watch(self, call)

    def begin(self) -> float:
        """Count a request that begins; see `watch`."""
        self._metrics.in_flight += 1
        return self._clock_s()

    def trace(self, call: Call) -> AbstractContextManager[None] | None:
        """Trace a request, where traces are wanted; see `watch`."""
        return None if self._tracing is None else self._tracing.request(call)

    def end(self, call: Call, began_s: float) -> None:
        """Count a request that ended; see `watch`."""
        duration_s = self._clock_s() - began_s
        self._metrics.in_flight -= 1
        self._metrics.answered(call, duration_s)
        if self._log_requests:
            logs.tell(call, duration_s)

    def _charge(self, key: ApiKey, what: str, amount: float) -> None:
        if self._keys is None:
            return
        wait_s = self._keys.quotas.charge(key, what, amount, self._clock_s())
        if wait_s > 0:
            raise QuotaError(f"key '{key.name}' has used up its {what} of this minute", retry_after_s=wait_s)


class Watch:
    """What `Gate.watch` gives: a context manager without a generator, since every request pays for it."""

    __slots__ = ("_began_s", "_call", "_gate", "_span", "_token")

    def __init__(self, gate: Gate, call: Call) -> None:
        self._gate = gate
        self._call = call

    def __enter__(self) -> None:
        self._token = current.set(self._call)
        self._began_s = self._gate.begin()
        self._span = self._gate.trace(self._call)
        if self._span is not None:
            self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._span is not None:
                self._span.__exit__(kind, error, trace)
        finally:
            self._gate.end(self._call, self._began_s)
            current.reset(self._token)
