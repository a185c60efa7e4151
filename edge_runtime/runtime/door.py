"""RuntimeDoor: the door that settings want, before a runtime, on its port. Answers nothing itself."""

from collections.abc import Sequence

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.given import GivenAnswer
from edge_runtime.runtime.backend import RuntimeBackend
from edge_runtime.runtime.runtime import Runtime
from edge_runtime.settings import DoorSettings
from edge_runtime.web.access import access_for
from edge_runtime.web.door import Door
from edge_runtime.web.server import Server


class RuntimeDoor:
    """Open from the moment it is made until it is closed.

    Args:
        runtime: Who answers; it stays its owner's to close.
        settings: Address and token.

    Raises:
        ConfigError: The extra `web` is not installed.
        RemoteError: The address cannot be listened on.
    """

    def __init__(self, runtime: Runtime, settings: DoorSettings) -> None:
        token = "" if settings.token is None else settings.token.get_secret_value()
        self._backend = RuntimeBackend(runtime, settings.at_once)
        self._server = Server(
            Door(self._backend, access=access_for(settings.host, token), late=self._backend),
            host=settings.host,
            port=settings.port,
        )
        try:
            self._server.start()
        except BaseException:
            self._backend.close()
            raise

    @property
    def url(self) -> str:
        """Its address, for a client on this machine."""
        return self._server.url

    @property
    def given(self) -> Sequence[GivenAnswer]:
        """The last answers, the newest first."""
        return tuple(self._backend.given)

    def close(self) -> None:
        """Take no more requests, wait for those under way."""
        self._server.stop()
        self._backend.close()


def door_of(runtime: Runtime) -> RuntimeDoor:
    """Open the door that a runtime's settings want.

    Raises:
        ConfigError: They want none.
    """
    if runtime.settings.door is None:
        raise ConfigError("a door", expected="the block `door` in the settings", got="none")
    return RuntimeDoor(runtime, runtime.settings.door)
