"""Running: an agent as those see it that serve its fleet. `edge_runtime.agent.agent` is the one there is."""

from pathlib import Path
from typing import Protocol

from edge_runtime.agent.adoption import Adoption
from edge_runtime.agent.audited import AgentAudit
from edge_runtime.agent.changes import Changes
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.scene import Scene
from edge_runtime.contract.status import AgentStatus, FleetStatus
from edge_runtime.runtime.bundles import Bundles
from edge_runtime.settings import AgentSettings


class Running(Protocol):
    """A running agent."""

    @property
    def settings(self) -> AgentSettings:
        """What runs now."""
        ...

    @property
    def profile(self) -> DeviceProfile:
        """This device."""
        ...

    @property
    def bundles(self) -> Bundles:
        """What opens bundles here."""
        ...

    @property
    def audit(self) -> AgentAudit:
        """What is done with pictures is written down there."""
        ...

    @property
    def adoption(self) -> Adoption:
        """The models that run."""
        ...

    def status(self) -> AgentStatus:
        """Tell how everything is doing; from any thread."""
        ...

    def last_scene(self, camera: str) -> Scene | None:
        """Give a camera's newest scene, marked as `privacy.blur` says; None: none yet, or no such camera.

        Raises:
            EngineError: It cannot be told what to hide.
        """
        ...

    def load(self, sent: Path | None) -> AgentSettings:
        """Read the store's file again, with settings of the fleet in place of its own; None: the file alone.

        Raises:
            ConfigError: They are wrong, or this agent has no file.
        """
        ...

    def check(self, wanted: AgentSettings) -> None:
        """Say what `apply` would refuse, and change nothing.

        Raises:
            ConfigError: They are wrong.
        """
        ...

    def apply(self, wanted: AgentSettings) -> Changes:
        """Go on with new settings.

        Raises:
            EdgeRuntimeError: They are wrong; nothing has changed.
        """
        ...

    def adopt(self, bundle: str) -> None:
        """Answer with the version of a bundle, and with the labels, that are in use by now.

        Raises:
            EdgeRuntimeError: It does not open; what answered goes on.
        """
        ...

    def restart_soon(self) -> None:
        """Let another agent take the place of this one: what has changed takes a restart."""
        ...

    def restart(self, camera: str | None = None) -> None:
        """Open a camera's source anew; None: of all.

        Raises:
            ConfigError: There is no such camera.
        """
        ...


class Member(Protocol):
    """What joins an agent to its fleet. `edge_runtime.agent.membership` is the one there is."""

    def start(self) -> None:
        """Connect, and go on with updates where they were."""
        ...

    def close(self) -> None:
        """Say goodbye; an update that is under way goes on at the next start. Idempotent."""
        ...

    def status(self) -> FleetStatus:
        """Say how it stands with the fleet."""
        ...
