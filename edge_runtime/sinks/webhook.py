"""Webhook: events to an HTTP address, as signed batches of JSON.

Sends, and says what an answer means. Keeps nothing and repeats nothing: `Forwarder` does. Needs the library
`httpx`, imported when a webhook is made.

A receiver verifies `X-Edge-Signature: v1=HEX`: HEX is HMAC-SHA256 with the shared secret as the key over the
bytes of `X-Edge-Timestamp`, a full stop, and the body as it came.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edge_runtime.contract.errors import ConfigError, OverloadedError, RemoteError
from edge_runtime.sinks.pace import RejectedError
from edge_runtime.sinks.spool import Letter

if TYPE_CHECKING:
    import httpx

TIMESTAMP = "X-Edge-Timestamp"
SIGNATURE = "X-Edge-Signature"

_MOST_SAID_BYTES = 200
_NOT_SET_UP = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 421, 426, 451})
"""Answers that tell of the address or of our rights, not of what was sent: events wait for a person."""
_PASSING = frozenset({408, 425, 429})
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """An address and how to use it.

    Args:
        url: Where batches are posted.
        site: This store; part of every batch.
        secret: Shared with the receiver; empty: batches are not signed.
        headers: Sent along with every batch.
        timeout_s: For one batch, from connecting to the end of the answer.
        ca_file: Certificates to trust; None: the system's.
    """

    url: str = field(repr=False)
    site: str = ""
    secret: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    timeout_s: float = 10.0
    ca_file: Path | None = None


class Webhook:
    """Posts batches to one address. Belongs to one thread.

    Args:
        options: Where and how.

    Raises:
        ConfigError: The address is none, a certificate cannot be read, or the library `httpx` is missing.
    """

    def __init__(self, options: WebhookOptions) -> None:
        parts = urlsplit(options.url)
        # Whoever knows the path of some webhooks may post there: it is told to nobody.
        self.target = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
        self._options = options
        self._httpx = _httpx()
        self._tls = _tls(options)
        self._runner = asyncio.Runner()
        self._client: httpx.AsyncClient | None = None
        self._unsaid = _Unsaid(self._address())
        logging.getLogger("httpx").addFilter(self._unsaid)

    def send(self, letters: Sequence[Letter]) -> None:
        """Post a batch.

        Raises:
            RejectedError: The receiver says that the batch is wrong.
            OverloadedError: It asks for a pause.
            RemoteError: It cannot be reached, does not answer, or is not set up for this.
        """
        body = batch(self._options.site, [letter.payload for letter in letters])
        status, headers, said = self._runner.run(self._post(body))
        _judge(self.target, status, headers, said)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._runner.run(self._client.aclose())
        self._runner.close()
        logging.getLogger("httpx").removeFilter(self._unsaid)

    def _address(self) -> str:
        """Give the address as the library writes it."""
        try:
            return str(self._httpx.URL(self._options.url))
        except self._httpx.InvalidURL as error:
            raise ConfigError(f"webhook {self.target}", expected="a web address", got=str(error)) from error

    async def _post(self, body: bytes) -> tuple[int, Mapping[str, str], str]:
        if self._client is None:
            self._client = self._new_client()
        try:
            # The library's own timeouts are for each read, and a slow receiver has many.
            async with (
                asyncio.timeout(self._options.timeout_s),
                self._client.stream(
                    "POST", self._options.url, content=body, headers=self._headers(body)
                ) as answer,
            ):
                said = bytearray()
                async for piece in answer.aiter_raw():
                    said += piece
                    if len(said) > _MOST_SAID_BYTES:
                        break
                return answer.status_code, answer.headers, _readable(said)
        except TimeoutError as error:
            raise RemoteError(
                f"{self.target}: no answer within {self._options.timeout_s:g} s",
                retryable=True,
                do="Events wait on disk; a slow receiver may need a smaller `batch` or a longer `timeout_s`",
            ) from error
        except (self._httpx.HTTPError, OSError) as error:
            raise _unreachable(self.target, error) from error

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {**self._options.headers, "Content-Type": "application/json"}
        if self._options.secret:
            now = str(int(time.time()))
            headers |= {TIMESTAMP: now, SIGNATURE: signature(self._options.secret, now, body)}
        return headers

    def _new_client(self) -> "httpx.AsyncClient":
        return self._httpx.AsyncClient(
            headers={"User-Agent": "edge-runtime"}, verify=self._tls, timeout=None, follow_redirects=False
        )


class _Unsaid(logging.Filter):
    """Keeps the library from logging an address, which it does for every request."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def filter(self, record: logging.LogRecord) -> bool:
        return self._url not in record.getMessage()


