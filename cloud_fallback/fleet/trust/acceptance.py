"""What a repository takes from offline keys beyond their signatures: what devices could use. Pure."""

from collections.abc import Mapping

# pyright: reportPrivateImportUsage=false
from tuf.api.metadata import Root, TargetFile, Targets

from cloud_fallback.fleet.trust.roles import refused
from cloud_fallback.fleet.trust.state import State, release_of
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.trust import REVERTS, TENANT, place_of
from edge_runtime.contract.update import Failure


def check_root(root: Root, before: Root | None = None) -> None:
    """Refuse a root that is not the next one, is of nobody, or of somebody else.

    Raises:
        UpdateFailedError: It is.
    """
    if before is not None and root.version != before.version + 1:
        raise refused(
            Failure.METADATA_REPLAY, "metadata root: version", f"{before.version + 1}", f"{root.version}"
        )
    tenant = root.unrecognized_fields.get(TENANT)
    wanted = tenant if before is None else before.unrecognized_fields.get(TENANT)
    if not isinstance(tenant, str) or not tenant or tenant != wanted:
        raise refused(Failure.WRONG_TENANT, "metadata root: tenant", f"{wanted or 'a name'}", f"{tenant}")
    if not root.consistent_snapshot:
        raise refused(Failure.METADATA_MALFORMED, "metadata root", "consistent snapshots", "none")


def check_targets(targets: Targets) -> None:
    """Refuse targets that name files themselves, or do not delegate the way back.

    Raises:
        UpdateFailedError: They do.
    """
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    if targets.targets or REVERTS not in roles:
        raise refused(
            Failure.METADATA_MALFORMED,
            "metadata targets",
            f"delegations alone, {REVERTS} among them",
            f"{len(targets.targets)} targets, delegations {', '.join(sorted(roles)) or 'none'}",
            "Make it with: edge-runtime fleet keys delegate",
        )


def check_newer(role: str, new: Targets, held: Targets | None) -> None:
    """Refuse what is not newer than what is here.

    Raises:
        UpdateFailedError: It is not.
    """
    if held is not None and new.version <= held.version:
        raise refused(
            Failure.METADATA_REPLAY,
            f"metadata {role}: version",
            f"above {held.version}",
            f"{new.version}",
            "Read the newest one, and sign the change again",
        )


def check_family(new: Targets, held: Targets | None, family: tuple[Kind, str], state: State) -> None:
    """Refuse releases that no device could take, that change under a path, or whose counter is taken.

    Raises:
        UpdateFailedError: There are such.
    """
    kind, name = family
    before = {} if held is None else held.targets
    taken = set(state.counters(kind, name))
    highest = max(taken, default=0)
    for path, target in new.targets.items():
        there = before.get(path)
        if there is not None and there != target:
            raise _refuse(path, "the file that was published", "another one", "Publish it with a new version")
        if not path.startswith(f"{kind}/{name}/"):
            raise _refuse(path, f"a path in {kind}/{name}/", path)
        if there is None and place_of(path) is not None:
            _check_release(target, state.tenant, highest)
    _check_patches(new.targets)
    if new.delegations is not None:
        raise _refuse(f"{kind}.{name}", "releases alone", "delegations")


def _check_release(target: TargetFile, tenant: str, highest: int) -> None:
    release = release_of(target)
    if release is None:
        raise _refuse(target.path, "SHA-256, and the fields of a release", f"{target.custom}")
    if release.tenant != tenant:
        raise refused(Failure.WRONG_TENANT, f"{target.path}: tenant", tenant, release.tenant)
    if release.counter <= highest:
        raise refused(
            Failure.DOWNGRADE,
            f"{target.path}: release counter",
            f"above {highest}",
            f"{release.counter}",
            "Publish it again: somebody was quicker",
        )


def _check_patches(targets: Mapping[str, TargetFile]) -> None:
    there = {each.hashes.get("sha256") for path, each in targets.items() if place_of(path) is None}
    for path, target in targets.items():
        release = release_of(target)
        if release is not None and not set(release.patches) <= there:
            raise _refuse(path, "patches that are targets of their own", "one that is not")


def _refuse(path: str, expected: str, got: str, do: str | None = None) -> Exception:
    return refused(Failure.METADATA_MALFORMED, path, expected, got, do)
