"""Bytes that came to messages, and back. Pure; whatever comes, the only error is an `UpdateFailedError`.

The same for both ends: a device reads `Desired` and `Command`; a manager `Reported`, `DeviceEvent`, `Reply`.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from edge_runtime.contract.fleet import MESSAGE_MAX_BYTES, Command, Id, Reported
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import Failure, UpdateFailedError

_Message = TypeVar("_Message", bound=Declared)

_ID: TypeAdapter[str] = TypeAdapter(Id)
_SHORT = 80
"""Characters of a reason where a report would be too long."""
_SHOWN = 200
"""Characters of foreign text in an error."""


def parse(kind: type[_Message], payload: bytes) -> _Message:
    """Read a message.

    Args:
        kind: What it should be.
        payload: What came.

    Raises:
        UpdateFailedError: It is too large, no JSON, of another schema version, has unknown fields or wrong
            ones; for a `Command`, also that there is none of this name.
    """
    what = kind.__name__.lower()
    if len(payload) > MESSAGE_MAX_BYTES:
        raise UpdateFailedError(
            Failure.MESSAGE_TOO_LARGE,
            f"{what}: size",
            expected=f"at most {MESSAGE_MAX_BYTES} bytes",
            got=f"{len(payload)}",
        )
    try:
        from_json(payload, allow_inf_nan=False)
        return kind.model_validate_json(payload, strict=True)
    except ValidationError as error:
        raise _refused(kind, what, error.errors(include_url=False, include_context=False)) from error
    except ValueError as error:
        raise _malformed(what, "no JSON", str(error)) from error


def parse_object(kind: type[_Message], what: str, document: Mapping[str, JsonValue]) -> _Message:
    """Read a part of a message, such as a command's arguments.

    Raises:
        UpdateFailedError: It has unknown fields, or wrong ones.
    """
    try:
        return kind.model_validate(dict(document), strict=True)
    except ValidationError as error:
        raise _refused(kind, what, error.errors(include_url=False, include_context=False)) from error


def encode(message: Declared) -> bytes:
    """Write a message.

    Raises:
        UpdateFailedError: It would be larger than anybody takes.
    """
    payload = message.model_dump_json().encode()
    if len(payload) > MESSAGE_MAX_BYTES:
        raise UpdateFailedError(
            Failure.MESSAGE_TOO_LARGE,
            f"{type(message).__name__.lower()}: size",
            expected=f"at most {MESSAGE_MAX_BYTES} bytes",
            got=f"{len(payload)}",
        )
    return payload


def encode_report(report: Reported) -> bytes:
    """Write a report; where it would be too large, reasons are cut first, then trouble is left out.

    Raises:
        UpdateFailedError: It is still too large: hundreds of names.
    """
    shorter = tuple(each.model_copy(update={"detail": each.detail[:_SHORT]}) for each in report.have)
    for attempt in (report, report.model_copy(update={"have": shorter})):
        if len(payload := attempt.model_dump_json().encode()) <= MESSAGE_MAX_BYTES:
            return payload
    health = report.health.model_copy(update={"trouble": ()})
    return encode(report.model_copy(update={"have": shorter, "health": health}))


def command_id(payload: bytes) -> str | None:
    """Find the id of a command that cannot be read otherwise, to answer it; None: it has none."""
    if len(payload) > MESSAGE_MAX_BYTES:
        return None
    try:
        found: Any = from_json(payload)
        return _ID.validate_python(found["id"], strict=True)
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def _refused(kind: type[Declared], what: str, errors: list[ErrorDetails]) -> UpdateFailedError:
    version = next((each for each in errors if each["loc"] == ("v",)), None)
    if version is not None:
        return UpdateFailedError(
            Failure.MESSAGE_VERSION,
            f"{what}: schema version",
            expected="v 1",
            got=repr(version["input"])[:_SHOWN],
            do="Update edge-runtime at the older end",
        )
    unknown = [_path(each) for each in errors if each["type"] == "extra_forbidden"]
    if unknown:
        return UpdateFailedError(
            Failure.MESSAGE_UNKNOWN_FIELD, f"{what}: unknown fields", got=", ".join(unknown)[:_SHOWN]
        )
    first = errors[0]
    if (
        kind is Command
        and [each["loc"] for each in errors] == [("name",)]
        and isinstance(first["input"], str)
    ):
        return UpdateFailedError(
            Failure.COMMAND_UNKNOWN,
            "command: name",
            expected=first["msg"].removeprefix("Input should be ")[:_SHOWN],
            got=repr(first["input"])[:_SHOWN],
        )
    return _malformed(what, _path(first) or "no object", first["msg"])


def _malformed(what: str, where: str, why: str) -> UpdateFailedError:
    return UpdateFailedError(Failure.MESSAGE_MALFORMED, f"{what}: {where[:_SHOWN]}: {why[:_SHOWN]}")


def _path(error: ErrorDetails) -> str:
    return ".".join(str(each) for each in error["loc"])
