"""From the block `route` of a model to the policy that the router follows. Reads a threshold's file only."""

from edge_runtime.contract.errors import ConfigError
from edge_runtime.routing.hardness import Rule
from edge_runtime.routing.policy import Mode, Policy, Return
from edge_runtime.routing.threshold_file import ThresholdFile, read_threshold
from edge_runtime.settings import RouteSettings

_USUAL = Policy().threshold


def policy_of(name: str, route: RouteSettings, *, has_cloud: bool) -> tuple[Policy, ThresholdFile | None]:
    """Make a model's policy.

    Args:
        name: The model, as the settings call it.
        route: What they say.
        has_cloud: Whether there is one.

    Returns:
        The policy, and the file that its threshold came from, if one did.

    Raises:
        ConfigError: The threshold's file is missing, broken, or of another rule.
    """
    calibrated = None if route.threshold_file is None else read_threshold(route.threshold_file)
    if calibrated is not None and calibrated.rule != Rule(route.rule):
        raise ConfigError(
            f"models.{name}.route.threshold_file",
            expected=f"a threshold of rule {route.rule}",
            got=f"one of rule {calibrated.rule}",
            do="Change `rule`, or calibrate again",
        )
    threshold = route.threshold if calibrated is None else calibrated.threshold
    box_threshold = route.box_threshold if calibrated is None else calibrated.box_threshold
    usual = Mode.LOCAL_FIRST if has_cloud else Mode.LOCAL_ONLY
    policy = Policy(
        mode=usual if route.policy is None else Mode(route.policy),
        rule=Rule(route.rule),
        threshold=_USUAL if threshold is None else threshold,
        box_threshold=box_threshold,
        never_leave=frozenset(route.never_leave),
        hedge_after=route.hedge_after,
        audit_rate=route.audit_rate,
        returns=Return(route.returns),
        min_interval_s=route.min_interval_between_escalations_s,
    )
    return policy, calibrated
