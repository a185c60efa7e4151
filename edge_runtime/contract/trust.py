"""What signed metadata says about releases: names of roles, paths of targets, and their own fields.

Both sides speak it: the device that believes (`edge_runtime.update.metadata`) and the repository that signs
(`cloud_fallback.fleet.trust`). Signs and checks nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.contract.bundle import NAME_PATTERN, Sha256
from edge_runtime.contract.fleet import Bytes, Id, Kind

REVERTS = "reverts"
"""The role of the online key in which devices are sent back to an older release."""
SIGNED_AT = "x-signed-at"
"""Field of the timestamp role: when it was signed, as RFC 3339 in UTC."""
ROOT_VERSION = "x-root"
"""Field of the timestamp role: version of the newest root."""
TENANT = "x-tenant"
"""Field of the root role: whose fleet this is."""
SUFFIXES: Mapping[Kind, str] = {"model": ".zip", "settings": ".yaml", "labels": ".txt"}
MAX_COUNTER = 2**53 - 1
"""The largest whole number that every JSON reader keeps."""
MAX_LEAP = 1_000_000
"""How far the counter of a revert may be above that of the release it goes back to. A leaked online key could
otherwise take the last counter there is, and no release would ever be above it."""

_VERSION = r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}"
_RELEASE = re.compile(rf"(model|settings|labels)/([^/]+)/([1-9]\d{{0,15}})-({_VERSION})(\.zip|\.yaml|\.txt)")
_REVERT = re.compile(rf"{REVERTS}/(model|settings|labels)/([^/]+)/([1-9]\d{{0,15}})")
_BASE_DIGITS = 12


class Release(BaseModel):
    """What the family's key says of a release, beside its length and digest.

    Args:
        counter: Grows with every release of a name.
        tenant: Whom it is for.
        profiles: Device profiles it is for; empty: all.
        unpacked_bytes: What it takes in a slot.
        memory_bytes: What it takes while it runs beside the old one.
        version: As a person reads it.
        patches: SHA-256 of every patch that leads to it.
    """

    model_config = ConfigDict(
        extra="ignore", frozen=True
    )  # what a later release adds does not lock a device out

    counter: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNTER)]
    tenant: Id
    profiles: tuple[str, ...] = ()
    unpacked_bytes: Bytes = 0
    memory_bytes: Bytes = 0
    version: Annotated[str, Field(pattern=rf"^{_VERSION}$")]
    patches: tuple[Sha256, ...] = ()


class Revert(BaseModel):
    """What the online key says of a way back.

    Args:
        counter: Above every release and revert of the name before it.
        of: Path of the release that devices go back to.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    counter: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNTER)]
    of: str


class Patch(BaseModel):
    """What the family's key says of a patch, which is a target of its own.

    Args:
        base: SHA-256 of the whole file that it starts from.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    base: Sha256


@dataclass(frozen=True, slots=True)
class Place:
    """A target's path, read.

    Args:
        kind: Of the release.
        name: Of the release.
        counter: Of the release, or of the revert.
        version: None: it is a revert.
    """

    kind: Kind
    name: str
    counter: int
    version: str | None


def role_of(kind: Kind, name: str) -> str:
    """Name the role that signs a family's releases."""
    return f"{kind}.{name}"


def family_of(role: str) -> tuple[Kind, str] | None:
    """Read the name of a family's role; None: it is another role."""
    kind, _, name = role.partition(".")
    if kind not in SUFFIXES or re.match(NAME_PATTERN, name) is None:
        return None
    return cast(Kind, kind), name


def release_path(kind: Kind, name: str, counter: int, version: str) -> str:
    """Give the path of a release's whole file."""
    return f"{kind}/{name}/{counter}-{version}{SUFFIXES[kind]}"


def patch_path(release: str, base_sha256: str) -> str:
    """Give the path of a patch.

    Args:
        release: Path of the release that it leads to.
        base_sha256: Of the whole file that it starts from.
    """
    whole, _, _ = release.rpartition(".")
    return f"{whole}.from-{base_sha256[:_BASE_DIGITS]}.zst"


def revert_path(kind: Kind, name: str, counter: int) -> str:
    """Give the path of a revert."""
    return f"{REVERTS}/{kind}/{name}/{counter}"


def place_of(path: str) -> Place | None:
    """Read the path of a release or of a revert; None: it is neither."""
    found = _RELEASE.fullmatch(path)
    version = found[4] if found else None
    found = found or _REVERT.fullmatch(path)
    if found is None or re.match(NAME_PATTERN, found[2]) is None:
        return None
    kind = cast(Kind, found[1])
    if version is not None and found[5] != SUFFIXES[kind]:
        return None
    return Place(kind, found[2], int(found[3]), version)
