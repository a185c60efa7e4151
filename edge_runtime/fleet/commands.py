"""What each command does, and when it is refused. Answers nothing itself and remembers nothing."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import Field, JsonValue

from edge_runtime.contract.errors import EdgeRuntimeError, RefusedError
from edge_runtime.contract.fleet import Command, Id, Reply
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.fleet.parsing import encode, parse_object
from edge_runtime.fleet.ports import Hands
from edge_runtime.fleet.snapshot import fit

log = logging.getLogger(__name__)

_DETAIL = 1000
Name = Annotated[str, Field(min_length=1, max_length=200)]
Result = dict[str, JsonValue]
_Given = TypeVar("_Given", bound=Declared)


class Nothing(Declared):
    """`report` takes no arguments."""


class OfCamera(Declared):
    """Arguments of `restart-pipeline`; without a camera: all of them."""

    camera: Name | None = None


class Logging(Declared):
    """Arguments of `set-log-level`."""

    level: Literal["debug", "info", "warning", "error"]
    seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None


class Picture(Declared):
    """Arguments of `snapshot`."""

    camera: Name


class Measuring(Declared):
    """Arguments of `benchmark`."""

    seconds: float = Field(default=5.0, gt=0, le=60)


class Cancelling(Declared):
    """Arguments of `cancel`."""

    deployment: Id


@dataclass(frozen=True, slots=True)
class Doing:
    """Does commands.

    Args:
        hands: The agent.
        cancel: Gives a deployment up.
        report: Has a report sent.
    """

    hands: Hands
    cancel: Callable[[str], None]
    report: Callable[[], None]

    def perform(self, command: Command) -> Reply:
        """Do a command and say what came of it; raises nothing."""
        try:
            result = self._do(command)
            reply = Reply(id=command.id, ok=True, result=result)
            encode(reply)
        except UpdateFailedError as error:
            return refusal(command.id, error)
        except RefusedError as error:
            return refusal(command.id, UpdateFailedError(Failure.COMMAND_FORBIDDEN, str(error)))
        except EdgeRuntimeError as error:
            return Reply(id=command.id, ok=False, detail=str(error)[:_DETAIL])
        except Exception as error:
            log.exception("command %s", command.name)
            return Reply(
                id=command.id, ok=False, detail=f"unexpected: {type(error).__name__}: {error}"[:_DETAIL]
            )
        return reply

    def _do(self, command: Command) -> Result:
        given, hands = command.arguments, self.hands
        match command.name:
            case "report":
                _arguments(Nothing, command)
                self.report()
                return {}
            case "cancel":
                deployment = _arguments(Cancelling, command).deployment
                self.cancel(deployment)
                return {"deployment": deployment}
            case "restart-pipeline":
                hands.restart_pipeline(_arguments(OfCamera, command).camera)
                return dict(given)
            case "set-log-level":
                wanted = _arguments(Logging, command)
                hands.set_log_level(wanted.level, wanted.seconds)
                return dict(given)
            case "snapshot":
                camera = _arguments(Picture, command).camera
                if not hands.allows_snapshots:
                    raise UpdateFailedError(
                        Failure.COMMAND_FORBIDDEN, "snapshot", do="Allow it in the store's settings"
                    )
                return {"camera": camera, **fit(hands.snapshot(camera)).document()}
            case "benchmark":
                return hands.benchmark(_arguments(Measuring, command).seconds)


def is_quick(command: Command) -> bool:
    """Say whether a command takes no time, so that it need not wait for one that does."""
    return command.name in {"report", "cancel"}


def refusal(command_id: str, error: UpdateFailedError) -> Reply:
    """Make the answer to a command that is not done."""
    return Reply(id=command_id, ok=False, code=error.code, detail=str(error)[:_DETAIL])


def check_fresh(command: Command, *, now_s: float, left_s: float | None) -> None:
    """Refuse a command that is too old.

    Args:
        command: The command.
        now_s: What this device's clock says, in seconds since 1970. It is held against `expires` alone; where
            clocks cannot be trusted, leave that out and let the broker count.
        left_s: Of the broker's count; None: it has none.

    Raises:
        UpdateFailedError: It is too old, or its time is none.
    """
    if left_s is not None and left_s <= 0:
        raise UpdateFailedError(
            Failure.COMMAND_EXPIRED, f"command {command.name}", got=f"its time was up {-left_s:.0f} s ago"
        )
    if command.expires is None:
        return
    try:
        until_s = datetime.fromisoformat(command.expires).timestamp()
    except ValueError as error:
        raise UpdateFailedError(
            Failure.MESSAGE_MALFORMED, "command: expires", expected="a time", got=repr(command.expires)
        ) from error
    if now_s > until_s:
        raise UpdateFailedError(
            Failure.COMMAND_EXPIRED,
            f"command {command.name}",
            expected=f"done before {command.expires}",
            got=f"{now_s - until_s:.0f} s later by this device's clock",
        )


def _arguments(kind: type[_Given], command: Command) -> _Given:
    return parse_object(kind, f"command {command.name}", command.arguments)
