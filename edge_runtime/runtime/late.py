"""LateDesk: what becomes of a late answer: kept for whoever asks, told to a callback, compared if an audit.

Sends nothing; the outbox keeps the answers.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edge_runtime.contract.errors import EdgeRuntimeError, RefusedError, RemoteError
from edge_runtime.contract.result import Answer
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.protocol import answers, json_document
from edge_runtime.routing.agreement import agree
from edge_runtime.routing.calibration import AuditWatch
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.outgoing import read_answer
from edge_runtime.routing.parcel import Kind, Late
from edge_runtime.routing.sender import reply_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LateAnswer:
    """An answer of the cloud that came after its caller had the device's.

    Args:
        request_id: Of the request.
        answer: The cloud's; its decision says why it was asked.
        asked: The model as the settings call it; None: it was owed by an earlier release, which did not say.
    """

    request_id: str
    answer: Answer[Any]
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """How the live audits of one model stand.

    Args:
        audits: Compared since the start.
        differing: Of them.
        holds: Whether the calibrated threshold still holds; None: it is not calibrated.
    """

    audits: int
    differing: int
    holds: bool | None


class LateDesk:
    """Takes late answers from the outbox's sender. Safe to share between threads.

    Args:
        outbox: Keeps the answers.
        on_late: Called with each answer to an escalation, at least once; None: nobody wants to be told.
        disagreements: By the cloud's name of a model: what its calibration measured.
        memory: A file in which the audits' state survives a restart.
    """

    def __init__(
        self,
        outbox: Outbox,
        on_late: Callable[[LateAnswer], None] | None,
        disagreements: Mapping[str, float],
        memory: Path,
    ) -> None:
        self._outbox = outbox
        self._on_late = on_late
        self._memory = memory
        self._lock = threading.Lock()
        states = _remembered(memory)
        self._watches = {
            model: AuditWatch(rate, state=states.get(model)) for model, rate in disagreements.items()
        }
        self._counts: dict[str, list[int]] = {}

    def take(self, late: Late) -> None:
        """Take an answer; called by the sender, again where the process was killed meanwhile.

        Raises:
            StorageError: The callback could not keep it.
        """
        note: dict[str, Any] = json.loads(late.note) if late.note else {}
        try:
            answer = _answer(late, note)
        except EdgeRuntimeError as error:
            log.warning("the late answer to %s cannot be read: %s", late.key, error)
            return
        if late.kind is Kind.AUDIT:
            self._compare(str(note.get("model")), note.get("local"), answer)
        elif self._on_late is not None:
            self._on_late(LateAnswer(late.key, answer, note.get("asked")))

    def find(self, request_id: str) -> Answer[Any] | bool:
        """Look a request up.

        Returns:
            The late answer; True: it is awaited; False: nothing is known of it.

        Raises:
            StorageError: The outbox cannot be read.
            RefusedError: It may no longer leave, so that no answer comes.
            RemoteError: The cloud refused it for good, or what it answered cannot be read.
        """
        late = self._outbox.answer(request_id)
        if late is not None:
            return _answer(late, json.loads(late.note) if late.note else {})
        if self._outbox.waits(request_id):
            return True
        for poison in reversed(self._outbox.poisoned(request_id)):
            if poison.withheld:
                raise RefusedError(f"request '{request_id}' did not leave", got=poison.error)
            raise RemoteError(
                f"request '{request_id}' was given up",
                retryable=False,
                got=f"from the cloud: {poison.error}",
                do="The device's own answer is all there is; ask again with another id",
            )
        return False

    def status(self) -> Mapping[str, AuditStatus]:
        """Say how the audits stand, by the cloud's name of a model."""
        with self._lock:
            return {
                model: AuditStatus(
                    audits, differing, watch.holds if (watch := self._watches.get(model)) else None
                )
                for model, (audits, differing) in self._counts.items()
            }

    def _compare(self, model: str, local: object, answer: Answer[Any]) -> None:
        if not isinstance(local, dict):
            return
        there = json_document.read_object(json_document.write(answers.result_of(answer.value)))
        same = agree(cast("dict[str, Any]", local), there)
        with self._lock:
            counts = self._counts.setdefault(model, [0, 0])
            counts[0] += 1
            counts[1] += not same
            watch = self._watches.get(model)
            if watch is None:
                return
            held = watch.holds
            if held and not watch.add(agrees=same):
                log.warning(
                    "model '%s': the cloud differs from confident answers more often than when the threshold"
                    " was calibrated (%d of %d audits): calibrate it again",
                    *(model, counts[1], counts[0]),
                )
            states = {name: list(one.state) for name, one in self._watches.items()}
        try:
            self._memory.write_text(json.dumps(states), "utf-8")
        except OSError as error:
            log.warning("%s: the audits' state is not kept: %s", self._memory, error)


def _answer(late: Late, note: Mapping[str, Any]) -> Answer[Any]:
    answer = read_answer(reply_of(late), str(note.get("model", "")))
    reason = Reason.AUDIT if late.kind is Kind.AUDIT else Reason.LOW_CONFIDENCE
    decision = Decision(Route.CLOUD, reason, "came later")
    return Answer(
        *(answer.value, decision, answer.model, answer.version, answer.variant, answer.latency_ms),
        answer.confidence,
    )


def _remembered(memory: Path) -> Mapping[str, list[float]]:
    """Read the audits' state; a lost or broken one begins anew, which only delays an alarm."""
    try:
        found = json.loads(memory.read_bytes())
        return {str(model): [float(one) for one in state] for model, state in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
