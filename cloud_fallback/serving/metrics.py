"""What Prometheus scrapes: counts and durations of requests, of the queue, of batches, of models.

Units are in the names, seconds and bytes, as Prometheus has it. Keeps a registry of its own. Measures
nothing; who knows a number says it. Is a dispatcher's `Observer`. What every request counts belongs to the
event loop's thread.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from cloud_fallback.serving.call import Call
from cloud_fallback.serving.series import Counters, Histograms

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MODEL = ("model", "version")


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Histograms(
            "edge_request_duration_seconds",
            "From a request's headers to the last byte of its answer.",
            (*_MODEL, "route", "code"),
            _SECONDS,
            registry,
        )
        self.queue = Histograms(
            "edge_queue_duration_seconds", "Waited for an instance of the model.", _MODEL, _SECONDS, registry
        )
        self.run = Histograms("edge_run_duration_seconds", "Ran in an engine.", _MODEL, _SECONDS, registry)
        self.batch = Histograms("edge_batch_rows", "Rows of one run of an engine.", _MODEL, _ROWS, registry)
        self.rows = Counters("edge_rows", "Rows answered.", _MODEL, registry)
        self.sheds = Counter(
            "edge_requests_shed",
            "Requests refused to keep the others fast.",
            (*_MODEL, "reason"),
            registry=registry,
        )
        self.shadows = Counter(
            "edge_shadow_requests",
            "Copies of requests, by how the shadow's answer compares with the one given.",
            (*_MODEL, "outcome"),
            registry=registry,
        )
        self.repeated = Counter(
            "edge_requests_repeated",
            "Requests answered with the answer to an earlier one.",
            registry=registry,
        )
        self.in_flight = 0
        """Requests being answered. Counted by the event loop's thread alone, and so without a lock."""
        gauge = Gauge("edge_requests_in_flight", "Requests being answered.", registry=registry)
        gauge.set_function(lambda: self.in_flight)
        self.loaded = Gauge(
            "edge_model_loaded",
            "1 where a version of the repository is ready, else 0.",
            _MODEL,
            registry=registry,
        )
        self.memory = Gauge(
            "edge_model_memory_bytes",
            "What a loaded version takes at its peak by its receipt, or the size of its files without one.",
            _MODEL,
            registry=registry,
        )

    def answered(self, call: Call, duration_s: float) -> None:
        """Count a request that was answered, or refused.

        Args:
            call: As it ended. Its model is only named when it exists, so that callers cannot invent series.
            duration_s: From its headers to the last byte of the answer.
        """
        self.requests.of((call.model, call.version, call.route, call.code)).observe(duration_s)
        if call.repeated:
            self.repeated.inc()

    def batch_ran(self, model: str, version: str, *, rows: int, requests: int, run_s: float) -> None:
        """Count a batch."""
        labels = (model, version)
        self.batch.of(labels).observe(rows)
        self.run.of(labels).observe(run_s)

    def request_ran(self, model: str, version: str, *, rows: int, queue_s: float, run_s: float) -> None:
        """Count a request that an engine answered."""
        labels = (model, version)
        self.rows.add(labels, rows)
        self.queue.of(labels).observe(queue_s)

    def request_shed(self, model: str, version: str, *, reason: str) -> None:
        """Count a request that was not run."""
        self.sheds.labels(model, version, reason).inc()

    def page(self) -> bytes:
        """Write everything in Prometheus's text form."""
        return generate_latest(self.registry)
