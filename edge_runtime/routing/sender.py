"""Sender: a thread that brings what the outbox owes to the cloud, and tells who waits for its answers.

Keeps nothing in memory that the outbox does not have on disk, but for an answer that a full disk did not
take. When to send is `edge_runtime.routing.sending`'s decision, and whether it still
may leave is the gate's.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from edge_runtime.contract.errors import OverloadedError, StorageError
from edge_runtime.contract.route import DataClass
from edge_runtime.protocol import headers, json_document, v2
from edge_runtime.routing.call import NotNowError, Reply
from edge_runtime.routing.cloud_client import Outcome
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.outgoing import Outgoing
from edge_runtime.routing.parcel import WITHHELD, Kind, Late, Owed, Parcel
from edge_runtime.routing.privacy import Gate
from edge_runtime.routing.retry import Failure
from edge_runtime.routing.sending import Sending, SendingOptions

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 30.0
_EXPIRE_EVERY_S = 60.0
_TOLD_AT_ONCE = 50
_JSON_LENGTH = "; json="
_NOT_FOUND = 404
_VERSIONED = ("?version=", "/versions/")


class Sends(Protocol):
    """What a sender needs of the cloud's client."""

    def send(self, outgoing: Outgoing, timeout_s: float) -> Outcome:
        """Send once."""
        ...


