"""May this device take an update, and what would it fetch? Pure: facts come in, a plan comes out."""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.contract.fleet import Delta, Wanted
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.record import Source, Trusted, Version


@dataclass(frozen=True, slots=True)
class Facts:
    """What this device is and has.

    Args:
        profile: Its device profile.
        tenant: Whose it is.
        active: What runs; None: nothing yet.
        present: SHA-256 and size in bytes of every file in the store.
        free_bytes: On the disk.
        reserve_bytes: Of it, what must stay free for everything else.
        free_memory_bytes: That can be taken without harm.
        fetched_bytes: Of a part, by the SHA-256 of what it is a part of.
    """

    profile: str
    tenant: str
    active: Version | None
    present: dict[str, int]
    free_bytes: int
    reserve_bytes: int
    free_memory_bytes: int
    fetched_bytes: dict[str, int]


def check(wanted: Wanted, trusted: Trusted, facts: Facts) -> Source | None:
    """Decide whether an update may begin, and what is fetched for it.

    Args:
        wanted: What the manager says.
        trusted: What signed metadata says.
        facts: About this device.

    Returns:
        What to fetch; None: the file is here already.

    Raises:
        UpdateFailedError: It may not, with the code and the number that failed.
    """
    _check_meant(wanted, trusted, facts)
    if trusted.memory_bytes > facts.free_memory_bytes:
        raise UpdateFailedError(
            Failure.NO_MEMORY,
            f"{wanted.name} {wanted.version}: memory beside the running version",
            expected=f"{trusted.memory_bytes:,} bytes free",
            got=f"{facts.free_memory_bytes:,}",
        )
    source = plan(wanted, trusted, facts)
    needed = _disk_bytes(trusted, source, facts) + facts.reserve_bytes
    if needed > facts.free_bytes:
        raise UpdateFailedError(
            Failure.NO_DISK,
            f"{wanted.name} {wanted.version}: room on the disk",
            expected=f"{needed:,} bytes free",
            got=f"{facts.free_bytes:,}",
            do="Free the disk, then deploy again",
        )
    return source


def plan(wanted: Wanted, trusted: Trusted, facts: Facts) -> Source | None:
    """Pick the smallest thing that leads to the wanted file: nothing, a patch, or the whole.

    Raises:
        UpdateFailedError: No patch fits and the whole is not allowed.
    """
    if wanted.sha256 in facts.present:
        return None
    patches = sorted(_usable(wanted.deltas, trusted, facts), key=lambda each: each.size_bytes)
    if patches and (patches[0].size_bytes < wanted.size_bytes or not wanted.full_allowed):
        best = patches[0]
        return Source(
            target=best.target, sha256=best.sha256, size_bytes=best.size_bytes, base_sha256=best.base_sha256
        )
    if wanted.full_allowed:
        return Source(target=wanted.target, sha256=wanted.sha256, size_bytes=wanted.size_bytes)
    raise UpdateFailedError(
        Failure.DELTA_WRONG_BASE,
        f"{wanted.name} {wanted.version}: no patch fits, and the whole file is not allowed",
        expected=" or ".join(each.base_sha256[:12] for each in wanted.deltas) or "a patch",
        got=facts.active.sha256[:12] if facts.active else "nothing installed",
    )


def patch_memory_bytes(base_bytes: int, size_bytes: int) -> int:
    """Say what applying a patch takes: the base, and zstd's window, a power of two that holds the result.

    Args:
        base_bytes: Of the file that it starts from.
        size_bytes: Of the result.
    """
    return base_bytes + (1 << window_log(size_bytes))


def window_log(size_bytes: int) -> int:
    """Give the logarithm of zstd's smallest window that holds so many bytes; zstd takes none under 10."""
    return max(10, (size_bytes - 1).bit_length())


def _check_meant(wanted: Wanted, trusted: Trusted, facts: Facts) -> None:
    title = f"{wanted.name} {wanted.version}"
    signed = (trusted.sha256, trusted.size_bytes, trusted.counter)
    if signed != (wanted.sha256, wanted.size_bytes, wanted.counter):
        raise UpdateFailedError(
            Failure.METADATA_MIX_AND_MATCH,
            f"{title}: the message and the signed metadata differ",
            expected=f"{signed}",
            got=f"{(wanted.sha256, wanted.size_bytes, wanted.counter)}",
        )
    if trusted.tenant != facts.tenant:
        raise UpdateFailedError(
            Failure.WRONG_TENANT, f"{title}: tenant", expected=facts.tenant, got=trusted.tenant
        )
    if trusted.profiles and facts.profile not in trusted.profiles:
        raise UpdateFailedError(
            Failure.WRONG_PROFILE,
            f"{title}: device profile",
            expected=" or ".join(trusted.profiles),
            got=facts.profile,
        )
    if facts.active is not None and trusted.counter <= facts.active.counter:
        raise UpdateFailedError(
            Failure.DOWNGRADE,
            f"{title}: release counter",
            expected=f"above {facts.active.counter}",
            got=f"{trusted.counter}",
            do="Publish the older version again with a new counter to go back to it",
        )


def _usable(deltas: Sequence[Delta], trusted: Trusted, facts: Facts) -> list[Delta]:
    """Keep the patches that are signed, start from what is here, and fit into memory."""
    return [
        each
        for each in deltas
        if each.sha256 in trusted.patches
        and each.base_sha256 in facts.present
        and patch_memory_bytes(facts.present[each.base_sha256], trusted.size_bytes) <= facts.free_memory_bytes
    ]


def _disk_bytes(trusted: Trusted, source: Source | None, facts: Facts) -> int:
    """What is still to be written: the rest of the part, the file that a patch makes, and its slot."""
    if source is None:
        return trusted.unpacked_bytes
    rest = source.size_bytes - facts.fetched_bytes.get(source.sha256, 0)
    made = trusted.size_bytes if source.base_sha256 is not None else 0
    return rest + made + trusted.unpacked_bytes
