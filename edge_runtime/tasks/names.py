"""Names of tensors as their makers meant them. Decides nothing about what a tensor holds."""

import re

_DRESSED = re.compile(r"^(?:serving_default_)?(.+?)(?::0)?$")


def plain_name(name: str) -> str:
    """Take off what TensorFlow's converters put around a name: `serving_default_ids:0` is `ids`."""
    found = _DRESSED.match(name)
    return found[1] if found else name
