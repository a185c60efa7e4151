"""Router: carries out what the policies decide: runs the model here, asks the cloud, or owes it the question.

Decides nothing itself (`policy` does), holds no connection (`cloud_client` does) and reads no settings. An
answer from the device costs microseconds more than the model: no other thread, no lock that is held for long.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edge_runtime.contract.errors import (
    BundleError,
    EdgeRuntimeError,
    EngineError,
    RefusedError,
    RemoteError,
    StorageError,
    TooLargeError,
    UnknownModelError,
)
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer, Generation
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.protocol import answers
from edge_runtime.protocol.backend import Piece
from edge_runtime.routing.contents import contents
from edge_runtime.routing.facts import Facts
from edge_runtime.routing.far import Far
from edge_runtime.routing.hardness import measure
from edge_runtime.routing.hedge import hedge_after_s
from edge_runtime.routing.local import Opened
from edge_runtime.routing.outgoing import Outgoing, prepare, size_of, tokens_of
from edge_runtime.routing.parcel import Kind
from edge_runtime.routing.policy import Action, Mode, choose, fall_back, judge
from edge_runtime.routing.privacy import forbidden
from edge_runtime.routing.refusal import refusal
from edge_runtime.routing.routed import Redaction, Routed, wait_until_s
from edge_runtime.tasks.confidence import confidence_of

_HERE_AGAIN = (EngineError, BundleError, TooLargeError)
"""What the cloud may do better than the device. A wrong input is wrong there, too."""
_NOT_DONE = Decision(Route.REFUSE, Reason.DEADLINE, "the text was not done")


class Router:
    """Answers requests. Safe to share between threads; each call runs in its caller's.

    Args:
        models: All there are.
        far: The cloud's side; None: there is none.
        redaction: What is removed before anything leaves; None: nothing.
        clock: Monotonic seconds.
        dice: Uniform in [0, 1).
    """

    def __init__(
        self,
        models: Sequence[Routed],
        far: Far | None = None,
        *,
        redaction: Redaction | None = None,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._models = {model.name: model for model in models}
        self._far = far
        self._redaction = redaction
        self._clock = clock
        self._dice = dice
        self._escalated_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._routes: Counter[tuple[str, Route, Reason]] = Counter()

    @property
    def models(self) -> Mapping[str, Routed]:
        """All there are, by name."""
        return self._models

    def routes(self) -> Mapping[tuple[str, Route, Reason], int]:
        """Count the answers by model, route and reason."""
        with self._lock:
            return dict(self._routes)

    def model(self, name: str) -> Routed:
        """Find a model.

        Raises:
            UnknownModelError: There is none of that name.
        """
        model = self._models.get(name)
        if model is None:
            known = ", ".join(sorted(self._models)) or "none"
            raise UnknownModelError(f"model '{name}'", expected=f"one of {known}", got=name)
        return model

    def predict(self, request: Request, outputs: Sequence[str] | None = None) -> Answer[Any]:
        """Answer a request, here or from the cloud.

        Args:
            request: The question.
            outputs: Of tensors: those wanted; None: all.

        Returns:
            The answer, its decision saying who answered and why.

        Raises:
            UnknownModelError: There is no such model.
            InputError: The value is not what the model takes.
            RefusedError: The data may not leave, and the device cannot answer.
            DeadlineError: There was no answer in time.
            EdgeRuntimeError: Neither side could answer.
        """
        asked = self._asked(request, outputs)
        decision = choose(asked.model.policy, asked.facts)
        if decision.route is Route.LOCAL:
            return self._counted(asked, self._here(asked, decision))
        if decision.route is Route.CLOUD:
            return self._counted(asked, self._there(asked, decision))
        raise self._refused(asked, decision)

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Generate a text piece by piece; closing the generator ends the work.

        What was begun by one side is ended by it: a hard example shows only when its text is out.

        Args:
            request: Its value is a prompt.

        Yields:
            Pieces, the last with the whole answer.

        Raises:
            EdgeRuntimeError: As `predict`.
        """
        asked = self._asked(request, None)
        policy = asked.model.policy
        decision = choose(policy, asked.facts)
        tried: EdgeRuntimeError | None = None
        for _ in range(2):
            if decision.route is Route.REFUSE:
                raise tried or self._refused(asked, decision)
            begun = False
            try:
                pieces = (
                    self._stream_here(asked, decision)
                    if decision.route is Route.LOCAL
                    else self._stream_there(asked, decision)
                )
                for piece in pieces:
                    begun = True
                    if piece.end is not None:
                        self._counted(asked, piece.end)
                    yield piece
                return
            except EdgeRuntimeError as error:
                if isinstance(tried, TooLargeError) and not begun:
                    raise tried from error
                if begun or tried or (decision.route is Route.LOCAL and not isinstance(error, _HERE_AGAIN)):
                    raise
                tried = error
                decision = fall_back(policy, self._later(asked), decision.route, str(error))
        raise tried or self._refused(asked, decision)

    def facts(self, request: Request) -> Facts:
        """Give what a decision about a request would depend on now.

        Raises:
            UnknownModelError: There is no such model.
        """
        return self._asked(request, None).facts

    def _asked(self, request: Request, outputs: Sequence[str] | None) -> "_Asked":
        """Gather the facts; what only the cloud's side needs is left out where there is no cloud."""
        began_s = self._clock()
        model = self.model(request.model)
        timeout_s = model.timeout_s if request.timeout_s is None else min(request.timeout_s, 3600.0)
        local = model.local
        here = None if local is None else local.facts(request.version, began_s)
        far = self._far
        if far is None or model.policy.mode is Mode.LOCAL_ONLY:
            return _Asked(
                request, outputs, model, began_s, began_s + timeout_s, Facts(here, deadline_left_s=timeout_s)
            )
        data = contents(request, None if local is None else local.kind, outputs)
        facts = Facts(
            local=here,
            cloud=far.gauge.facts(model.cloud_model),
            data=data,
            redacted=frozenset() if self._redaction is None else data & self._redaction.removes,
            request_bytes=size_of(request),
            request_tokens=tokens_of(request),
            deadline_left_s=timeout_s,
            since_escalation_s=began_s - self._escalated_s.get(model.name, float("-inf")),
            dice=self._dice(),
        )
        return _Asked(request, outputs, model, began_s, began_s + timeout_s, facts)

    def _later(self, asked: "_Asked") -> Facts:
        """Give the facts of now."""
        facts, far, left_s = asked.facts, self._far, asked.deadline_s - self._clock()
        cloud = None if far is None or facts.cloud is None else far.gauge.facts(asked.model.cloud_model)
        return replace(facts, cloud=cloud, deadline_left_s=left_s)

    def _here(self, asked: "_Asked", decision: Decision) -> Answer[Any]:
        policy = asked.model.policy
        try:
            opened, value, confidence = self._run_here(asked)
        except _HERE_AGAIN as error:
            instead = fall_back(policy, self._later(asked), Route.LOCAL, str(error))
            if instead.route is not Route.CLOUD:
                raise
            try:
                return self._ask(asked, instead, asked.deadline_s)
            except EdgeRuntimeError as far:
                if isinstance(error, TooLargeError):  # then that is what the caller can do something about
                    raise error from far
                raise
        if self._far is None or (policy.mode is not Mode.CASCADE and not policy.audit_rate):
            return self._answer(asked, opened, value, confidence, decision)
        sure = measure(value, confidence, decision)
        verdict = judge(policy, asked.facts, sure)
        if verdict.action is Action.ESCALATE:
            # Time has passed while the model ran; that matters only where the cloud shall be waited for.
            verdict = judge(policy, self._later(asked), sure)
        answer = self._answer(asked, opened, value, confidence, verdict.decision)
        match verdict.action:
            case Action.KEEP:
                return answer
            case Action.AUDIT:
                self._owe(asked, Kind.AUDIT, answer)
                return answer
            case Action.ESCALATE_LATER:
                self._escalated_s[asked.model.name] = self._clock()
                return self._owe(asked, Kind.ESCALATION, answer)
            case Action.ESCALATE:
                self._escalated_s[asked.model.name] = self._clock()
                return self._escalate(asked, verdict.decision, answer)

    def _escalate(self, asked: "_Asked", decision: Decision, answer: Answer[Any]) -> Answer[Any]:
        """Ask the cloud about a hard example; where it fails, the device's answer is there, and in time."""
        try:
            return self._ask(asked, decision, wait_until_s(asked.deadline_s, self._clock()))
        except EdgeRuntimeError as error:
            kept = fall_back(asked.model.policy, self._later(asked), Route.CLOUD, str(error), answered=True)
            return self._timed(asked, replace(answer, decision=kept))

    def _there(self, asked: "_Asked", decision: Decision) -> Answer[Any]:
        local = asked.facts.local
        deadline_s = asked.deadline_s
        if local is not None and local.fits and asked.model.policy.mode is not Mode.CLOUD_ONLY:
            # The device may have to answer after all: leave it the time, but not more than half.
            reserve_s = 1.5 * (local.predicted_ms or 0.0) / 1000
            deadline_s -= min(reserve_s, asked.facts.deadline_left_s / 2)
        try:
            return self._ask(asked, decision, deadline_s)
        except EdgeRuntimeError as error:
            instead = fall_back(asked.model.policy, self._later(asked), Route.CLOUD, str(error))
            if instead.route is not Route.LOCAL:
                raise
            return self._answer(asked, *self._run_here(asked), instead)

    def _run_here(self, asked: "_Asked") -> tuple[Opened, Any, float]:
        local = asked.model.local
        opened = None if local is None else local.opened
        if local is None or opened is None:
            raise EngineError(f"model '{asked.model.name}'", expected="one that is open here", got="none")
        return opened, *local.predict(asked.request.value, asked.outputs, partial(self._in_time, asked))

    def _answer(
        self, asked: "_Asked", opened: Opened, value: Any, confidence: float, decision: Decision
    ) -> Answer[Any]:
        took_ms = (self._clock() - asked.began_s) * 1000
        return Answer(value, decision, opened.bundle, opened.version, opened.variant, took_ms, confidence)

    def _ask(self, asked: "_Asked", decision: Decision, deadline_s: float) -> Answer[Any]:
        far = self._cloud()
        request, outgoing = self._outgoing(asked, decision)
        facts = replace(
            asked.facts, deadline_left_s=deadline_s - self._clock(), request_bytes=len(outgoing.body)
        )
        answer = far.client.predict(
            request,
            outgoing,
            deadline_s,
            retries=asked.model.retries,
            hedge_after_s=hedge_after_s(asked.model.policy, facts, decision),
        )
        wanted = asked.request.version
        if wanted is not None and answer.version != wanted:
            raise RemoteError(
                f"cloud model '{asked.model.cloud_model}'",
                retryable=False,
                expected=f"version {wanted}",
                got=f"version {answer.version or 'unknown'}",
            )
        return self._timed(asked, replace(answer, decision=decision))

    def _stream_here(self, asked: "_Asked", decision: Decision) -> Generator[Piece, None, None]:
        local, value = asked.model.local, asked.request.value
        opened = None if local is None else local.opened
        if local is None or opened is None or not isinstance(value, str | Prompt):
            raise EngineError(
                f"model '{asked.model.name}'", expected="a prompt, and a model", got="no such model here"
            )
        for piece in local.stream(value):
            self._in_time(asked)
            if isinstance(piece, Generation):
                yield Piece("", self._answer(asked, opened, piece, confidence_of(piece), decision))
            else:
                yield Piece(piece)

    def _stream_there(self, asked: "_Asked", decision: Decision) -> Generator[Piece, None, None]:
        request, outgoing = self._outgoing(asked, decision, stream=True)
        for piece in self._cloud().client.generate(request, outgoing, asked.deadline_s):
            if piece.end is None:
                yield piece
            else:
                yield Piece(piece.text, self._timed(asked, replace(piece.end, decision=decision)))

    def _owe(self, asked: "_Asked", kind: Kind, answer: Answer[Any]) -> Answer[Any]:
        """Put the question into the outbox; the answer says so, or why it could not be done."""
        decision = answer.decision
        try:
            _, outgoing = self._outgoing(asked, decision)
            local = answers.result_of(answer.value) if kind is Kind.AUDIT else None
            kept = self._cloud().owe(outgoing, kind, asked.model.name, local)
            detail = "" if kept else "the outbox has no room"
        except (StorageError, RefusedError) as error:
            detail = str(error)
        if not detail:
            return answer
        return replace(answer, decision=replace(decision, detail=f"{decision.detail}; not sent: {detail}"))

    def _outgoing(
        self, asked: "_Asked", decision: Decision, *, stream: bool = False
    ) -> tuple[Request, Outgoing]:
        """Write the request as it may leave; the gate stands here once more, after the redaction.

        Raises:
            RefusedError: It still holds what may never leave, or the redaction failed.
        """
        request, facts = asked.request, asked.facts
        redacted = facts.redacted
        if redacted and self._redaction is not None:
            try:
                request = self._redaction.hook(request)
            except Exception as error:
                raise RefusedError(
                    f"model '{asked.model.name}': the redaction failed, so nothing leaves", got=repr(error)
                ) from error
        data = facts.data - redacted
        kept = forbidden(asked.model.policy.never_leave, data, frozenset())
        if kept:
            raise RefusedError(
                f"model '{asked.model.name}'", expected="data that may leave", got=", ".join(kept)
            )
        request, binary = replace(request, data=data), self._cloud().client.binary
        cloud_model, outputs = asked.model.cloud_model, asked.outputs
        outgoing = prepare(request, cloud_model, outputs=outputs, stream=stream, binary=binary)
        return request, replace(outgoing, redacted=redacted, reason=decision.reason.value)

    def _cloud(self) -> Far:
        if self._far is None:
            raise RefusedError("the cloud", expected="one", got="none is configured")
        return self._far

    def _in_time(self, asked: "_Asked") -> None:
        if self._clock() > asked.deadline_s:
            raise refusal(asked.model.name, _NOT_DONE)

    def _timed(self, asked: "_Asked", answer: Answer[Any]) -> Answer[Any]:
        return replace(answer, latency_ms=(self._clock() - asked.began_s) * 1000)

    def _counted(self, asked: "_Asked", answer: Answer[Any]) -> Answer[Any]:
        with self._lock:
            self._routes[asked.model.name, answer.decision.route, answer.decision.reason] += 1
        return answer

    def _refused(self, asked: "_Asked", decision: Decision) -> EdgeRuntimeError:
        with self._lock:
            self._routes[asked.model.name, Route.REFUSE, decision.reason] += 1
        return refusal(asked.model.name, decision)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request under way."""

    request: Request
    outputs: Sequence[str] | None
    model: Routed
    began_s: float
    deadline_s: float
    facts: Facts
