"""The command line's way to a manager: where it is, who asks, and its errors as errors of this project.

Thin: one request a call, no retries, no cache. Prints nothing.
"""

import io
import os
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge_runtime.contract.errors import (
    ConfigError,
    DeadlineError,
    EdgeRuntimeError,
    InputError,
    RefusedError,
    RemoteError,
    StorageError,
    UnauthorizedError,
    UpdateError,
)

URL_VARIABLE = "EDGE_RUNTIME_MANAGER"
TOKEN_VARIABLE = "EDGE_RUNTIME_TOKEN"  # noqa: S105 - the name of a variable
CA_VARIABLE = "EDGE_RUNTIME_MANAGER_CA"
TIMEOUT_S = 30.0
T = TypeVar("T")
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})
_LOGIN = "Run `edge-runtime fleet login URL`, or give --manager and --token"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a manager is, and who asks.

    Args:
        url: Without a slash at its end.
        token: Of the API.
        ca: Certificates that the manager's is checked against; None: the system's.
    """

    url: str
    token: str
    ca: Path | None = None


def settings_file() -> Path:
    """Give the file that `fleet login` writes."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "edge-runtime" / "fleet.yaml"


def find_connection(url: str | None, token: str | None, ca: Path | None) -> Connection:
    """Put a connection together: options first, then the environment, then what `fleet login` wrote.

    A token is sent to the manager that it came with only: another URL needs a token of its own.

    Raises:
        ConfigError: There is no URL or no token, or the URL would send the token in clear across a network.
    """
    stored = _stored()
    asked = url or os.environ.get(URL_VARIABLE)
    found_url = checked_url(asked or stored.get("manager", ""))
    same = found_url == stored.get("manager")
    found_token = token or os.environ.get(TOKEN_VARIABLE) or (stored.get("token") if same else None)
    if not found_token:
        raise ConfigError(f"no token for {found_url}", do=_LOGIN)
    stored_ca = stored.get("ca") if same else None
    found_ca = ca or os.environ.get(CA_VARIABLE) or stored_ca
    return Connection(found_url, found_token, Path(found_ca) if found_ca else None)


def checked_url(url: str) -> str:
    """Give a manager's URL as it is kept.

    Raises:
        ConfigError: It is none, or it is plain `http` to another machine.
    """
    if not url:
        raise ConfigError("no manager is known", do=_LOGIN)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise ConfigError("manager", expected="a URL such as https://fleet.example:8443", got=repr(url))
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise ConfigError(
            "manager", expected="https: a token must not cross a network in clear", got=repr(url)
        )
    return url.rstrip("/")


def _stored() -> dict[str, str]:
    path = settings_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read", got=str(error)) from error
    try:
        return TypeAdapter(dict[str, str]).validate_python(YAML(typ="safe").load(text) or {})
    except (YAMLError, ValidationError) as error:
        raise ConfigError(f"{path}", expected="what `fleet login` writes", do="Log in again") from error


def store(connection: Connection) -> Path:
    """Keep a connection for the next commands, readable by its owner only.

    Raises:
        StorageError: It cannot be written.
    """
    path = settings_file()
    text = io.StringIO()
    document = {"manager": connection.url, "token": connection.token}
    if connection.ca:
        document["ca"] = str(connection.ca.absolute())
    YAML().dump(document, text)  # pyright: ignore[reportUnknownMemberType]
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):
            part.unlink()
        # Made with its mode, so that the token is at no moment in a file that others can read.
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written", got=str(error)) from error
    return path


