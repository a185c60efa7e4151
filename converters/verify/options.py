"""Options of the verifying steps, read from JSON. Knows what types they have, not what they mean."""

from collections.abc import Mapping
from typing import cast

from pydantic import TypeAdapter, ValidationError

from converters.step import Options
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import TaskSpec

_TASK: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)


def task_of(options: Options, key: str = "task") -> TaskSpec:
    """Read a TaskSpec.

    Raises:
        ConversionError: It is missing or wrong.
    """
    try:
        return _TASK.validate_python(options.get(key))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConversionError(f"option '{key}': {first['msg']}", got=str(first["loc"])) from error


def text(options: Options, key: str, default: str | None = None) -> str:
    """Read a text.

    Raises:
        ConversionError: It is missing and has no default, or is something else.
    """
    value = options.get(key)
    value = default if value is None else value
    if not isinstance(value, str):
        raise _wrong(key, "a text", value)
    return value


def integer(options: Options, key: str, default: int) -> int:
    """Read a number of things.

    Raises:
        ConversionError: It is none, or less than 1.
    """
    value = options.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(key, "a whole number from 1 on", value)
    return value


def number(options: Options, key: str, default: float | None = None) -> float | None:
    """Read a real number; None where it is absent without a default.

    Raises:
        ConversionError: It is none.
    """
    value = options.get(key)
    value = default if value is None else value
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(key, "a number", value)
    return float(value)


def texts(options: Options, key: str) -> tuple[str, ...]:
    """Read a list of texts; empty where it is absent.

    Raises:
        ConversionError: It is something else.
    """
    value = options.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _wrong(key, "a list of texts", value)
    return tuple(cast("list[str]", value))


def names(options: Options, key: str) -> Mapping[str, str]:
    """Read a mapping of names; empty where it is absent.

    Raises:
        ConversionError: It is something else.
    """
    value = options.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise _wrong(key, "a mapping of names", value)
    return cast("dict[str, str]", value)


def _wrong(key: str, expected: str, got: object) -> ConversionError:
    return ConversionError(f"option '{key}'", expected=expected, got=repr(got)[:80])
