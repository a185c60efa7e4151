"""Where spans go: an OpenTelemetry collector, or a file with one span a line.

The collector's library is not part of the extra `cloud`; it is imported where an address is given.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from edge_runtime.contract.errors import ConfigError, StorageError

_OTLP = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


class FileExporter(SpanExporter):
    """Writes each span as a line of JSON.

    Args:
        path: Added to.

    Raises:
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"traces {path}: cannot be written: {error.strerror}") from error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write some spans."""
        try:
            self._file.writelines(span.to_json(indent=None) + "\n" for span in spans)
            self._file.flush()
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        self._file.close()


def exporter_for(place: str) -> SpanExporter | None:
    """Make the exporter for a place.

    Args:
        place: `http://…` of a collector that takes OTLP, a file, or empty: none.

    Raises:
        ConfigError: The collector's library is not installed.
        StorageError: The file cannot be written.
    """
    if not place:
        return None
    if not place.startswith(("http://", "https://")):
        return FileExporter(Path(place))
    try:
        library: Any = import_module(_OTLP)
    except ImportError as error:
        raise ConfigError(
            f"traces {place}: the library that sends them is not installed",
            do="Install it: pip install opentelemetry-exporter-otlp-proto-http",
        ) from error
    return library.OTLPSpanExporter(f"{place.rstrip('/')}/v1/traces")