class Manager:
    """A manager's API.

    Args:
        connection: Where it is, and who asks.

    Raises:
        ConfigError: Its certificates cannot be read.
    """

    def __init__(self, connection: Connection) -> None:
        self.url = connection.url
        self.has_own_authority = connection.ca is not None
        self._client = httpx.Client(
            base_url=connection.url,
            headers={"authorization": f"Bearer {connection.token}", "accept": "application/json"},
            timeout=TIMEOUT_S,
            verify=_trust(connection.ca),
            follow_redirects=False,
        )

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, answer: type[T], **query: object) -> T:
        """Ask for something.

        Args:
            path: Below the manager's URL.
            answer: What the JSON is.
            query: What is None is left out.

        Raises:
            EdgeRuntimeError: As `failure` says, or what came is no such thing.
        """
        return self.send("GET", path, answer, query=query)

    def send(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: object = None,
        query: Mapping[str, object] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Send a request and read its answer.

        Args:
            method: Of HTTP.
            path: Below the manager's URL.
            answer: What the JSON is; `NoneType`: there is none.
            body: Written as JSON; None: none.
            query: What is None is left out.
            timeout_s: For each step of the connection.

        Raises:
            EdgeRuntimeError: As `failure` says, or what came is no such thing.
        """
        given = {key: str(value) for key, value in (query or {}).items() if value is not None}
        content = None if body is None else to_json(body)
        headers = {} if content is None else {"content-type": "application/json"}
        with self._speaking():
            reply = self._client.request(
                method, path, params=given, content=content, headers=headers, timeout=timeout_s
            )
        if not reply.is_success:
            raise failure(reply)
        try:
            return TypeAdapter(answer).validate_json(reply.content or b"null")
        except ValidationError as error:
            raise RemoteError(
                f"{self.url}{path}",
                retryable=False,
                expected="an answer of this version of the fleet manager",
                got=str(error.errors()[0]["msg"]),
                do="Use the same version of edge-runtime here and there",
            ) from error

    def stream(self, path: str) -> Iterator[str]:
        """Give the lines of a stream of server-sent events, until it ends.

        Raises:
            EdgeRuntimeError: As for `get`.
        """
        headers = {"accept": "text/event-stream"}
        timeout = httpx.Timeout(TIMEOUT_S, read=90.0)
        with self._speaking(), self._client.stream("GET", path, headers=headers, timeout=timeout) as reply:
            if not reply.is_success:
                reply.read()
                raise failure(reply)
            yield from reply.iter_lines()

    @contextmanager
    def _speaking(self) -> Generator[None, None, None]:
        try:
            yield
        except httpx.TimeoutException as error:
            do = "See whether the manager is up: GET /readyz"
            raise DeadlineError(f"{self.url} does not answer", got=str(error) or None, do=do) from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            do = (
                "Give the fleet's authority.crt with --ca"
                if "CERTIFICATE_VERIFY" in why
                else "Is it running?"
            )
            raise RemoteError(f"{self.url} cannot be reached", retryable=True, got=why, do=do) from error


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca}", expected="certificates in PEM", got=str(error)) from error


def failure(reply: httpx.Response) -> EdgeRuntimeError:
    """Make an error of this project from an answer that is one.

    401 and 403 are `UnauthorizedError` and `RefusedError`; a move that a rollout's phase does not allow is an
    `UpdateError`; 408, 429 and from 500 are `RemoteError`, which a
    later try may not see; all others are `InputError`: what was asked for is wrong.
    """
    parts = _parts(reply)
    problem = parts.get("message") or f"{reply.request.url.path}: HTTP {reply.status_code}"
    do = "Run `edge-runtime fleet login` with a token that is good"
    error: EdgeRuntimeError
    if reply.status_code == 401:
        error = UnauthorizedError(problem, do=do)
    elif reply.status_code == 403:
        error = RefusedError(problem)
    elif parts.get("code") == "phase":
        error = UpdateError(problem)
    elif reply.status_code in (408, 429) or reply.status_code >= 500:
        error = RemoteError(problem, retryable=True)
    else:
        error = InputError(problem)
    # The manager's message holds them already; with --json they stand beside it.
    error.expected, error.got = parts.get("expected"), parts.get("got")
    error.do = parts.get("do") or error.do
    return error


def _parts(reply: httpx.Response) -> dict[str, str]:
    try:
        document = TypeAdapter(dict[str, dict[str, str | None]]).validate_json(reply.content)
    except ValidationError:
        return {}  # not from a manager: a proxy, perhaps; the status has to do
    return {key: value for key, value in document.get("error", {}).items() if value}
