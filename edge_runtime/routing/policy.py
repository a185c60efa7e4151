"""Who answers: `choose` before anything runs, `judge` with the device's answer, `fall_back` after a failure.

Pure: the facts hold everything a decision depends on. Runs nothing, sends nothing, and looks at no clock.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.routing.breaker import BreakerState
from edge_runtime.routing.facts import AnswerFacts, CloudFacts, Facts
from edge_runtime.routing.hardness import Rule, is_hard
from edge_runtime.routing.privacy import forbidden

MEASURING_SHARE = 0.1
"""Of the requests under `fastest`, so many go to a cloud whose speed is not known, to measure it."""

Problem: TypeAlias = tuple[Reason, str]
"""Why a side may not or cannot be asked, and a sentence for a person."""


class Mode(StrEnum):
    """Who is asked first, and who then."""

    LOCAL_ONLY = "local_only"
    """The device, or nobody."""
    CLOUD_ONLY = "cloud_only"
    """The cloud, or nobody."""
    LOCAL_FIRST = "local_first"
    """The device; the cloud where the model does not fit, cannot be in time, or fails."""
    CASCADE = "cascade"
    """The device; hard examples go on to the cloud."""
    FASTEST = "fastest"
    """Whoever is predicted to answer first."""


class Return(StrEnum):
    """What the caller gets while a hard example is on its way to the cloud."""

    WAIT_FOR_CLOUD = "wait_for_cloud"
    """The cloud's answer, or the device's when the cloud fails."""
    LOCAL_NOW = "local_now"
    """The device's answer at once; the cloud's comes later, by request id."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user says about one model.

    Args:
        mode: Who is asked.
        rule: What a hard example is; of `cascade`.
        threshold: An answer less sure than this is a hard example.
        box_threshold: A box with no more than this score is unsure; of rule `detection`.
        never_leave: Data that is never sent.
        hedge_after: A second request goes to the cloud when the first has taken so many seconds, or as
            long as 95 of 100 do; None: never.
        audit_rate: Share of the device's own confident answers that the cloud looks at too.
        returns: What the caller gets while a hard example is with the cloud.
        min_interval_s: Between two escalations of hard examples.

    Raises:
        ConfigError: A value is out of its range, or contradicts the mode.
    """

    mode: Mode = Mode.LOCAL_ONLY
    rule: Rule = Rule.SCORE
    threshold: float = 0.85
    box_threshold: float = 0.5
    never_leave: frozenset[DataClass] = field(default_factory=frozenset[DataClass])
    hedge_after: float | Literal["p95"] | None = None
    audit_rate: float = 0.0
    returns: Return = Return.WAIT_FOR_CLOUD
    min_interval_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("threshold", "box_threshold", "audit_rate"):
            value: float = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"route: {name}", expected="a number from 0 to 1", got=f"{value:g}")
        if not self.min_interval_s >= 0:
            raise ConfigError("route: min_interval_s", expected="0 or more", got=f"{self.min_interval_s:g}")
        if self.hedge_after is not None and self.hedge_after != "p95" and not self.hedge_after > 0:
            raise ConfigError("route: hedge_after", expected="p95 or seconds", got=f"{self.hedge_after}")
        if self.audit_rate and self.mode in {Mode.LOCAL_ONLY, Mode.CLOUD_ONLY}:
            raise ConfigError(
                f"route: audit_rate with policy {self.mode}",
                expected="a policy under which both sides may answer",
                got=f"{self.audit_rate:g}",
                do="Take local_first, cascade or fastest, or leave audit_rate out",
            )


class Action(StrEnum):
    """What becomes of the device's own answer."""

    KEEP = "keep"
    """It is the answer."""
    ESCALATE = "escalate"
    """The cloud is asked and waited for; where it fails, this is the answer (`fall_back`)."""
    ESCALATE_LATER = "escalate-later"
    """It is the answer now; the request is put into the outbox, and the cloud's answer comes later."""
    AUDIT = "audit"
    """It is the answer; the request is put into the outbox to compare the cloud's answer with it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the device's own answer, and the decision that the final answer carries.

    Args:
        action: What to do.
        decision: Route CLOUD with `escalate`, LOCAL with everything else.
    """

    action: Action
    decision: Decision


def choose(policy: Policy, facts: Facts) -> Decision:
    """Decide who is asked first.

    Args:
        policy: The user's.
        facts: Of this moment.

    Returns:
        LOCAL, CLOUD, or REFUSE where neither may or can; the reason is true of the facts.
    """
    if not facts.deadline_left_s > 0:
        return Decision(Route.REFUSE, Reason.DEADLINE, "no time is left")
    mode = policy.mode
    if mode is Mode.LOCAL_ONLY:
        problem = local_problem(facts)
        return Decision(Route.REFUSE, *problem) if problem else _LOCAL_BY_POLICY
    if mode is Mode.CLOUD_ONLY:
        problem = cloud_problem(policy, facts)
        return Decision(Route.REFUSE, *problem) if problem else _CLOUD_BY_POLICY
    return _choose_fastest(policy, facts) if mode is Mode.FASTEST else _choose_local_first(policy, facts)


