"""RedisStream: events as entries of a Redis stream.

Sends; keeps and repeats nothing: `Forwarder` does. Needs the library `redis`, imported when a stream is made.
A batch is one transaction, so it is there whole or not at all, in its order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import ConfigError, RemoteError
from edge_runtime.sinks.spool import Letter


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """A server and how to use it.

    Args:
        host: Name or address.
        port: TCP port.
        stream: The stream's key.
        database: The number of the database.
        username: None: none is sent.
        password: None: none is sent.
        tls: Whether to encrypt, and to check the server's certificate.
        ca_file: Certificates to trust; None: the system's.
        longest: Entries that the stream keeps, about; the oldest go. None: all.
        timeout_s: For connecting, and for each answer.
    """

    host: str
    port: int = 6379
    stream: str = "edge"
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    longest: int | None = 100_000
    timeout_s: float = 10.0


class RedisStream:
    """Adds to one stream. Belongs to one thread.

    Args:
        options: Where and how.

    Raises:
        ConfigError: The library `redis` is missing.
    """

    def __init__(self, options: RedisOptions) -> None:
        self.target = f"redis{'s' if options.tls else ''}://{options.host}:{options.port}"
        self._options = options
        self._redis = _redis()
        self._client = self._new_client()

    def send(self, letters: Sequence[Letter]) -> None:
        """Add letters, all or none of them.

        Raises:
            RemoteError: They are not there, or the answer was lost; says whether trying again can help.
        """
        options = self._options
        batch = self._client.pipeline(transaction=True)
        for letter in letters:
            entry = {"camera": letter.topic, "event": letter.payload}
            batch.xadd(options.stream, entry, maxlen=options.longest, approximate=True)
        try:
            batch.execute()
        except (self._redis.RedisError, OSError) as error:
            raise self._meaning(error) from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _new_client(self) -> Any:
        options = self._options
        tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": options.ca_file and str(options.ca_file)}
        return self._redis.Redis(
            host=options.host,
            port=options.port,
            db=options.database,
            username=options.username,
            password=options.password,
            socket_timeout=options.timeout_s,
            socket_connect_timeout=options.timeout_s,
            # Whoever sends waits and tries again; the library would do so in silence.
            retry=None,
            retry_on_error=[],
            # The older protocol: it takes no right but those to add.
            protocol=2,
            **(tls if options.tls else {}),
        )

    def _meaning(self, error: Exception) -> RemoteError:
        errors = self._redis.exceptions
        said = str(error).rstrip(".") or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in said:
            problem, retryable, do = "its certificate is not trusted", False, "Set `ca_file`"
        elif isinstance(error, (errors.AuthenticationError, errors.NoPermissionError)):
            problem, retryable, do = (
                "it does not let us in",
                False,
                "Check `username`, `password` and its rights",
            )
        elif isinstance(error, (errors.ConnectionError, errors.TimeoutError, OSError)):
            problem, retryable, do = "cannot be reached", True, "Check that it runs"
        elif isinstance(error, (errors.OutOfMemoryError, errors.ReadOnlyError, errors.TryAgainError)):
            problem, retryable, do = "it cannot take the events now", True, "It may be full, or a replica"
        else:
            problem, retryable, do = (
                "it refuses the events",
                False,
                f"Look at the key '{self._options.stream}'",
            )
        return RemoteError(
            f"{self.target}: {problem}", retryable=retryable, got=said, do=f"{do}; events wait on disk"
        )


def _redis() -> Any:
    try:
        import redis  # noqa: PLC0415 - only who has such a sink needs it
    except ImportError as error:
        raise ConfigError(
            "a redis sink needs the library redis",
            got=str(error),
            do="Install it: pip install 'edge-runtime[redis]'",
        ) from error
    return redis
