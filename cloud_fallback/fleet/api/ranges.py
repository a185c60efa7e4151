"""Which bytes of a file a request asks for: Range, If-Range and If-None-Match (RFC 9110). Pure.

One range is served as it is. Several at once get the whole file, as the standard allows: nobody who downloads
artifacts asks for them, and answers in parts are a way to make a server work.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes to be sent.

    Args:
        status: 200, 206, 304 or 416.
        start: First byte.
        length: How many.
    """

    status: int
    start: int
    length: int


def wanted(headers: Mapping[str, str], size: int, etag: str) -> Slice:
    """Say what to send.

    Args:
        headers: Of the request, by lower-case name.
        size: Of the file, bytes.
        etag: Of the file, strong, with its quotes.
    """
    none_match = headers.get("if-none-match")
    if none_match is not None and _among(etag, none_match):
        return Slice(304, 0, 0)
    asked = headers.get("range")
    if_range = headers.get("if-range")
    if asked is None or (if_range is not None and if_range.strip() != etag):
        return Slice(200, 0, size)
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        return Slice(200, 0, size)
    if not found[1]:
        last = min(int(found[2]), size)
        return Slice(206, size - last, last) if last else Slice(416, 0, 0)
    start = int(found[1])
    end = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < start:
        return Slice(200, 0, size)  # no range at all; such a field is ignored
    return Slice(206, start, end - start + 1) if start < size else Slice(416, 0, 0)


def _among(etag: str, field: str) -> bool:
    return field.strip() == "*" or etag in {each.strip().removeprefix("W/") for each in field.split(",")}
