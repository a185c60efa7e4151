"""CloudClient: asks the cloud, within a deadline, as the breaker, the budgets and the retry table allow.

Chooses no route and knows no policy. Everything it sends is written down first. A server of Open Inference
Protocol v2 that is not ours answers tensors; one that takes no binary tensors is sent JSON from then on.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from edge_runtime.contract.errors import (
    DeadlineError,
    EdgeRuntimeError,
    RemoteError,
    StorageError,
)
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Answer
from edge_runtime.protocol import headers
from edge_runtime.protocol.backend import Piece
from edge_runtime.routing.breakers import Leave
from edge_runtime.routing.call import Call, CallError, Hedge, NotNowError, Reply
from edge_runtime.routing.channel import Channel
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.openai_stream import pieces_of
from edge_runtime.routing.outgoing import (
    Outgoing,
    check,
    error_of,
    names_code,
    prepare,
    read_answer,
    retry_after_s,
)
from edge_runtime.routing.reachability import is_ours
from edge_runtime.routing.retry import Failure, RetryOptions, failure_of
from edge_runtime.routing.retry import retry_after_s as pause_before

log = logging.getLogger(__name__)

_NO_BINARY = frozenset({400, 415, 422, 500})
"""What servers answer that take no binary tensors: MLServer 1.7 says 500."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Args:
        reply: What the cloud answered; None: nothing.
        failure: What went wrong; None: nothing.
        error: Why there is no reply; None: there is one.
    """

    reply: Reply | None
    failure: Failure | None
    error: RemoteError | None

    @property
    def asked_s(self) -> float:
        """Seconds that the server wants to be left alone."""
        return 0.0 if self.reply is None else (retry_after_s(self.reply) or 0.0)

    def said(self) -> EdgeRuntimeError:
        """Give the error, of the reply where it tells of one."""
        if self.error is not None:
            return self.error
        if self.reply is not None and self.reply.status >= 300:
            return error_of(self.reply)
        return RemoteError("the cloud", retryable=True, got="no answer")


Leaving = Callable[[Outgoing, str, str], None]


class CloudClient:
    """Asks one cloud. Safe to share between threads.

    Args:
        channel: To it.
        gauge: What is known of it; learns from every call.
        leaving: Called with everything before it leaves, with how (`request`, `retry`, …) and where to;
            raises when it must not.
        binary: Whether tensors go as binary data; None: until the server refuses.
    """

    def __init__(
        self, channel: Channel, gauge: CloudGauge, leaving: Leaving, *, binary: bool | None = None
    ) -> None:
        self._channel = channel
        self._gauge = gauge
        self._leaving = leaving
        self._binary = binary is not False
        self._binary_proven = binary is True
        self._closing = threading.Event()

    @property
    def binary(self) -> bool:
        """Whether tensors go as binary data now."""
        return self._binary

    def predict(
        self,
        request: Request,
        outgoing: Outgoing,
        deadline_s: float,
        *,
        retries: int = 2,
        hedge_after_s: float | None = None,
    ) -> Answer[Any]:
        """Ask for an answer.

        Args:
            request: What is asked; its tensors are written again where the server takes JSON only.
            outgoing: The same as `prepare` wrote it.
            deadline_s: Of `time.monotonic()`.
            retries: Times it is asked again, if the failure allows and the time is there.
            hedge_after_s: Ask a second time beside the first when it takes so long; None: never.

        Returns:
            The cloud's answer.

        Raises:
            DeadlineError: No answer in time.
            RemoteError: The cloud cannot be reached, failed, or must not be asked now.
            EdgeRuntimeError: The cloud refused, in the class that it named.
            StorageError: It could not be written down what leaves, so nothing left.
        """
        first = None
        if isinstance(request.value, Mapping) and self._binary and not self._binary_proven:
            first = self._try(outgoing, deadline_s, 0, hedge_after_s)
            if first.reply is not None:
                # Who names one of our codes is ours, and has read the tensors: JSON would change nothing.
                self._binary_proven = first.reply.status < 300 or names_code(first.reply)
                if not self._binary_proven and first.reply.status in _NO_BINARY:
                    return self._as_json(request, outgoing, deadline_s, retries)
        reply = self._ask(outgoing, deadline_s, retries, hedge_after_s, first)
        return read_answer(reply, outgoing.model)

    def ask(
        self, outgoing: Outgoing, deadline_s: float, *, retries: int = 2, hedge_after_s: float | None = None
    ) -> Reply:
        """Send, and send again as the table of retries allows.

        Args:
            outgoing: What.
            deadline_s: Of `time.monotonic()`.
            retries: Times it is sent again.
            hedge_after_s: As for `predict`.

        Returns:
            An answer that says whether the cloud did it, or why it never will (4xx).

        Raises:
            EdgeRuntimeError: As for `predict`.
        """
        return self._ask(outgoing, deadline_s, retries, hedge_after_s, None)

    def send(self, outgoing: Outgoing, timeout_s: float) -> "Outcome":
        """Send what waited in the outbox, once.

        Args:
            outgoing: What.
            timeout_s: For the answer.

        Returns:
            What became of it.

        Raises:
            NotNowError: A breaker or the budget does not let it go now.
            StorageError: As for `predict`.
        """
        return self._try(outgoing, time.monotonic() + timeout_s, 0, None, how="outbox")

    def generate(
        self, request: Request, outgoing: Outgoing, deadline_s: float
    ) -> Generator[Piece, None, None]:
        """Have a text generated, piece by piece; closing the generator ends the work.

        Args:
            request: A prompt.
            outgoing: The same as `prepare` wrote it for streaming.
            deadline_s: Of `time.monotonic()`, for the whole text.

        Yields:
            Pieces, the last with the whole answer.

        Raises:
            EdgeRuntimeError: As for `predict`; never asked again once a piece came.
        """
        leave = self._leave(outgoing, "request")
        began_s = time.monotonic()
        failure: Failure | None = Failure.CUT
        try:
            with self._channel.stream(outgoing.call(), deadline_s) as stream:
                if stream.reply.status >= 300:
                    failure = failure_of(stream.reply.status)
                    check(replace(stream.reply, body=b"".join(stream.pieces())))
                failure = None
                yield from pieces_of(stream.pieces(), outgoing.model)
        except (CallError, DeadlineError) as error:
            failure = error.failure if isinstance(error, CallError) else Failure.TIMEOUT
            raise
        finally:
            # How long a text takes says nothing about other requests.
            self._gauge.done(leave, began_s, failure, tells=False)

    def probe(self, timeout_s: float) -> bool:
        """Find out whether the cloud itself can be reached: it repeats a number that this made up.

        A server that repeats nothing must show its metadata of the v2 protocol, which no captive portal has.

        Args:
            timeout_s: For each of the two questions.
        """
        nonce = uuid4().hex
        try:
            reply = self._get("/v2/health/live", timeout_s, {headers.REQUEST_ID: nonce})
            if is_ours(reply.status, reply.headers.get(headers.REQUEST_ID), nonce):
                return True
            if not 200 <= reply.status < 300:
                return False
            described = json.loads(self._get("/v2", timeout_s, {}).body)
        except (RemoteError, ValueError, RecursionError):
            return False
        return isinstance(described, dict) and "name" in described and "version" in described

    def standing(self, model: str, timeout_s: float) -> str:
        """Ask whether the cloud answers for a model.

        Args:
            model: As the cloud calls it.
            timeout_s: For the answer.

        Returns:
            Why it does not, for a person; empty: it does.

        Raises:
            RemoteError: The cloud did not say.
        """
        reply = self._get(f"/v2/models/{quote(model, safe='')}/ready", timeout_s, {})
        return "" if reply.status < 300 else str(error_of(reply))

    def close(self) -> None:
        """End what is under way. Idempotent."""
        self._closing.set()
        self._channel.close()

    def _as_json(self, request: Request, outgoing: Outgoing, deadline_s: float, retries: int) -> Answer[Any]:
        """Ask once more in JSON; where that works, tensors go so from now on."""
        plain = prepare(request, outgoing.model, binary=False)
        plain = replace(plain, data=outgoing.data, redacted=outgoing.redacted, reason=outgoing.reason)
        answer = read_answer(self.ask(plain, deadline_s, retries=retries), outgoing.model)
        log.info("the cloud takes no binary tensors; they go as JSON from now on")
        self._binary = False
        return answer

    def _ask(
        self,
        outgoing: Outgoing,
        deadline_s: float,
        retries: int,
        hedge_after_s: float | None,
        outcome: "Outcome | None",
    ) -> Reply:
        """Do what `ask` says; the outcome is that of a first attempt that has been made."""
        attempt = 0
        while True:
            outcome = outcome or self._try(outgoing, deadline_s, attempt, hedge_after_s)
            if outcome.reply is not None and outcome.failure in {None, Failure.REQUEST}:
                return outcome.reply
            pause_s = pause_before(
                outcome.failure or Failure.CUT,
                attempt,
                options=RetryOptions(retries=retries),
                keyed=bool(outgoing.id),
                left_s=deadline_s - time.monotonic(),
                dice=random.random(),  # noqa: S311 - spreads load, hides nothing
                typical_s=(self._gauge.facts(outgoing.model).p50_ms or 0.0) / 1000,
                asked_s=outcome.asked_s,
            )
            if pause_s is None:
                raise outcome.said()
            if self._closing.wait(pause_s):
                raise RemoteError("the cloud", retryable=False, got="this program is closing")
            attempt, outcome = attempt + 1, None

    def _get(self, path: str, timeout_s: float, said: dict[str, str]) -> Reply:
        return self._channel.exchange(Call("GET", path, headers=said), time.monotonic() + timeout_s)

    def _try(
        self,
        outgoing: Outgoing,
        deadline_s: float,
        attempt: int,
        hedge_after_s: float | None,
        how: str = "",
    ) -> "Outcome":
        """Make one call, with its hedge."""
        leave = self._leave(outgoing, how or ("retry" if attempt else "request"))
        began_s = time.monotonic()
        hedge = None
        if hedge_after_s is not None:
            self._gauge.earn_hedge()
            hedge = Hedge(hedge_after_s, lambda: self._may_hedge(outgoing))
        failure: Failure | None = Failure.CUT
        try:
            reply = self._channel.exchange(outgoing.call(), deadline_s, hedge)
        except CallError as error:
            failure = error.failure
            return Outcome(None, failure, error)
        except DeadlineError as error:
            failure = Failure.TIMEOUT
            return Outcome(None, failure, error)
        else:
            failure = failure_of(reply.status)
            if failure is None and not _is_answer(reply):
                failure = Failure.NOT_OURS
                said = reply.headers.get("content-type", "nothing")
                problem = f"cloud {self._channel.host}: somebody else answered"
                return Outcome(None, failure, CallError(failure, problem, got=said))
            return Outcome(reply, failure, None)
        finally:
            self._gauge.done(leave, began_s, failure)

    def _leave(self, outgoing: Outgoing, how: str) -> Leave:
        """Ask for leave, and write down what leaves."""
        leave = self._gauge.acquire(outgoing.model, len(outgoing.body), outgoing.tokens)
        if leave is None:
            raise NotNowError(outgoing.model if self._gauge.shuts_out(outgoing.model) else None)
        try:
            self._leaving(outgoing, how, self._channel.url)
        except BaseException:
            self._gauge.cancelled(leave)
            raise
        return leave

    def _may_hedge(self, outgoing: Outgoing) -> bool:
        """Say whether a second call may go; runs in the channel's own thread."""
        if not self._gauge.spend_hedge(outgoing.model, len(outgoing.body), outgoing.tokens):
            return False
        try:
            self._leaving(outgoing, "hedge", self._channel.url)
        except StorageError as error:
            log.warning("no second call: %s", error)
            return False
        return True


def _is_answer(reply: Reply) -> bool:
    """Tell an answer of a model server from a login page."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in {"application/json", "application/octet-stream", ""} or kind.endswith("+json")
