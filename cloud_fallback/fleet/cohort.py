"""Which device is in which wave of a deployment.

Devices stand in the order of a hash of deployment and name: another deployment, another order, so that it is
not always the same stores that get everything first; the same deployment, the same order on every replica.
Waves cut that order by count, because a share drawn by lot may be twice what was asked for. Pure. Does not
know who is online.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence


def rank(deployment: str, device: str) -> int:
    """Give a device's place in the order of a deployment.

    Args:
        deployment: Its id.
        device: Its name.

    Returns:
        64 bits of SHA-256; the smallest comes first.
    """
    return int.from_bytes(hashlib.sha256(f"{deployment}\0{device}".encode()).digest()[:8], "big")


def sizes(count: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Say how many devices the waves have together, wave by wave.

    Args:
        count: Devices in all.
        shares: Of the whole, growing, the last one 1.

    Returns:
        Rounded down, so that no wave is larger than it was to be; but the first has one device at least.
    """
    # A share like 0.29 is a little less as a float; without the millionth 29 of 100 would be 28.
    return tuple(min(count, max(1, int(share * count + 1e-6))) for share in shares)


def waves(
    deployment: str, devices: Iterable[str], shares: Sequence[float], kept: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Put devices into waves.

    Args:
        deployment: Its id.
        devices: Names; those in `kept` may be among them.
        shares: Of the whole, growing, the last one 1.
        kept: Waves of devices that are in one already. They stay there; new ones fill up the first waves that
            are smaller than their share of the grown whole.

    Returns:
        The wave of every device, counted from 0, `kept` included.
    """
    placed = dict(kept or {})
    new = sorted(set(devices) - placed.keys(), key=lambda name: (rank(deployment, name), name))
    room = list(sizes(len(placed) + len(new), shares))
    for wave in placed.values():
        for later in range(wave, len(room)):
            room[later] -= 1
    # The room of a wave counts the waves before it in; what a later wave has no room for, no earlier one has.
    for index in reversed(range(len(room) - 1)):
        room[index] = min(room[index], room[index + 1])
    queue = iter(new)
    given = 0
    for wave, places in enumerate(room):
        for _ in range(max(0, places - given)):
            placed[next(queue)] = wave
            given += 1
    return placed