class Sender:
    """Sends from the moment it is made until it is closed.

    Args:
        outbox: What is owed.
        client: To the cloud.
        online: Whether the cloud can be reached, as far as is known; while it cannot, nothing is tried.
        on_late: Called with each late answer, from the sender's thread, at least once each; again after a
            StorageError.
        gate: What may leave by the settings of now, whatever those said when it was put into the outbox.
        on_withheld: Called with what may not, and why, before it is put aside; raises if it cannot be noted.
        options: How fast what failed is sent again.
        timeout_s: For each answer.
    """

    def __init__(
        self,
        outbox: Outbox,
        client: Sends,
        *,
        online: Callable[[], bool],
        on_late: Callable[[Late], None],
        gate: Gate,
        on_withheld: Callable[[Outgoing, str], None],
        options: SendingOptions | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._outbox = outbox
        self._client = client
        self._online = online
        self._on_late = on_late
        self._gate = gate
        self._on_withheld = on_withheld
        self._sending = Sending(options)
        self._timeout_s = timeout_s
        self._in_hand: tuple[Owed, Reply] | None = None
        self._expire_at_s = 0.0
        self._closing = threading.Event()
        self._bell = threading.Event()
        self._back = False
        self.trouble = ""
        """Why the last parcel did not get through; empty when it did."""
        self._thread = threading.Thread(target=self._run, name="outbox sender", daemon=True)
        self._thread.start()

    def ring(self, *, back: bool = False) -> None:
        """Say that there is something to send.

        Args:
            back: The cloud can be reached again, so that nobody waits any longer.
        """
        self._back = self._back or back
        self._bell.set()

    def close(self) -> None:
        """End after the call under way. What is not sent stays on disk."""
        self._closing.set()
        self._bell.set()
        self._thread.join(self._timeout_s + 5.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._bell.clear()
            try:
                pause_s = self._round()
            except StorageError as error:
                self._set_trouble(str(error))
                pause_s = 5.0
            except Exception:
                log.exception("the outbox's sender failed")
                self.trouble = "a fault of the sender itself; see the log"
                pause_s = _LOOK_EVERY_S
            self._bell.wait(pause_s)

    def _round(self) -> float:
        """Send what may be sent now; give the seconds until there may be more."""
        if self._back:
            self._back = False
            self._sending.back()
        if self._in_hand is not None:
            self._settle(*self._in_hand)
        if time.monotonic() >= self._expire_at_s:
            self._expire_at_s = time.monotonic() + _EXPIRE_EVERY_S
            self._outbox.expire(time.time())
        self._tell()
        while not self._closing.is_set() and self._online():
            heads = self._outbox.heads()
            ready = [one for one in heads if self._sending.ready(one.parcel.stream, time.monotonic())]
            if not ready:
                wake_s = self._sending.wake_at(tuple(one.parcel.stream for one in heads))
                return _LOOK_EVERY_S if wake_s is None else max(0.01, wake_s - time.monotonic())
            for owed in ready:
                if self._closing.is_set() or not self._sending.ready(owed.parcel.stream, time.monotonic()):
                    break
                self._send(owed)
                self._tell()
        return _LOOK_EVERY_S

    def _send(self, owed: Owed) -> None:
        outgoing = _outgoing(owed.parcel)
        why = self._gate.stops(None if owed.parcel.kind is Kind.EVENT else owed.parcel.stream, outgoing.data)
        if why:
            self._withhold(owed, outgoing, why)
            return
        try:
            outcome = self._client.send(outgoing, self._timeout_s)
        except OverloadedError as error:
            alone = isinstance(error, NotNowError) and error.model is not None
            self._pause(owed, away=not alone, asked_s=error.retry_after_s, said=str(error))
            return
        reply, failure = outcome.reply, outcome.failure
        if failure is None and reply is not None:
            self._in_hand = (owed, reply)
            self._settle(owed, reply)
            return
        said = str(outcome.said())
        if self._is_hopeless(owed, outcome):
            log.warning("%s %s is refused for good: %s", owed.parcel.kind, owed.parcel.key, said)
            self._outbox.poison(owed, said, time.time())
            self._sending.sent(owed.parcel.stream)
            return
        self._outbox.postpone(owed)
        # What fails for one parcel holds its stream up; everything else is about the cloud as a whole.
        away = failure not in {Failure.SERVER, Failure.OVERLOADED, Failure.REQUEST}
        self._pause(owed, away=away, asked_s=outcome.asked_s, said=said)

    def _is_hopeless(self, owed: Owed, outcome: Outcome) -> bool:
        """Say whether to give a parcel up.

        A model that the cloud does not know may be loading still: its questions wait until they are too old.
        One that asks for a version gives up earlier, because those behind it may be answered by another.
        """
        often = owed.attempts + 1 >= self._sending.options.most_attempts
        if outcome.failure is Failure.SERVER:
            return often
        if outcome.failure is not Failure.REQUEST:
            return False
        missing = outcome.reply is not None and outcome.reply.status == _NOT_FOUND
        if not missing or owed.parcel.kind is Kind.EVENT:
            return True
        return often and any(mark in owed.parcel.path for mark in _VERSIONED)

    def _withhold(self, owed: Owed, outgoing: Outgoing, why: str) -> None:
        log.warning("%s %s is not sent: %s", owed.parcel.kind, owed.parcel.key, why)
        self._on_withheld(outgoing, f"{WITHHELD}{why}")
        self._outbox.poison(owed, f"{WITHHELD}{why}", time.time())

    def _settle(self, owed: Owed, reply: Reply) -> None:
        self._outbox.settle(owed, _kind_of(reply), reply.body, time.time())
        self._in_hand = None
        self._sending.sent(owed.parcel.stream)
        self._set_trouble("")

    def _pause(self, owed: Owed, *, away: bool, asked_s: float, said: str) -> None:
        dice = random.random()  # noqa: S311 - spreads load, hides nothing
        self._sending.failed(owed.parcel.stream, time.monotonic(), dice, away=away, asked_s=asked_s)
        self._set_trouble(said)

    def _tell(self) -> None:
        while late := self._outbox.untold(_TOLD_AT_ONCE):
            for one in late:
                try:
                    self._on_late(one)
                except StorageError:
                    raise  # it could not be kept: told again
                except Exception:
                    log.exception("the callback for the late answer to %s failed", one.key)
            self._outbox.told([one.key for one in late])

    def _set_trouble(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("outbox: %s", trouble)
        self.trouble = trouble


def pack(outgoing: Outgoing, kind: Kind, stream: str, local: object = None) -> Parcel:
    """Make a parcel of what would leave now.

    Args:
        outgoing: It.
        kind: What it is.
        stream: Of what order.
        local: What the device itself answered, to compare with; a JSON document.
    """
    note = {
        "asked": stream,
        "model": outgoing.model,
        "reason": outgoing.reason,
        "redacted": sorted(outgoing.redacted),
        "tokens": outgoing.tokens,
        "local": local,
    }
    return Parcel(
        key=outgoing.id,
        stream=stream,
        kind=kind,
        path=outgoing.path,
        content_type=outgoing.content_type,
        body=outgoing.body,
        headers=outgoing.headers,
        note=json_document.write(note).decode(),
    )


def reply_of(late: Late) -> Reply:
    """See a late answer as it came over the wire."""
    kind, _, length = late.content_type.partition(_JSON_LENGTH)
    said = {"content-type": kind, **({v2.HEADER_LENGTH: length} if length else {})}
    return Reply(200, said, late.body)


def _outgoing(parcel: Parcel) -> Outgoing:
    note: dict[str, Any] = json.loads(parcel.note) if parcel.note else {}
    data = parcel.headers.get(headers.DATA, "")
    return Outgoing(
        id=parcel.key,
        model=str(note.get("model", parcel.stream)),
        path=parcel.path,
        content_type=parcel.content_type,
        body=parcel.body,
        headers={**parcel.headers, headers.REQUEST_ID: parcel.key},
        data=frozenset(DataClass(one) for one in data.split(",") if one),
        redacted=frozenset(DataClass(one) for one in note.get("redacted", ())),
        reason=str(note.get("reason", parcel.kind)),
        tokens=int(note.get("tokens", 0)),
    )


def _kind_of(reply: Reply) -> str:
    """Keep of the headers what reading the body takes."""
    kind = reply.headers.get("content-type", "")
    length = reply.headers.get(v2.HEADER_LENGTH)
    return kind if length is None else f"{kind}{_JSON_LENGTH}{length}"
