"""Takes commands in: each id is done once, one after the other, and answered as often as it is asked.

QoS 1 may bring a command twice. Quick ones are done where they come in, the others on a thread of their own.
Knows what no command means.
"""

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from edge_runtime.contract.fleet import Command, Reply
from edge_runtime.contract.update import UpdateFailedError
from edge_runtime.fleet.commands import Doing, check_fresh, is_quick, refusal
from edge_runtime.update.ports import Clock

_WAITING = 8
"""Commands that wait for their turn; more are turned away."""
_REMEMBERED = 32
"""Answers; a snapshot's may have as many bytes as a message."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command, and where its answer goes.

    Args:
        command: What to do.
        topic: For the answer; None: nobody wants it.
        correlation: For the answer.
        until_s: On a steady clock, when it is too old by the broker's count; None: never.
    """

    command: Command
    topic: str | None
    correlation: bytes | None
    until_s: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send, and where.

    Args:
        topic: None: nobody wants it.
        correlation: Of the command.
        reply: What came of it.
        error: Why it was refused; None: it was done, or was asked before.
    """

    topic: str | None
    correlation: bytes | None
    reply: Reply
    error: UpdateFailedError | None = None


class Desk:
    """The commands of one device.

    Args:
        doing: Does them.
        clock: Tells how old they are.
        answered: Called, from the desk's thread, when there is an answer to fetch.
    """

    def __init__(self, doing: Doing, clock: Clock, answered: Callable[[], None]) -> None:
        self._doing = doing
        self._clock = clock
        self._answered = answered
        self._known: OrderedDict[str, Reply | None] = OrderedDict()
        self._waiting: queue.Queue[Asked | None] = queue.Queue(_WAITING)
        self._ready: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="fleet-commands", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self, asked: Asked) -> Answer | None:
        """Take a command in.

        Returns:
            Its answer, where there is one at once; else `answers` will have it. None, too, for one that is
            under way already: it is answered once.
        """
        command = asked.command
        if command.id in self._known:
            known = self._known[command.id]
            return None if known is None else _answer(asked, known)
        if is_quick(command):
            return self._remember(self._perform(asked))
        try:
            self._waiting.put_nowait(asked)
        except queue.Full:  # not remembered: it may be asked again
            busy = f"busy: {_WAITING} commands wait already. Ask again later"
            return _answer(asked, Reply(id=command.id, ok=False, detail=busy))
        self._known[command.id] = None
        return None

    def answers(self) -> list[Answer]:
        """Take the answers that are ready. Called by the thread that calls `take`."""
        found: list[Answer] = []
        while not self._ready.empty():
            found.append(self._remember(self._ready.get()))
        return found

    def close(self, timeout_s: float) -> None:
        """Do no further command; one that is under way may still end in time."""
        self._closing = True
        with suppress(queue.Full):  # the thread looks at `_closing` before each of them
            self._waiting.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (asked := self._waiting.get()) is not None and not self._closing:
            self._ready.put(self._perform(asked))
            self._answered()

    def _perform(self, asked: Asked) -> Answer:
        left_s = None if asked.until_s is None else asked.until_s - self._clock.steady_s()
        try:
            check_fresh(asked.command, now_s=self._clock.now_s(), left_s=left_s)
        except UpdateFailedError as error:
            return _answer(asked, refusal(asked.command.id, error), error)
        reply = self._doing.perform(asked.command)
        if reply.code is None:
            return _answer(asked, reply)
        return _answer(asked, reply, UpdateFailedError(reply.code, reply.detail))

    def _remember(self, answer: Answer) -> Answer:
        self._known[answer.reply.id] = answer.reply
        done = [each for each, reply in self._known.items() if reply is not None]
        for each in done[: max(0, len(done) - _REMEMBERED)]:
            del self._known[each]
        return answer


def _answer(asked: Asked, reply: Reply, error: UpdateFailedError | None = None) -> Answer:
    return Answer(asked.topic, asked.correlation, reply, error)
