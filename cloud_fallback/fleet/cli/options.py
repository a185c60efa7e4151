"""What the commands of `fleet` share: the options that say where the manager is, and the way to it.

Light: importing this loads neither the client nor a view.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_runtime.cli.shell import reporting
from edge_runtime.contract.errors import ConfigError

if TYPE_CHECKING:
    from cloud_fallback.fleet.cli.client import Manager

Url = Annotated[
    str | None,
    typer.Option(
        "--manager", metavar="URL", help="Of the manager; or EDGE_RUNTIME_MANAGER.", show_default=False
    ),
]
Token = Annotated[
    str | None,
    typer.Option("--token", help="Of its API; or EDGE_RUNTIME_TOKEN.", show_default=False),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Certificates to check the manager's with.", show_default=False
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, human text on stderr.")
]
_LIBRARIES = frozenset(
    {"httpx", "sqlalchemy", "alembic", "fastapi", "tuf", "securesystemslib", "cryptography"}
)


@contextmanager
def asking(
    url: str | None, token: str | None, ca: Path | None, *, as_json: bool
) -> Generator["Manager", None, None]:
    """Give the manager; errors in the block become a message and an exit code.

    Args:
        url: `--manager`.
        token: `--token`.
        ca: `--ca`.
        as_json: Whether errors are wanted as JSON, too.
    """
    with reporting(as_json=as_json), extra():
        from cloud_fallback.fleet.cli.client import Manager, find_connection

        with Manager(find_connection(url, token, ca)) as manager:
            yield manager


@contextmanager
def extra() -> Generator[None, None, None]:
    """Turn a missing library into a sentence about what to install.

    Raises:
        ConfigError: One of the extra `manager` is missing.
    """
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _LIBRARIES:
            raise
        raise ConfigError(
            f"fleet needs {missing}, which is not installed",
            do="Install it: pip install 'edge-runtime[manager]'",
        ) from error


@contextmanager
def written() -> Generator[None, None, None]:
    """Say which value of a request is wrong before anybody is asked.

    Raises:
        ConfigError: One is.
    """
    from pydantic_core import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            place or "deployment", expected=message, got=repr(first["input"]) if place else None
        ) from error


def quoted(name: str) -> str:
    """Write a name as part of a path."""
    from urllib.parse import quote

    return quote(name, safe="")


def shortly(moment: str | None) -> str:
    """Write a moment for a table, in UTC to the second."""
    return "never" if moment is None else moment[:19].replace("T", " ")