def judge(policy: Policy, facts: Facts, answer: AnswerFacts) -> Verdict:
    """Decide what becomes of the device's own answer.

    Args:
        policy: The user's.
        facts: Of this moment; time has passed since `choose`.
        answer: How sure the device is.

    Returns:
        What to do; the caller always has an answer, whatever happens to the cloud.
    """
    if policy.mode is not Mode.CASCADE or answer.chosen.reason is Reason.CLOUD_FAILED:
        return _keep_or_audit(policy, facts, answer.chosen)
    hard, sure = is_hard(policy.rule, policy.threshold, policy.box_threshold, answer)
    if not hard:
        detail = f"{policy.rule} {sure:.3g}, threshold {policy.threshold:g}"
        return _keep_or_audit(policy, facts, Decision(Route.LOCAL, Reason.CONFIDENT, detail))
    detail = f"{policy.rule} {sure:.3g} is a hard example at threshold {policy.threshold:g}"
    later = policy.returns is Return.LOCAL_NOW
    problem = _escalation_problem(policy, facts, later=later)
    if problem:
        return Verdict(Action.KEEP, Decision(Route.LOCAL, problem[0], f"{detail}, but {problem[1]}"))
    if later:
        return Verdict(Action.ESCALATE_LATER, Decision(Route.LOCAL, Reason.LOW_CONFIDENCE, detail))
    return Verdict(Action.ESCALATE, Decision(Route.CLOUD, Reason.LOW_CONFIDENCE, detail))


def fall_back(
    policy: Policy, facts: Facts, failed: Route, problem: str, *, answered: bool = False
) -> Decision:
    """Decide what comes after the route that was taken has failed.

    Args:
        policy: The user's.
        facts: Of this moment.
        failed: LOCAL or CLOUD.
        problem: What went wrong, for a person.
        answered: Whether the device's own answer is there already, as after `escalate`.

    Returns:
        The other side, or REFUSE where it may not or cannot be asked. Ask at most once a request.
    """
    if failed is Route.CLOUD:
        if answered:
            return Decision(Route.LOCAL, Reason.CLOUD_FAILED, problem)
        if policy.mode is Mode.CLOUD_ONLY:
            return Decision(Route.REFUSE, Reason.CLOUD_FAILED, f"{problem}; the policy asks nobody else")
        here = local_problem(facts)
        if here:
            return Decision(Route.REFUSE, Reason.CLOUD_FAILED, f"{problem}; here: {here[1]}")
        return Decision(Route.LOCAL, Reason.CLOUD_FAILED, problem)
    if policy.mode is Mode.LOCAL_ONLY:
        return Decision(Route.REFUSE, Reason.LOCAL_FAILED, f"{problem}; the policy asks nobody else")
    there = cloud_problem(policy, facts)
    if there:
        return Decision(Route.REFUSE, Reason.LOCAL_FAILED, f"{problem}; the cloud: {there[1]}")
    return Decision(Route.CLOUD, Reason.LOCAL_FAILED, problem)


def local_problem(facts: Facts) -> Problem | None:
    """Say why the device cannot answer; None: it can."""
    local = facts.local
    if local is None:
        return Reason.NO_ENGINE, "the device has no bundle of this model"
    if local.why_not:
        return Reason.NO_ENGINE, local.why_not
    if not local.fits:
        detail = f"needs {local.peak_bytes} bytes at its peak, the budget is {local.budget_bytes}"
        return Reason.DOES_NOT_FIT, detail
    return None


def cloud_problem(policy: Policy, facts: Facts) -> Problem | None:
    """Say why the cloud may not or cannot be asked now; None: it can. Privacy comes before everything."""
    problem = _sending_problem(policy, facts)
    if problem:
        return problem
    cloud = facts.cloud
    return _NO_CLOUD if cloud is None else _reaching_problem(facts, cloud)


def _sending_problem(policy: Policy, facts: Facts) -> Problem | None:
    """Say why a request may not be sent at any time: what an outbox has to heed as well."""
    kept = forbidden(policy.never_leave, facts.data, facts.redacted)
    if kept:
        return Reason.PRIVACY, f"{', '.join(sorted(kept))} may never leave"
    cloud = facts.cloud
    if cloud is None:
        return _NO_CLOUD
    if cloud.tokens_left is not None and not cloud.tokens_left >= facts.request_tokens:
        return Reason.BUDGET, f"{facts.request_tokens} tokens, the budget has {cloud.tokens_left:.0f} left"
    if cloud.bytes_left is not None and not cloud.bytes_left >= facts.request_bytes:
        return Reason.BUDGET, f"{facts.request_bytes} bytes, the budget has {cloud.bytes_left:.0f} left"
    return None