def batch(site: str, events: Sequence[bytes]) -> bytes:
    """Make the body of a batch.

    Args:
        site: The store.
        events: Each as JSON.
    """
    return b'{"v":1,"site":' + json.dumps(site).encode() + b',"events":[' + b",".join(events) + b"]}"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Sign a batch.

    Args:
        secret: Shared with the receiver.
        timestamp: Seconds since 1970, as sent.
        body: As sent.

    Returns:
        The value of the header `X-Edge-Signature`.
    """
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


def asked_s(retry_after: str | None, now: datetime) -> float | None:
    """Read a Retry-After: seconds, or a date (RFC 9110, 10.2.3).

    Args:
        retry_after: The header's value; None: there was none.
        now: With its time zone.

    Returns:
        Seconds from now, never below zero; None: nothing that can be read.
    """
    if retry_after is None:
        return None
    try:
        return float(int(retry_after)) if int(retry_after) >= 0 else None
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())


def _judge(target: str, status: int, headers: Mapping[str, str], said: str) -> None:
    """Turn an answer that is no success into the error it means."""
    if 200 <= status < 300:
        return
    got = f"{status} {said}".strip()
    if status in _PASSING or status >= 500:
        pause_s = asked_s(headers.get("retry-after"), datetime.now(UTC))
        if pause_s is not None:
            raise OverloadedError(f"{target}: it has no room now", retry_after_s=pause_s, got=got)
        raise RemoteError(
            f"{target}: it could not take the events", retryable=True, got=got, do="Events wait on disk"
        )
    if status < 400:
        raise RemoteError(
            f"{target}: it sends elsewhere, and redirects are not followed",
            retryable=False,
            got=str(status),
            do="Set `url` to the address it points to; events wait on disk",
        )
    if status in _NOT_SET_UP:
        raise RemoteError(
            f"{target}: it does not let these events in",
            retryable=False,
            got=got,
            do="Check `url`, `secret` and `headers`; events wait on disk",
        )
    raise RejectedError(
        f"{target}: it says that the events are wrong",
        got=got,
        do="Look at the receiver's log; an event that is rejected again and again is set aside",
    )


def _unreachable(target: str, error: Exception) -> RemoteError:
    said = str(error).rstrip(".") or type(error).__name__
    trusted = _CERTIFICATE not in said
    return RemoteError(
        f"{target}: {'cannot be reached' if trusted else 'its certificate is not trusted'}",
        retryable=trusted,
        got=said,
        do="Events wait on disk" if trusted else "Set `ca_file`; events wait on disk",
    )


def _readable(said: bytearray) -> str:
    """Give what a receiver said on one line, for a log."""
    text = bytes(said[:_MOST_SAID_BYTES]).decode(errors="replace")
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _httpx() -> Any:
    try:
        import httpx  # noqa: PLC0415 - only who has a webhook needs it
    except ImportError as error:
        raise ConfigError(
            "a webhook needs the library httpx",
            got=str(error),
            do="Install it: pip install 'edge-runtime[web]'",
        ) from error
    return httpx


def _tls(options: WebhookOptions) -> ssl.SSLContext | bool:
    if not options.url.startswith("https:"):
        return False
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"webhook: {options.ca_file}", expected="PEM certificates", got=str(error)
        ) from error
