"""What tests of every folder share: where the repository is, and the shipped clip."""

import logging
import signal
from collections.abc import Iterator
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
def logs_as_before() -> Iterator[None]:
    """A command that was run in this process has set up its log; the next test hears all again."""
    logs = [logging.getLogger(name) for name in (None, "edge_runtime", "uvicorn")]
    before = [(log.level, log.propagate, log.handlers[:]) for log in logs]
    yield
    for log, (level, propagate, handlers) in zip(logs, before, strict=True):
        log.setLevel(level)
        log.propagate = propagate
        log.handlers[:] = handlers


# A busy machine is slow, not wrong: speed is measured in benchmarks/.
settings.register_profile("no-clock", deadline=None)
settings.load_profile("no-clock")

# Who starts the tests in the background may have these ignored, and the processes of tests would inherit it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
