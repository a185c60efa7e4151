"""From settings to the sinks that send events on. Names the adapters, and imports one where it is used."""

import hashlib
from pathlib import Path

from edge_runtime.settings import AgentSettings
from edge_runtime.settings.outgoing import (
    KafkaSinkSettings,
    OutgoingSinkSettings,
    RedisSinkSettings,
    WebhookSinkSettings,
)
from edge_runtime.sinks.forwarding import Forwarder, ForwardOptions, Outgoing
from edge_runtime.sinks.pace import PaceOptions

_LIBRARY_WAITS_S = 2.0
"""Kafka's library connects again by itself, with pauses of its own: it is only asked how it goes."""


def forwarder_of(sink: OutgoingSinkSettings, settings: AgentSettings) -> Forwarder:
    """Make a sink that sends events on.

    Raises:
        ConfigError: Its library is missing, or a certificate cannot be read.
    """
    outgoing = _outgoing(sink, settings.site)
    pace = PaceOptions(batch=sink.batch)
    if isinstance(sink, KafkaSinkSettings):
        pace = PaceOptions(batch=sink.batch, longest_s=_LIBRARY_WAITS_S)
    options = ForwardOptions(
        events=None if sink.events is None else frozenset(sink.events),
        cameras=frozenset(sink.cameras),
        queue_max_bytes=sink.queue_max_bytes,
        pace=pace,
    )
    name = f"{sink.type} {outgoing.target.partition('://')[2] or outgoing.target.partition(' ')[2]}"
    return Forwarder(outgoing, _spool(sink, settings.state_dir), name=name, options=options)


def _outgoing(sink: OutgoingSinkSettings, site: str) -> Outgoing:
    # A store without such a sink does not pay for its adapter.
    match sink:
        case WebhookSinkSettings():
            from edge_runtime.sinks.webhook import Webhook, WebhookOptions  # noqa: PLC0415

            return Webhook(
                WebhookOptions(
                    url=sink.url.get_secret_value(),
                    site=site,
                    secret="" if sink.secret is None else sink.secret.get_secret_value(),
                    headers={name: value.get_secret_value() for name, value in sink.headers.items()},
                    timeout_s=sink.timeout_s,
                    ca_file=sink.ca_file,
                )
            )
        case RedisSinkSettings():
            from edge_runtime.sinks.redis_stream import RedisOptions, RedisStream  # noqa: PLC0415

            return RedisStream(
                RedisOptions(
                    host=sink.host,
                    port=sink.port,
                    stream=sink.stream or f"edge:{site}:events",
                    database=sink.database,
                    username=sink.username,
                    password=None if sink.password is None else sink.password.get_secret_value(),
                    tls=sink.tls,
                    ca_file=sink.ca_file,
                    longest=sink.max_entries,
                    timeout_s=sink.timeout_s,
                )
            )
        case KafkaSinkSettings():
            from edge_runtime.sinks.kafka_topic import KafkaOptions, KafkaTopic  # noqa: PLC0415

            return KafkaTopic(
                KafkaOptions(
                    brokers=sink.brokers,
                    topic=sink.topic,
                    site=site,
                    username=sink.username,
                    password=None if sink.password is None else sink.password.get_secret_value(),
                    mechanism=sink.mechanism,
                    tls=sink.tls,
                    ca_file=sink.ca_file,
                    cert_file=sink.cert_file,
                    key_file=sink.key_file,
                    timeout_s=sink.timeout_s,
                )
            )


def _spool(sink: OutgoingSinkSettings, state_dir: Path) -> Path:
    """Name a spool after where its letters go, not after the sink's place in the file, and show no secret."""
    digest = hashlib.blake2b("\n".join(sink.place).encode(), digest_size=6).hexdigest()
    return state_dir / f"{sink.type}-{digest}.sqlite"
