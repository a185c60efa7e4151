"""Edge inference: cameras in, events out, next to the camera; requests answered here or by the cloud.

`Runtime` and `connect` are imported when they are first asked for; importing this imports nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.runtime.client import connect
    from edge_runtime.runtime.runtime import Runtime

__all__ = ["Runtime", "connect"]


def __getattr__(name: str) -> Any:
    if name == "Runtime":
        from edge_runtime.runtime.runtime import Runtime  # noqa: PLC0415 - opens engines' modules

        return Runtime
    if name == "connect":
        from edge_runtime.runtime.client import connect  # noqa: PLC0415 - needs the extra `web`

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
