"""Artifacts: bytes from the fleet's server, with this device's token, and what is packed in them.

Joins `download` and `contents`; decides nothing itself.
"""

import ssl
from collections.abc import Callable
from pathlib import Path

import httpx

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.fleet import Wanted
from edge_runtime.update.contents import Contents
from edge_runtime.update.download import Downloader
from edge_runtime.update.store import Part


class FleetArtifacts:
    """What an updater fetches and unpacks.

    Args:
        downloader: Gets bytes.
        contents: Knows what may be in them.
    """

    def __init__(self, downloader: Downloader, contents: Contents) -> None:
        self._downloader = downloader
        self._contents = contents

    def fetch(self, target: str, part: Part, *, whole_again: bool, stop: Callable[[], bool]) -> bool:
        """Fetch what is missing of a part; as the port says."""
        return self._downloader.fetch(target, part, whole_again=whole_again, stop=stop)

    def unpack(self, wanted: Wanted, file: Path, folder: Path) -> None:
        """Make a slot's folder; as the port says."""
        self._contents.unpack(wanted, file, folder)


def client_of(device_token: str, authority: Path, manager_url: str) -> Callable[[], httpx.AsyncClient]:
    """Give what makes clients of the fleet's manager.

    Args:
        device_token: Sent to the manager as a bearer token, and to nobody that it redirects to.
        authority: Certificates that the manager may be checked against besides the system's (PEM).
        manager_url: Where the token goes.

    Raises:
        ConfigError: The certificates cannot be read.
    """
    home = _origin(httpx.URL(manager_url))
    try:
        trust = ssl.create_default_context()
        trust.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"certificates {authority}", expected="a readable PEM file", got=str(error), do="Enrol again"
        ) from error

    async def sign(request: httpx.Request) -> None:
        if _origin(request.url) == home:
            request.headers["Authorization"] = f"Bearer {device_token}"

    def make() -> httpx.AsyncClient:
        # An object store behind a redirect has a public certificate; the manager, one of the fleet's.
        return httpx.AsyncClient(
            timeout=120.0,
            follow_redirects=True,
            max_redirects=3,
            verify=trust,
            event_hooks={"request": [sign]},
        )

    return make


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
