"""What to say where a vendor's library is missing, and how to quote its errors.

Imports no library itself: each adapter imports its own.
"""

from collections.abc import Generator
from contextlib import contextmanager

from edge_runtime.contract.errors import EngineError


@contextmanager
def needs(engine: str, extra: str) -> Generator[None]:
    """Turn a failing import of a vendor's library into a sentence about what to install.

    Args:
        engine: The engine's name.
        extra: The extra of this package that installs the library.

    Raises:
        EngineError: The import inside failed.
    """
    try:
        yield
    except (ImportError, OSError) as error:  # OSError: a shared library that the library needs is missing
        raise EngineError(
            f"engine '{engine}' is not available ({brief(error)})",
            do=f"Install it: pip install 'edge-runtime[{extra}]'",
        ) from error


def brief(error: Exception) -> str:
    """Give a vendor's message on one line, without its source lines, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(said)[:300] or type(error).__name__
