"""What Prometheus scrapes of a manager: requests, bytes, failed logins, and the fleet as the database has it.

Keeps a registry of its own. The fleet's numbers are read when they are asked for.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics of one manager process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Histogram(
            "fleet_request_duration_seconds",
            "From a request's headers to the last byte of its answer.",
            ("route", "method", "code"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.sent = Counter("fleet_artifact_sent_bytes", "Bytes of artifacts sent.", registry=registry)
        self.received = Counter("fleet_artifact_received_bytes", "Bytes taken in.", registry=registry)
        self.elsewhere = Counter(
            "fleet_artifact_redirects", "Requests for artifacts sent to a store.", registry=registry
        )
        self.failed_logins = Counter("fleet_failed_logins", "Requests with a bad token.", registry=registry)
        self.watchers = Gauge("fleet_watchers", "Streams of changes that are open.", registry=registry)
        self.leads = Gauge("fleet_leads", "1 where this process decides rollouts.", registry=registry)
        self.messages = Gauge(
            "fleet_messages",
            "MQTT messages since the start: taken in, published, waiting to be written, or bad.",
            ("what",),
            registry=registry,
        )
        self.turn = Gauge("fleet_turn_seconds", "The operator's last turn took so long.", registry=registry)
        self.connected = Gauge(
            "fleet_broker_connected", "1 where the broker is connected.", registry=registry
        )
        self.devices = Gauge("fleet_devices", "Devices of the fleet.", ("online",), registry=registry)
        self.versions = Gauge(
            "fleet_devices_by_version",
            "Devices that run a version.",
            ("kind", "name", "version"),
            registry=registry,
        )
        self.deployments = Gauge(
            "fleet_deployments", "Deployments that still do something.", ("phase",), registry=registry
        )
        self.expires = Gauge(
            "fleet_metadata_expires_seconds",
            "When a role's metadata expires, in seconds since 1970.",
            ("role",),
            registry=registry,
        )

    def page(self) -> bytes:
        """Write everything in Prometheus's text form."""
        return generate_latest(self.registry)
