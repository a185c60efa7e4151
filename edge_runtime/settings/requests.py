"""What `store.yaml` may say about requests: who answers them, the cloud, the door, what waits for the cloud.

Holds and validates values. Decides no route (`edge_runtime.routing` does) and opens no connection.
"""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from edge_runtime.contract.address import is_loopback, redact
from edge_runtime.contract.bundle import Name
from edge_runtime.contract.route import DataClass
from edge_runtime.settings.base import Fraction, OwnPath, Seconds, Settings, refuse

PolicyName = Literal["local_only", "cloud_only", "local_first", "cascade", "fastest"]


def _empty_is_none(value: object) -> object:
    # "${DOOR_TOKEN:-}" is how a file says: whatever the environment has, or nothing.
    return None if value == "" else value


Token = Annotated[SecretStr | None, BeforeValidator(_empty_is_none)]


class RouteSettings(Settings):
    """Who answers a request to one model."""

    policy: PolicyName | None = Field(
        default=None,
        description="local_only: the device; cloud_only: the cloud; local_first: the cloud where the model"
        " does not fit or fails; cascade: the device, and hard examples go to the cloud; fastest: whoever is"
        " predicted to answer first; absent: local_first with a `cloud`, local_only without",
    )
    threshold: Fraction | None = Field(
        default=None, description="of a cascade: an answer less sure than this is a hard example (0.85)"
    )
    threshold_file: OwnPath | None = Field(
        default=None, description="written by `edge-runtime route calibrate`; instead of `threshold`"
    )
    rule: Literal["score", "entropy", "margin", "detection"] = Field(
        default="score", description="what makes an answer a hard example"
    )
    box_threshold: Fraction = Field(
        default=0.5, description="of rule detection: a box with no more than this score is unsure"
    )
    cloud_model: Name | None = Field(
        default=None, description="the model's name in the cloud; absent: the same"
    )
    never_leave: tuple[DataClass, ...] = Field(
        default=(), description="data that is never sent: video, faces, text, embedding, tensors"
    )
    hedge_after: Literal["p95"] | Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="ask the cloud a second time when the first answer takes this many seconds, or longer"
        " than 95 of 100 do; absent: never",
    )
    audit_rate: Fraction = Field(
        default=0.0, description="share of confident answers that the cloud looks at, too, in the background"
    )
    returns: Literal["wait_for_cloud", "local_now"] = Field(
        default="wait_for_cloud",
        alias="return",
        description="of a hard example: wait for the cloud's answer; or answer at once, and the cloud's"
        " answer comes later, by request id",
    )
    min_interval_between_escalations_s: Seconds = Field(
        default=0.0, description="of hard examples; those that come sooner keep the device's answer"
    )
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=5.0, description="an answer is worth nothing after this, where the request says nothing"
    )
    retry: int = Field(
        default=2, ge=0, le=10, description="times the cloud is asked again within the timeout"
    )

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        if self.threshold is not None and self.threshold_file is not None:
            raise refuse("both `threshold` and `threshold_file`", "one of them", "Drop one.")
        return self


def _cloud_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise refuse(redact(url), "https://host[:port][/path]", "Give the address of the cloud's endpoint.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise refuse(
            "an address with credentials or a query", "https://host[:port][/path]", "Use `token` for secrets."
        )
    return url.rstrip("/")


class CloudSettings(Settings):
    """The endpoint in the cloud: any server of Open Inference Protocol v2; ours for texts and pictures."""

    url: Annotated[str, AfterValidator(_cloud_url)] = Field(description="https://models.example.com")
    token: Token = Field(
        default=None, description='sent as a bearer token; keep it in the environment: "${EDGE_CLOUD_TOKEN}"'
    )
    ca_file: OwnPath | None = Field(default=None, description="certificates to trust; absent: the system's")
    cert_file: OwnPath | None = Field(default=None, description="this device's certificate")
    key_file: OwnPath | None = Field(default=None, description="the key of this device's certificate")
    bytes_per_hour: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="requests may take this much of the link; absent: no limit"
    )
    tokens_per_hour: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="of prompts and generated texts together, estimated; absent: no limit"
    )
    probe_every_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=15.0,
        description="where no request tells whether the cloud can be reached, this often it is asked",
    )
    at_once: int = Field(default=8, ge=1, le=256, description="requests under way at the same time, at most")

    @model_validator(mode="after")
    def _secrets_travel_encrypted(self) -> Self:
        parts = urlsplit(self.url)
        plain = parts.scheme == "http"
        if plain and self.token is not None and not is_loopback(parts.hostname or ""):
            raise refuse(
                "`token` with a plain http address", "https", "A token must not cross a network unencrypted."
            )
        if plain and any((self.ca_file, self.cert_file, self.key_file)):
            raise refuse(
                "certificates with a plain http address", "https", "Change `url`, or drop the files."
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise refuse(
                "`cert_file` and `key_file`", "both or neither", "A certificate works only with its key."
            )
        return self


class DoorSettings(Settings):
    """The local HTTP door: Open Inference Protocol v2, /v1/predict, and OpenAI-style routes."""

    host: Annotated[str, Field(min_length=1)] = Field(
        default="127.0.0.1", description="address to listen on; 0.0.0.0 is every one, and needs a `token`"
    )
    port: int = Field(default=8008, ge=0, le=65535, description="0: any that is free")
    token: Token = Field(
        default=None, description='what callers send as a bearer token; "${DOOR_TOKEN}" from the environment'
    )
    at_once: int = Field(
        default=8, ge=1, le=256, description="requests worked on at the same time; others wait"
    )

    @model_validator(mode="after")
    def _open_doors_have_keys(self) -> Self:
        if self.token is None and not is_loopback(self.host):
            raise refuse(
                f"`token` is missing, and {self.host} can be reached by others",
                "a token, or host 127.0.0.1",
                "Add `token`.",
            )
        return self


class OutboxSettings(Settings):
    """What is owed to the cloud, kept on disk while the cloud is away."""

    max_bytes: int = Field(
        default=256 * 2**20,
        ge=2**16,
        description="at most; then audits go first, then events, then escalations, the oldest first",
    )
    max_age_h: Annotated[float, Field(gt=0)] = Field(
        default=72.0, description="what has waited for so long is dropped"
    )
