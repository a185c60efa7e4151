"""Topics of the fleet protocol: built and taken apart. Pure; knows no message and no broker.

`v1/{tenant}/d/{device}/{channel}` for one device, `v1/{tenant}/all/notice` for all of them, and
`v1/{tenant}/m/{replica}/reply` for the answers to a manager's commands.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.contract.bundle import NAME_PATTERN
from edge_runtime.contract.update import Failure, UpdateFailedError

_VERSION = "v1"
_NAME = re.compile(NAME_PATTERN)


class Channel(StrEnum):
    """What is said on a topic."""

    DESIRED = "desired"
    """Retained, to a device."""
    REPORTED = "reported"
    PRESENCE = "presence"
    """Retained, and the last will."""
    EVENT = "event"
    COMMAND = "cmd"
    NOTICE = "notice"
    """To all devices."""
    REPLY = "reply"
    """To a replica of the manager."""


_OF_A_DEVICE = frozenset(Channel) - {Channel.NOTICE, Channel.REPLY}


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device.

    Args:
        tenant: Whose it is.
        device: Its name.
    """

    tenant: str
    device: str

    def of(self, channel: Channel) -> str:
        """Give the topic of a channel; of `NOTICE`, the one that all devices share."""
        if channel is Channel.NOTICE:
            return f"{_VERSION}/{self.tenant}/all/{channel}"
        return f"{_VERSION}/{self.tenant}/d/{self.device}/{channel}"

    def taken(self) -> tuple[str, ...]:
        """Give the topics that the device subscribes to."""
        return tuple(self.of(each) for each in (Channel.DESIRED, Channel.COMMAND, Channel.NOTICE))


@dataclass(frozen=True, slots=True)
class Address:
    """What a topic says.

    Args:
        tenant: Whose it is.
        channel: What is said on it.
        device: The device's name; None for `NOTICE` and `REPLY`.
        replica: The manager's replica; None but for `REPLY`.
    """

    tenant: str
    channel: Channel
    device: str | None = None
    replica: str | None = None


def of_all(tenant: str, channel: Channel, *, share: str | None = None) -> str:
    """Give the filter for a channel of all devices of a tenant.

    Args:
        tenant: Whose devices.
        channel: `DESIRED`, `REPORTED`, `PRESENCE`, `EVENT` or `COMMAND`.
        share: Each message goes to one of those that subscribe under this name; None: to everyone.
    """
    every = f"{_VERSION}/{tenant}/d/+/{channel}"
    return f"$share/{share}/{every}" if share else every


def reply(tenant: str, replica: str) -> str:
    """Give the topic on which a replica of the manager hears the answers to its commands."""
    return f"{_VERSION}/{tenant}/m/{replica}/{Channel.REPLY}"


def parse(topic: str) -> Address:
    """Take a topic apart.

    Raises:
        UpdateFailedError: It is none of this protocol.
    """
    match topic.split("/"):
        case [version, tenant, "d", device, channel] if (
            version == _VERSION and channel in _OF_A_DEVICE and _named(tenant, device)
        ):
            return Address(tenant, Channel(channel), device=device)
        case [version, tenant, "all", Channel.NOTICE] if version == _VERSION and _named(tenant):
            return Address(tenant, Channel.NOTICE)
        case [version, tenant, "m", replica, Channel.REPLY] if version == _VERSION and _named(
            tenant, replica
        ):
            return Address(tenant, Channel.REPLY, replica=replica)
        case _:
            raise UpdateFailedError(
                Failure.MESSAGE_FOREIGN_TOPIC,
                "topic",
                expected=f"{_VERSION}/TENANT/d/DEVICE/CHANNEL or another of the protocol's",
                got=repr(topic[:200]),
            )


def _named(*names: str) -> bool:
    return all(_NAME.fullmatch(name) for name in names)
