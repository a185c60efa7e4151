"""What the counts of a rollout mean: go on, wait, or halt. Pure functions of counts and thresholds."""

from cloud_fallback.fleet.actions import HaltReason
from cloud_fallback.fleet.bounds import exceeds, lower_bound, more_often
from cloud_fallback.fleet.standing import Standing
from cloud_fallback.fleet.tally import Count
from edge_runtime.contract.deployment import Thresholds

Finding = tuple[HaltReason, str]
"""Why to halt: as a code, and for a person, with the numbers."""
_ROUNDING = 1e-6
"""0.95 of 20 is a little less than 19 as a float."""


def failing(thresholds: Thresholds, wave: Count, all_open: Count, *, finished: bool) -> Finding | None:
    """Say whether too much has failed, at any moment of a rollout.

    Those under way count as attempted: what fails quickly must not weigh more than what succeeds slowly.

    Args:
        thresholds: Of the deployment.
        wave: The wave opened last.
        all_open: All opened so far.
        finished: Whether all waves are through.

    Returns:
        Why to halt; None: no reason.
    """
    if not finished and wave.bad and not wave.succeeded and not wave.busy and not wave.due:
        return HaltReason.WHOLE_WAVE, f"all {wave.bad} tried devices of the wave failed ({_kinds(wave)})"
    for count, where in ((wave, "of this wave"), (all_open, "so far")):
        limit, sure = thresholds.failure, thresholds.confidence
        if count.ended >= thresholds.min_attempted and exceeds(count.bad, count.attempted, limit, sure):
            bound = lower_bound(count.bad, count.attempted, sure)
            return HaltReason.FAILURE_RATE, (
                f"{count.bad} of {count.attempted} attempts {where} failed ({_kinds(count)}): with {sure:.0%}"
                f" confidence more than {bound:.1%}, allowed are {limit:.1%}"
            )
    return None


def settled(thresholds: Thresholds, wave: Count, all_open: Count) -> bool:
    """Say whether everybody who could be reached has ended, and there is enough to judge by.

    Args:
        thresholds: Of the deployment.
        wave: The wave opened last.
        all_open: All opened so far.
    """
    if all_open.due or all_open.under_way:
        return False
    # A wave whose devices all are with another rollout says nothing; the first one has to say something.
    return all_open.ended > 0 and wave.ended >= min(thresholds.min_attempted, wave.within_reach)


def too_few(thresholds: Thresholds, wave: Count) -> Finding | None:
    """Say whether a wave that has soaked is not good enough for the next one.

    The share is rounded down to whole devices: one failure among five may be that store's own trouble, and
    95 % of five would be all of them.

    Args:
        thresholds: Of the deployment.
        wave: The wave opened last.

    Returns:
        Why to halt; None: it is good enough.
    """
    ended = wave.ended
    needed = int(thresholds.success * ended + _ROUNDING)
    if wave.succeeded >= needed:
        return None
    return HaltReason.TOO_FEW_SUCCEEDED, (
        f"{wave.succeeded} of {ended} devices of the wave are well ({_kinds(wave)}):"
        f" {wave.succeeded / ended:.1%}, needed are {thresholds.success:.1%} ({needed})"
    )


def absent(thresholds: Thresholds, wave: Count, rest: Count) -> bool:
    """Say whether those that succeeded are away, so that nobody can say that they are well.

    Args:
        thresholds: Of the deployment.
        wave: The wave opened last.
        rest: The waves that are not open: how many are away without having been touched.
    """
    all_away = 0 < wave.succeeded == wave.absent
    return all_away or vanished(thresholds, wave, rest) is not None


def vanished(thresholds: Thresholds, wave: Count, rest: Count) -> Finding | None:
    """Say whether more of those that succeeded are away than is usual in this fleet at this hour.

    Args:
        thresholds: Of the deployment.
        wave: The wave opened last.
        rest: The waves that are not open.

    Returns:
        Why to halt; None: not more than usual.
    """
    waiting, sure = rest.standings[Standing.WAITING], thresholds.confidence
    too_many = exceeds(wave.absent, wave.succeeded, 1.0 - thresholds.success, sure)
    if not too_many or not more_often(wave.absent, wave.succeeded, rest.away, waiting, sure):
        return None
    return HaltReason.VANISHED, (
        f"{wave.absent} of the {wave.succeeded} devices that had succeeded went offline;"
        f" of those not touched {rest.away} of {waiting} are"
    )


def _kinds(count: Count) -> str:
    bad = (Standing.FAILED, Standing.TIMED_OUT, Standing.REGRESSED)
    return (
        ", ".join(f"{count.standings[each]} {each}" for each in bad if count.standings[each]) or "none failed"
    )
