"""Names as levels of MQTT topics. Pure."""

import re

_NOT_A_LEVEL = re.compile(r"[+#/\x00]")


def level(name: str) -> str:
    """Give a name as one level of a topic: MQTT's own signs in it become `_`."""
    return _NOT_A_LEVEL.sub("_", name)
