"""Who may come in: the right host name on a loopback address, the right token elsewhere.

Knows no route. A web page that a browser on the same machine has open can send requests to a loopback
address: by a name of its own that resolves to it (DNS rebinding), or from its own origin. Both are refused.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_runtime.contract.address import is_loopback
from edge_runtime.contract.errors import ConfigError, RefusedError, UnauthorizedError
from edge_runtime.protocol.headers import Metadata

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller has to show.

    Args:
        token: Bearer token; empty: none is asked for.
        hosts: Names by which the door may be called; None: any.
    """

    token: str = ""
    hosts: frozenset[str] | None = None

    def __repr__(self) -> str:
        """Show all but the token."""
        return f"Access(token={'set' if self.token else 'none'}, hosts={sorted(self.hosts or ())})"

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a request that a web page made by a name or from an origin of its own.

        Args:
            headers: By lower-case name.

        Raises:
            RefusedError: It did.
        """
        if self.hosts is None:
            return
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            raise RefusedError("header Host", expected=" or ".join(sorted(self.hosts)), got=repr(host[:80]))
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise RefusedError(
                "header Origin", expected=f"none, or http://{host[:80]}", got=repr(origin[:80])
            )

    def check_token(self, metadata: Metadata) -> None:
        """Refuse a caller without the token; takes as long whatever was sent.

        Raises:
            UnauthorizedError: There is none, or another.
        """
        # An HTTP server hands bytes on as Latin-1.
        if self.token and not hmac.compare_digest(metadata.token.encode("latin-1"), self.token.encode()):
            got = "another" if metadata.token else "none"
            raise UnauthorizedError("bearer token", expected="the one of the settings", got=got)


def access_for(host: str, token: str) -> Access:
    """Choose what a door on this address asks for.

    Args:
        host: Address or name it listens on.
        token: Of the settings; empty: none.

    Raises:
        ConfigError: Others can reach the address, and there is no token.
    """
    if is_loopback(host):
        return Access(token, LOOPBACK_HOSTS | {host.lower()})
    if not token:
        raise ConfigError(
            f"door.host {host}: others can reach it",
            expected="a token",
            got="none",
            do="Set door.token, or listen on 127.0.0.1",
        )
    return Access(token)


def _name(host: str) -> str:
    """Take the port off: `[::1]:8008` and `localhost:8008` are `::1` and `localhost`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rsplit(":", 1)[0].lower()
