"""What travels beside a request and beside its answer: HTTP headers, and gRPC metadata of the same names.

Reads and writes them; decides nothing by them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_runtime.contract.errors import InputError
from edge_runtime.contract.result import Answer
from edge_runtime.contract.route import DataClass

REQUEST_ID = "x-request-id"
DEADLINE = "x-deadline-ms"
TRACE = "traceparent"
AUTHORIZATION = "authorization"
DATA = "x-edge-data"
PRIORITY = "x-edge-priority"
STICKY = "x-edge-sticky"
ROUTE = "x-edge-route"
REASON = "x-edge-reason"
VERSION = "x-edge-version"
VARIANT = "x-edge-variant"

USUAL_PRIORITY = 1
_LAST_PRIORITY = 9
_LONGEST_MS = 24 * 3600 * 1000
_BEARER = "bearer "
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_STICKY = re.compile(r"[\x20-\x7e]{1,256}")
# W3C Trace Context, 3.2.2: version, trace id, parent id, flags; ids of zeros are none. Only a version to come
# may have more behind them.
_TRACE = re.compile(r"((?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-.*)?")
_FIRST_TRACE = "00-"
_UNSAFE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a caller says beside its request.

    Args:
        id: Of the request, and the key by which it is done once only; empty: the caller gave none.
        timeout_s: Time left; None: not told.
        trace: `traceparent`, its four fields only; empty: none, or none that can be continued.
        token: Of `Authorization: Bearer`; empty: none.
        data: What the request holds, as the caller says.
        priority: 0 is the highest.
        sticky: Requests of one key go to one version of a model; empty: none.
    """

    id: str = ""
    timeout_s: float | None = None
    trace: str = ""
    token: str = ""
    data: frozenset[DataClass] = frozenset()
    priority: int = USUAL_PRIORITY
    sticky: str = ""

    def __repr__(self) -> str:
        """Show all but the token."""
        return (
            f"Metadata(id={self.id!r}, timeout_s={self.timeout_s}, trace={self.trace!r},"
            f" data={sorted(self.data)}, priority={self.priority}, sticky={self.sticky!r})"
        )


def read(headers: Mapping[str, str]) -> Metadata:
    """Read what a caller says.

    Args:
        headers: By lower-case name.

    Raises:
        InputError: A value is not of its form.
    """
    if not _NAMES.intersection(headers):
        return _NOTHING
    request_id = headers.get(REQUEST_ID, "")
    if request_id and not _ID.fullmatch(request_id):
        raise _wrong(REQUEST_ID, "1 to 128 visible ASCII characters", request_id)
    sticky = headers.get(STICKY, "")
    if sticky and not _STICKY.fullmatch(sticky):
        raise _wrong(STICKY, "1 to 256 ASCII characters", sticky)
    authorization = headers.get(AUTHORIZATION, "")
    return Metadata(
        id=request_id,
        timeout_s=_timeout_s(headers[DEADLINE]) if DEADLINE in headers else None,
        trace=_trace(headers.get(TRACE, "")),
        token=authorization[len(_BEARER) :].strip() if authorization.lower().startswith(_BEARER) else "",
        data=_data(headers[DATA]) if DATA in headers else frozenset(),
        priority=_priority(headers[PRIORITY]) if PRIORITY in headers else USUAL_PRIORITY,
        sticky=sticky,
    )


def write(metadata: Metadata) -> dict[str, str]:
    """Give the headers that say this; `read` reads them back.

    Args:
        metadata: Its `timeout_s` is the time left when the request goes out, more than 0; whole milliseconds
            are told, at least one.
    """
    said = {
        REQUEST_ID: metadata.id,
        DEADLINE: "" if metadata.timeout_s is None else str(max(1, int(metadata.timeout_s * 1000))),
        TRACE: _trace(metadata.trace),
        AUTHORIZATION: f"Bearer {metadata.token}" if metadata.token else "",
        DATA: ",".join(sorted(metadata.data)),
        PRIORITY: "" if metadata.priority == USUAL_PRIORITY else str(metadata.priority),
        STICKY: metadata.sticky,
    }
    return {name: value for name, value in said.items() if value}


def of_answer(answer: Answer[object]) -> dict[str, str]:
    """Give the headers of an answer: whence it came, and why."""
    return {
        ROUTE: answer.decision.route,
        REASON: answer.decision.reason,
        VERSION: safe(answer.version),
        VARIANT: safe(answer.variant),
    }


def of_details(details: Mapping[str, object]) -> dict[str, str]:
    """Give the headers of an answer on tensors.

    Args:
        details: Among them `route`, `reason` and `variant`, if known.
    """
    names = {"route": ROUTE, "reason": REASON, "variant": VARIANT}
    return {name: safe(str(details[key])) for key, name in names.items() if key in details}


def safe(value: str) -> str:
    """Make a text fit for a header: printable ASCII, at most 256 characters."""
    return value if value.isascii() and value.isprintable() and len(value) <= 256 else _made_safe(value)


def _made_safe(value: str) -> str:
    return _UNSAFE.sub("?", value)[:256]


def every(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Give the headers of an HTTP server by name; of those that come twice, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


_NAMES = frozenset({REQUEST_ID, DEADLINE, TRACE, AUTHORIZATION, DATA, PRIORITY, STICKY})
_NOTHING = Metadata()


def _wrong(name: str, expected: str, got: str) -> InputError:
    return InputError(f"header {name}", expected=expected, got=repr(got[:80]))


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _timeout_s(text: str) -> float:
    left_ms = _whole(text.strip())
    if not left_ms or left_ms > _LONGEST_MS:  # whoever has no time left does not ask
        raise _wrong(DEADLINE, f"milliseconds left, a whole number from 1 to {_LONGEST_MS}", text)
    return left_ms / 1000


def _trace(text: str) -> str:
    """Keep the four fields, for behind them may be a text; a broken one is ignored, as the standard says."""
    text = text.strip()
    found = _TRACE.fullmatch(text)
    if found is None or (text.startswith(_FIRST_TRACE) and found[2]):
        return ""
    return found[1]


def _priority(text: str) -> int:
    priority = _whole(text.strip())
    if priority is None or priority > _LAST_PRIORITY:
        raise _wrong(PRIORITY, f"0, the highest, to {_LAST_PRIORITY}", text)
    return priority


def _data(text: str) -> frozenset[DataClass]:
    try:
        return frozenset(DataClass(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise _wrong(DATA, f"of {', '.join(DataClass)}, with commas between", text) from None
