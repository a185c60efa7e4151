"""Takes a release out of its family's signed metadata, so that no device takes it, whatever a manager says.

Patches that lead to it go with it; those that lead away from it stay, for the devices that have it. Knows no
HTTP: the manager is behind a port. What the manager itself does with a withdrawn release is not decided here.
"""

from collections.abc import Sequence

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, TargetFile, Targets

from cloud_fallback.fleet.trust.newest import NewestFiles
from cloud_fallback.fleet.trust.publishing import Manager, check_mine
from cloud_fallback.fleet.trust.roles import Lifetimes, at, next_version, seal
from cloud_fallback.fleet.trust.state import release_of, releases
from edge_runtime.contract.errors import RemoteError
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.trust import place_of, role_of

_ATTEMPTS = 4
_LIFETIMES = Lifetimes()


def withdraw(
    release: tuple[Kind, str, str],
    signers: Sequence[Signer],
    manager: Manager,
    now_s: float,
    *,
    formerly: Sequence[Key] = (),
) -> bool:
    """Sign a family's metadata again without a release.

    Args:
        release: Kind, name and version.
        signers: The family's keys, as many as its threshold.
        manager: Where.
        now_s: Seconds since 1970.
        formerly: Public keys that the family had before, while it changes to others.

    Returns:
        Whether it was listed.

    Raises:
        EdgeRuntimeError: The manager refuses the metadata or is not there, or it is not signed by these keys.
    """
    kind, name, version = release
    role = role_of(kind, name)
    for _ in range(_ATTEMPTS):
        metadata = NewestFiles(manager).targets(role)
        if metadata is None:
            return False
        check_mine(metadata, role, [*(each.public_key for each in signers), *formerly])
        left = without(metadata.signed, version)
        if len(left) == len(metadata.signed.targets):
            return False
        new = Targets(
            version=next_version(metadata.signed.version, now_s),
            expires=at(now_s + _LIFETIMES.family_s),
            targets=left,
        )
        if manager.sign_off(role, seal(Metadata(new), signers)):
            return True
    raise RemoteError(
        f"{name}: others publish it all the time",
        retryable=True,
        got=f"{_ATTEMPTS} attempts",
        do="Try again once they are done",
    )


def without(role: Targets, version: str) -> dict[str, TargetFile]:
    """Give a family's targets without a version and the patches that lead to it alone.

    Args:
        role: Of the family.
        version: To be left out.
    """
    gone = {path for path, release in releases(role) if release.version == version}
    patches = {
        sha256
        for path, target in role.targets.items()
        if path not in gone and (release := release_of(target)) is not None
        for sha256 in release.patches
    }
    return {
        path: target
        for path, target in role.targets.items()
        if path not in gone and (place_of(path) is not None or target.hashes["sha256"] in patches)
    }