def _reaching_problem(facts: Facts, cloud: CloudFacts) -> Problem | None:
    """Say why a request that may be sent would not be answered now."""
    if not cloud.reachable:
        return Reason.OFFLINE, "the cloud is not reachable"
    if cloud.breaker is BreakerState.OPEN or cloud.breaker is BreakerState.PROBING:
        return Reason.BREAKER_OPEN, f"the cloud failed or was slow too often; its breaker is {cloud.breaker}"
    left_s = facts.deadline_left_s
    if not left_s > 0:
        return Reason.DEADLINE, "no time is left"
    if cloud.p50_ms is not None and cloud.p50_ms > left_s * 1000:
        return Reason.DEADLINE, f"the cloud needs {cloud.p50_ms:.0f} ms, {left_s * 1000:.0f} ms are left"
    return None


def _escalation_problem(policy: Policy, facts: Facts, *, later: bool) -> Problem | None:
    problem = _sending_problem(policy, facts)
    if problem:
        return problem
    if facts.since_escalation_s < policy.min_interval_s:
        since, least = facts.since_escalation_s, policy.min_interval_s
        return Reason.BUDGET, f"the last escalation was {since:.3g} s ago, {least:g} s have to lie between"
    cloud = facts.cloud
    return None if later or cloud is None else _reaching_problem(facts, cloud)


def _keep_or_audit(policy: Policy, facts: Facts, kept: Decision) -> Verdict:
    if (
        facts.dice < policy.audit_rate
        and kept.reason is not Reason.CLOUD_FAILED
        and not _sending_problem(policy, facts)
    ):
        return Verdict(Action.AUDIT, Decision(Route.LOCAL, Reason.AUDIT, kept.detail))
    return Verdict(Action.KEEP, kept)


def _choose_local_first(policy: Policy, facts: Facts) -> Decision:
    here = local_problem(facts)
    if here is None:
        late = _too_late_here(facts)
        if late and cloud_problem(policy, facts) is None:
            return Decision(Route.CLOUD, Reason.DEADLINE, late)
        return _LOCAL_FITS
    there = cloud_problem(policy, facts)
    return Decision(Route.CLOUD, *here) if there is None else _refusal(here, there)


def _choose_fastest(policy: Policy, facts: Facts) -> Decision:
    here, there = local_problem(facts), cloud_problem(policy, facts)
    if here:
        return Decision(Route.CLOUD, *here) if there is None else _refusal(here, there)
    if there:
        return Decision(Route.LOCAL, *there)
    local_ms = facts.local.predicted_ms if facts.local else None
    cloud_ms = facts.cloud.p50_ms if facts.cloud else None
    if local_ms is None:
        return Decision(Route.LOCAL, Reason.FITS, "the device's speed is not known yet; this measures it")
    if cloud_ms is None:
        if facts.dice >= 1 - MEASURING_SHARE:
            return Decision(Route.CLOUD, Reason.POLICY, "the cloud's speed is not known; this measures it")
        return Decision(Route.LOCAL, Reason.FITS, "the cloud's speed is not known")
    route = Route.LOCAL if local_ms <= cloud_ms else Route.CLOUD
    return Decision(route, Reason.FASTEST, f"here in {local_ms:.1f} ms, from the cloud in {cloud_ms:.1f} ms")


def _too_late_here(facts: Facts) -> str:
    local_ms = facts.local.predicted_ms if facts.local else None
    if local_ms is None or local_ms <= facts.deadline_left_s * 1000:
        return ""
    return f"the device needs {local_ms:.0f} ms, {facts.deadline_left_s * 1000:.0f} ms are left"


def _refusal(here: Problem, there: Problem) -> Decision:
    """Refuse, for privacy's sake where that is what stands in the way, else for what is wrong here."""
    reason = Reason.PRIVACY if there[0] is Reason.PRIVACY else here[0]
    return Decision(Route.REFUSE, reason, f"here: {here[1]}; the cloud: {there[1]}")


_NO_CLOUD: Problem = (Reason.POLICY, "no cloud is configured")
_LOCAL_BY_POLICY = Decision(Route.LOCAL, Reason.POLICY)
_CLOUD_BY_POLICY = Decision(Route.CLOUD, Reason.POLICY)
_LOCAL_FITS = Decision(Route.LOCAL, Reason.FITS)
