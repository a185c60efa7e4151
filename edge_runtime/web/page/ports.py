"""What the page asks the agent: `edge_runtime.agent.page` answers. Holds nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_runtime.contract.errors import InputError, RefusedError
from edge_runtime.contract.event import Event
from edge_runtime.contract.given import GivenAnswer
from edge_runtime.contract.status import AgentStatus
from edge_runtime.protocol.drawing import Drawing


class FileChangedError(RefusedError):
    """The settings file is another one than the one that was drawn over."""


class DrawingError(InputError):
    """A drawing is wrong.

    Args:
        problem: For a person.
        places: What is wrong where: keys below the camera (`zones.till.polygon`), and what to say there.
    """

    def __init__(self, problem: str, places: Sequence[tuple[str, str]]) -> None:
        super().__init__(problem)
        self.places = tuple(places)


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model that runs.

    Args:
        name: As the settings call it.
        bundle: Name in its manifest, and its version.
        variant: That was chosen.
        engine: That runs it, and on what.
        problem: Why it does not run; empty: it does.
    """

    name: str
    bundle: str = ""
    variant: str = ""
    engine: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is drawn over a camera's picture now.

    Args:
        version: Of the file.
        drawing: Of the camera.
        locked: Why it cannot be changed here; empty: it can.
    """

    version: str
    drawing: Drawing
    locked: str = ""


class Store(Protocol):
    """The running store. From any thread; everything may take a while."""

    def cameras(self) -> Sequence[str]:
        """List the cameras."""
        ...

    def status(self) -> AgentStatus:
        """Tell how everything is doing."""
        ...

    def temperature_c(self) -> float | None:
        """Tell how hot the machine is, in degrees Celsius; None: it does not say."""
        ...

    def models(self) -> Sequence[OpenModel]:
        """List the models."""
        ...

    def answers(self) -> Sequence[GivenAnswer]:
        """List the last answers to requests, the newest first."""
        ...

    def recordings(self, event: Event) -> Sequence[Path]:
        """Find clips and snapshots of an event."""
        ...

    def drawn(self, camera: str) -> Drawn:
        """Give what is drawn over a camera's picture.

        Raises:
            ConfigError: There is no such camera, or the file cannot be read.
        """
        ...

    def draw(self, camera: str, version: str, drawing: Drawing) -> Drawn:
        """Put a drawing into the settings file, and go on with it.

        Raises:
            FileChangedError: The file is not of that version any more.
            DrawingError: The drawing is wrong; says where. Nothing has changed.
            EdgeRuntimeError: The file cannot be written, or belongs to the fleet. Nothing has changed.
        """
        ...

    def looked(self, camera: str, who: str) -> None:
        """Note that somebody began to look at a camera's live picture."""
        ...
