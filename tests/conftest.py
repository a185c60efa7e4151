"""What tests of every folder share: where the repository is, and the shipped clip."""

import logging
import signal
from pathlib import Path

import pytest
from hypothesis import settings


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shipped_clip(repository: Path) -> Path:
    """The clip that comes with the package: 768x576, 795 pictures, 10 a second."""
    return repository / "edge_runtime/media/pedestrians.mp4"


@pytest.fixture(autouse=True)
def heard() -> None:
    """A command or a library that set up the log of this process did so for itself: tests hear all again."""
    logging.disable(logging.NOTSET)
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in root.handlers:  # pytest's own: a library may have silenced them too
        handler.setLevel(logging.NOTSET)
    logging.getLogger("edge_runtime").handlers[:] = []
    for name, log in logging.root.manager.loggerDict.items():
        if isinstance(log, logging.Logger) and name.split(".")[0] == "edge_runtime":
            log.setLevel(logging.NOTSET)
            log.propagate = True
            log.disabled = False


# A busy machine is slow, not wrong: speed is measured in benchmarks/.
settings.register_profile("no-clock", deadline=None)
settings.load_profile("no-clock")

# Who starts the tests in the background may have these ignored, and the processes of tests would inherit it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
