"""One JSON object a line, for machines that collect logs; no bodies and no keys.

Chooses no level and no place; `serve` does.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from cloud_fallback.serving.call import Call, current
from edge_runtime.protocol.json_document import write

access = logging.getLogger("cloud_fallback.access")
"""A line for every request, where that is wanted."""


class JsonLines(logging.Formatter):
    """Writes a record as JSON, with the ids of the request and of the trace it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        fields = getattr(record, "fields", None)
        document: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(current.get()),
            **(fields if isinstance(fields, Mapping) else {}),
        }
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return write(document).decode()


def tell(call: Call, duration_s: float) -> None:
    """Log a request that was answered.

    Args:
        call: As it ended.
        duration_s: From its first byte to the last of the answer.
    """
    fields = {
        "route": call.route,
        "model": call.model,
        "version": call.version,
        "code": call.code,
        "duration_ms": round(duration_s * 1e3, 3),
        "rows": call.rows,
        "key": call.caller,
        "repeated": call.repeated,
    }
    access.info("answered", extra={"fields": {key: value for key, value in fields.items() if value}})


def _ids(call: Call | None) -> dict[str, str]:
    if call is None:
        return {}
    ids = {"request_id": call.request_id, "trace_id": call.trace_id, "span_id": call.span_id}
    return {key: value for key, value in ids.items() if value}
