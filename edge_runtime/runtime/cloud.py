"""Cloud: everything that settings want of the cloud's side, opened, wired and closed together.

Each part does its own work: channel, client, gauge, outbox, sender, probe, audit log.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.routing.audit_log import FILE, AuditLog
from edge_runtime.routing.channel import Channel, ChannelOptions
from edge_runtime.routing.cloud_client import CloudClient
from edge_runtime.routing.far import Far
from edge_runtime.routing.gauge import CloudGauge, GaugeStatus
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.parcel import OutboxStatus
from edge_runtime.routing.privacy import Gate
from edge_runtime.routing.probe import Probe
from edge_runtime.routing.sender import Sender
from edge_runtime.routing.sending import SendingOptions
from edge_runtime.runtime.late import AuditStatus, LateAnswer, LateDesk
from edge_runtime.settings import CloudSettings, OutboxSettings


@dataclass(frozen=True, slots=True)
class CloudStatus:
    """The cloud's side, now.

    Args:
        url: Of the cloud.
        gauge: How it has been doing.
        outbox: What is owed to it.
        trouble: Why the last parcel of the outbox did not get through; empty when it did.
        audits: By the cloud's name of a model.
    """

    url: str
    gauge: GaugeStatus
    outbox: OutboxStatus
    trouble: str
    audits: Mapping[str, AuditStatus]


class Cloud:
    """The cloud's side, open from the moment it is made.

    Args:
        settings: The cloud.
        outbox: What is owed to it.
        state_dir: For the outbox (`outbox.sqlite`) and the audit log (`audit.jsonl`).
        gate: What may leave by the settings, for what is owed since earlier ones.
        on_late: Called with each late answer, at least once, and again after a StorageError; None: they are
            only kept.
        disagreements: By the cloud's name of a model: what its calibration measured.
        sending: How fast what failed is sent again.

    Raises:
        ConfigError: A certificate cannot be read, or the library `httpx` is missing.
        StorageError: The outbox cannot be opened.
    """

    def __init__(
        self,
        settings: CloudSettings,
        outbox: OutboxSettings,
        state_dir: Path,
        *,
        gate: Gate,
        on_late: Callable[[LateAnswer], None] | None = None,
        disagreements: Mapping[str, float] | None = None,
        sending: SendingOptions | None = None,
    ) -> None:
        self.url = settings.url
        with ExitStack() as opened:
            self._outbox = Outbox(
                state_dir / "outbox.sqlite", max_bytes=outbox.max_bytes, max_age_s=outbox.max_age_h * 3600
            )
            self._outbox.open()
            opened.callback(self._outbox.close)
            self._audit_log = AuditLog(state_dir / FILE)
            opened.callback(self._audit_log.close)
            self.gauge = CloudGauge(
                probe_every_s=settings.probe_every_s,
                bytes_per_hour=settings.bytes_per_hour,
                tokens_per_hour=settings.tokens_per_hour,
            )
            client = CloudClient(Channel(channel_options(settings)), self.gauge, self._audit_log.leaving)
            opened.callback(client.close)
            self.desk = LateDesk(self._outbox, on_late, disagreements or {}, state_dir / "audits.json")
            self._sender = Sender(
                self._outbox,
                client,
                online=lambda: self.gauge.online,
                on_late=self.desk.take,
                gate=gate,
                on_withheld=self._audit_log.withheld,
                options=sending,
            )
            opened.callback(self._sender.close)
            # Closed first, so that what is under way is cut off and nobody waits for it.
            opened.callback(client.close)
            probe = Probe(client, self.gauge, lambda online: self._sender.ring(back=online))
            opened.callback(probe.close)
            self.far = Far(client, self.gauge, self._outbox, self._sender.ring)
            self._opened = opened.pop_all()

    def status(self) -> CloudStatus:
        """Say how the cloud's side is doing.

        Raises:
            StorageError: The outbox cannot be read.
        """
        return CloudStatus(
            self.url, self.gauge.status(), self._outbox.status(), self._sender.trouble, self.desk.status()
        )

    def close(self) -> None:
        """End what is under way and close everything. What is owed stays on disk."""
        self._opened.close()


def channel_options(settings: CloudSettings) -> ChannelOptions:
    """See the settings as a channel's options."""
    return ChannelOptions(
        url=settings.url,
        token=None if settings.token is None else settings.token.get_secret_value(),
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        at_once=settings.at_once,
    )
