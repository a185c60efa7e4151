"""What `store.yaml` says of the servers that get events: webhooks, Redis, Kafka. Opens nothing."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from edge_runtime.contract.address import is_loopback
from edge_runtime.settings.base import OwnPath, Settings, refuse
from edge_runtime.settings.recordings import Kinds

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = ("host", "content-length", "content-type", "connection", "transfer-encoding", "x-edge-")
_BROKER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@,]+):\d{1,5}")


class _OutgoingSettings(Settings):
    events: Kinds | None = Field(default=None, description="only these kinds of events; absent: all")
    cameras: tuple[str, ...] = Field(default=(), description="only these cameras; empty: all")
    batch: int = Field(default=100, ge=1, le=1000, description="events in one go, at most")
    timeout_s: Annotated[float, Field(gt=0, le=300)] = Field(
        default=10.0, description="how long the server may take to acknowledge a batch"
    )
    queue_max_bytes: int = Field(
        default=256 * 2**20, ge=2**16, description="events kept on disk at most while the server is away"
    )


def _url(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise refuse("no web address", "https://host[:port]/path", "Give the address that takes the events.")
    if parts.username or parts.password or parts.fragment:
        raise refuse("an address with a user or a fragment", "https://host[:port]/path", "Use `headers`.")
    return url


class WebhookSinkSettings(_OutgoingSettings):
    """Events to an HTTP address, in signed batches; kept on disk while it is away."""

    type: Literal["webhook"]
    url: Annotated[SecretStr, AfterValidator(_url)] = Field(
        description='where batches are posted; never shown: "${ALARM_URL}" if its path is a secret'
    )
    secret: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description='signs batches, and the receiver has it, too: "${WEBHOOK_SECRET}"; absent: not signed',
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict[str, SecretStr], description="sent along with every batch"
    )
    ca_file: OwnPath | None = Field(default=None, description="certificates to trust; absent: the system's")

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name) or name.lower().startswith(_OWN_HEADERS):
                raise refuse(f"a header '{name}'", "one that is not the sink's own", "Drop it.")
            text = value.get_secret_value()
            if not (text.isascii() and text.isprintable()):
                raise refuse(f"header '{name}' has signs that none may have", "printable ASCII", "Encode it.")
        return headers

    @model_validator(mode="after")
    def _secrets_travel_encrypted(self) -> Self:
        parts = urlsplit(self.url.get_secret_value())
        if parts.scheme == "http" and self.headers and not is_loopback(parts.hostname or ""):
            raise refuse(
                "`headers` with a plain http address",
                "https",
                "A token must not cross a network unencrypted.",
            )
        if parts.scheme == "http" and self.ca_file is not None:
            raise refuse("`ca_file` with a plain http address", "https", "Change `url`, or drop the file.")
        return self

    @property
    def place(self) -> tuple[str, ...]:
        """Where events go."""
        return self.type, self.url.get_secret_value()


class RedisSinkSettings(_OutgoingSettings):
    """Events to a Redis stream; kept on disk while the server is away. Takes the extra `redis`."""

    type: Literal["redis"]
    host: Annotated[str, Field(min_length=1)]
    port: int = Field(default=6379, ge=1, le=65535)
    database: int = Field(default=0, ge=0, description="the number of the database")
    stream: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        default=None, description="its key; absent: edge:{site}:events"
    )
    max_entries: Annotated[int, Field(ge=1)] | None = Field(
        default=100_000, description="entries that the stream keeps, about; null: all"
    )
    username: str | None = None
    password: SecretStr | None = Field(
        default=None, description='keep it in the environment: "${REDIS_PASSWORD}"'
    )
    tls: bool = Field(default=False, description="encrypt, and check the server's certificate")
    ca_file: OwnPath | None = Field(default=None, description="certificates to trust; absent: the system's")

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if self.ca_file is not None and not self.tls:
            raise refuse("`ca_file` without `tls`", "`tls: true`", "Set it, or drop the file.")
        return self

    @property
    def place(self) -> tuple[str, ...]:
        """Where events go."""
        return self.type, self.host, str(self.port), str(self.database), self.stream or ""


def _broker(broker: str) -> str:
    if not _BROKER.fullmatch(broker):
        raise refuse(f"'{broker}' is no broker", "host:port", "Name some brokers of the cluster.")
    return broker


class KafkaSinkSettings(_OutgoingSettings):
    """Events to a Kafka topic, keyed by camera; kept on disk while the cluster is away. Takes `kafka`."""

    type: Literal["kafka"]
    brokers: Annotated[tuple[Annotated[str, AfterValidator(_broker)], ...], Field(min_length=1)] = Field(
        description="some brokers of the cluster, as host:port"
    )
    topic: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")] = Field(
        description="where messages go; create it, or let the brokers do it"
    )
    username: str | None = Field(default=None, description="for SASL; absent: no login")
    password: SecretStr | None = Field(
        default=None, description='keep it in the environment: "${KAFKA_PASSWORD}"'
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="of SASL"
    )
    tls: bool = Field(default=False, description="encrypt, and check the brokers' certificates")
    ca_file: OwnPath | None = Field(default=None, description="certificates to trust; absent: the system's")
    cert_file: OwnPath | None = Field(default=None, description="this device's certificate")
    key_file: OwnPath | None = Field(default=None, description="the key of this device's certificate")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.tls and any((self.ca_file, self.cert_file, self.key_file)):
            raise refuse("certificates without `tls`", "`tls: true`", "Set it, or drop the files.")
        if (self.cert_file is None) != (self.key_file is None):
            raise refuse(
                "`cert_file` and `key_file`", "both or neither", "A certificate works only with its key."
            )
        if (self.username is None) != (self.password is None):
            raise refuse("`username` and `password`", "both or neither", "A login takes both.")
        return self

    @property
    def place(self) -> tuple[str, ...]:
        """Where events go."""
        return self.type, *sorted(self.brokers), self.topic


OutgoingSinkSettings = WebhookSinkSettings | RedisSinkSettings | KafkaSinkSettings
