"""The manager's API as publishing needs it: bytes up and down, metadata, releases. Prints nothing."""

import base64
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from cloud_fallback.fleet.cli.client import Connection, failure
from edge_runtime.atomic import cannot_write
from edge_runtime.contract.errors import ConfigError, DeadlineError, RemoteError
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.update import Failure

_TIMEOUT = httpx.Timeout(30.0, read=300.0, write=300.0)
"""A manager puts gigabytes in their place before it answers."""
_BLOCK_BYTES = 1 << 20
_MOST = 1000
_QUICKER = frozenset({Failure.METADATA_REPLAY.value, Failure.DOWNGRADE.value})


class _Error(BaseModel):
    code: str = ""


class _Problem(BaseModel):
    error: _Error = _Error()


class _Listed(BaseModel):
    kind: Kind
    counter: int
    version: str
    withdrawn_at: str | None = None


class _Releases(BaseModel):
    releases: tuple[_Listed, ...]


class HttpManager:
    """A manager across HTTP; implements `cloud_fallback.fleet.trust.publishing.Manager`.

    Args:
        connection: Where it is, and who asks.

    Raises:
        ConfigError: Its certificates cannot be read.
    """

    def __init__(self, connection: Connection) -> None:
        self.url = connection.url
        self._client = httpx.Client(
            base_url=connection.url,
            headers={"authorization": f"Bearer {connection.token}"},
            timeout=_TIMEOUT,
            verify=True if connection.ca is None else _authority(connection.ca),
        )

    def __enter__(self) -> "HttpManager":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self, file: str) -> bytes | None:
        """As the port says."""
        with self._speaking():
            reply = self._client.get(f"/tuf/{quote(file)}")
        if reply.status_code == 404:
            return None
        return _good(reply).content

    def fetch(self, target: str, file: Path) -> None:
        """As the port says; an object store's address is followed without the token."""
        with self._speaking(), self._client.stream("GET", f"/artifacts/{quote(target)}") as reply:
            if reply.has_redirect_location:
                with httpx.stream("GET", reply.headers["location"], timeout=_TIMEOUT) as stored:
                    _save(stored, file)
            else:
                _save(reply, file)

    def upload(self, target: str, file: Path, sha256: str) -> None:
        """As the port says."""
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        headers = {
            "Content-Digest": f"sha-256=:{digest}:",
            "Content-Length": str(file.stat().st_size),
            "Content-Type": "application/octet-stream",
        }
        with self._speaking():
            reply = self._client.put(f"/v1/artifacts/{quote(target)}", content=_blocks(file), headers=headers)
        _good(reply)

    def sign_off(self, role: str, signed: bytes) -> bool:
        """As the port says."""
        with self._speaking():
            reply = self._client.put(
                f"/v1/metadata/{quote(role)}", content=signed, headers={"Content-Type": "application/json"}
            )
        if reply.status_code in {409, 422} and _code(reply) in _QUICKER:
            return False
        _good(reply)
        return True

    def announce(self, target: str) -> None:
        """As the port says."""
        with self._speaking():
            reply = self._client.post("/v1/releases", json={"target": target})
        _good(reply)

    def highest(self, kind: Kind, name: str) -> int:
        """As the port says."""
        return max((each.counter for each in self._listed(kind, name)), default=0)

    def withdrawn(self, kind: Kind, name: str) -> frozenset[str]:
        """As the port says."""
        return frozenset(each.version for each in self._listed(kind, name) if each.withdrawn_at is not None)

    def _listed(self, kind: Kind, name: str) -> list[_Listed]:
        with self._speaking():
            reply = self._client.get("/v1/releases", params={"name": name, "limit": _MOST})
        found = _Releases.model_validate_json(_good(reply).content).releases
        return [each for each in found if each.kind == kind]

    @contextmanager
    def _speaking(self) -> Generator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            do = "See whether the manager is up: GET /readyz; then publish again"
            raise DeadlineError(f"{self.url} does not answer", got=str(error) or None, do=do) from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise RemoteError(f"{self.url} cannot be reached", retryable=True, got=why) from error


def _code(reply: httpx.Response) -> str:
    """Read the code of a refusal; empty: it is not a manager's."""
    try:
        return _Problem.model_validate_json(reply.content).error.code
    except ValidationError:
        return ""


def _good(reply: httpx.Response) -> httpx.Response:
    if not reply.is_success:
        reply.read()
        raise failure(reply)
    return reply


def _save(reply: httpx.Response, file: Path) -> None:
    _good(reply)
    try:
        with file.open("wb") as out:
            for block in reply.iter_bytes():
                out.write(block)
    except OSError as error:
        raise cannot_write(file, error) from error


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            yield block


def _authority(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca}", expected="certificates in PEM", got=str(error)) from error
