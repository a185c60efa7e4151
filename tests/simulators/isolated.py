"""A step for an environment that has next to nothing: imports only Python's own library and our errors."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract import errors


def look(
    inputs: Mapping[str, Path], out: Path, options: Mapping[str, Any], tell: Callable[[float, str], None]
) -> dict[str, Any]:
    """Say where it runs and what it sees."""
    import tiny  # type: ignore[import-not-found]

    return {
        "prefix": sys.prefix,
        "tiny": tiny.VALUE,
        "hypothesis": importlib.util.find_spec("hypothesis") is not None,
        "errors": errors.__file__,
    }
