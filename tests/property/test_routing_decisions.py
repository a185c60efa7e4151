"""What must hold of every decision, whatever the policy and the facts."""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.routing.breaker import BreakerState
from edge_runtime.routing.facts import AnswerFacts, CloudFacts, Facts, LocalFacts
from edge_runtime.routing.hardness import Rule, is_hard
from edge_runtime.routing.hedge import hedge_after_s
from edge_runtime.routing.policy import Action, Mode, Policy, Return, choose, fall_back, judge

AUDITED = (Mode.LOCAL_FIRST, Mode.CASCADE, Mode.FASTEST)
BLOCKED = (BreakerState.OPEN, BreakerState.PROBING)
share = st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.85, 0.99, 1.0])
millis = st.none() | st.sampled_from([0.0, 1.0, 50.0, 900.0, 6000.0])
amount = st.none() | st.sampled_from([-1.0, 0.0, 99.0, 100.0, 250.0, math.inf])
classes = st.frozensets(st.sampled_from(DataClass))
seconds = st.sampled_from([-1.0, 0.0, 0.04, 0.5, 5.0, math.inf])


@st.composite
def policies(draw):
    mode = draw(st.sampled_from(Mode))
    return Policy(
        mode,
        rule=draw(st.sampled_from(Rule)),
        threshold=draw(share),
        box_threshold=draw(share),
        never_leave=draw(classes),
        hedge_after=draw(st.sampled_from([None, "p95", 0.1, 3.0])),
        audit_rate=draw(share) if mode in AUDITED else 0.0,
        returns=draw(st.sampled_from(Return)),
        min_interval_s=draw(st.sampled_from([0.0, 1.0])),
    )


locals_ = st.none() | st.builds(
    LocalFacts,
    peak_bytes=st.sampled_from([0, 10]),
    budget_bytes=st.sampled_from([0, 9, 10]),
    queue=st.integers(0, 3),
    predicted_ms=millis,
    why_not=st.sampled_from(["", "", "onnxruntime is not installed"]),
)
clouds = st.none() | st.builds(
    CloudFacts,
    reachable=st.booleans(),
    breaker=st.sampled_from(BreakerState),
    p50_ms=millis,
    p95_ms=millis,
    tokens_left=amount,
    bytes_left=amount,
)
facts_ = st.builds(
    Facts,
    local=locals_,
    cloud=clouds,
    data=classes,
    redacted=classes,
    request_bytes=st.sampled_from([0, 100, 200]),
    request_tokens=st.sampled_from([0, 100]),
    deadline_left_s=seconds,
    since_escalation_s=st.sampled_from([0.0, 0.5, 1.0, math.inf]),
    dice=st.floats(0, 1, exclude_max=True),
)
score = st.sampled_from([0.0, 0.3, 0.5, 0.86, 1.0, math.nan])
answers = st.builds(
    AnswerFacts,
    chosen=st.builds(Decision, st.just(Route.LOCAL), st.sampled_from([Reason.FITS, Reason.CLOUD_FAILED])),
    confidence=score,
    entropy=st.none() | score,
    margin=st.none() | score,
    detection_scores=st.none() | st.lists(score, max_size=4).map(tuple),
)


def is_forbidden(policy, facts):
    return any(each in policy.never_leave and each not in facts.redacted for each in facts.data)


def over_budget(facts):
    cloud = facts.cloud
    return cloud is not None and (
        (cloud.tokens_left is not None and cloud.tokens_left < facts.request_tokens)
        or (cloud.bytes_left is not None and cloud.bytes_left < facts.request_bytes)
    )


def fits(facts):
    return facts.local is not None and facts.local.fits


def too_late(facts, ms):
    return facts.deadline_left_s <= 0 or (ms is not None and ms / 1000 > facts.deadline_left_s)


def is_true(decision, policy, facts):
    """Whether a reason is true of the facts, by what the reason's own words say."""
    local, cloud, route = facts.local, facts.cloud, decision.route
    match decision.reason:
        case Reason.POLICY:
            return cloud is None or policy.mode in {Mode.LOCAL_ONLY, Mode.CLOUD_ONLY, Mode.FASTEST}
        case Reason.FITS:
            return fits(facts) and route is Route.LOCAL
        case Reason.DOES_NOT_FIT:
            return local is not None and local.peak_bytes > local.budget_bytes
        case Reason.NO_ENGINE:
            return local is None or local.why_not != ""
        case Reason.FASTEST:
            first = local.predicted_ms <= cloud.p50_ms
            return policy.mode is Mode.FASTEST and first is (route is Route.LOCAL)
        case Reason.OFFLINE:
            return not cloud.reachable
        case Reason.BREAKER_OPEN:
            return cloud.breaker in BLOCKED
        case Reason.BUDGET:
            return over_budget(facts) or facts.since_escalation_s < policy.min_interval_s
        case Reason.PRIVACY:
            return is_forbidden(policy, facts)
        case Reason.DEADLINE:
            slow_here = local is not None and too_late(facts, local.predicted_ms)
            return too_late(facts, cloud.p50_ms if cloud else None) or slow_here
        case Reason.AUDIT:
            return facts.dice < policy.audit_rate and route is Route.LOCAL
        case _:
            return False


def may_send(policy, facts):
    return facts.cloud is not None and not is_forbidden(policy, facts) and not over_budget(facts)


def may_ask_now(policy, facts):
    return may_send(policy, facts) and facts.cloud.reachable and facts.cloud.breaker not in BLOCKED


@settings(max_examples=500)
@given(policies(), facts_)
def test_a_choice_is_allowed_and_its_reason_true(policy, facts):
    decision = choose(policy, facts)
    assert is_true(decision, policy, facts)
    if decision.route is Route.CLOUD:
        assert policy.mode is not Mode.LOCAL_ONLY
        assert may_ask_now(policy, facts)
    if decision.route is Route.LOCAL:
        assert policy.mode is not Mode.CLOUD_ONLY
        assert fits(facts)
    if decision.route is Route.REFUSE and facts.deadline_left_s > 0:
        assert not fits(facts) or policy.mode is Mode.CLOUD_ONLY
        assert decision.detail


@settings(max_examples=500)
@given(policies().filter(lambda policy: policy.mode is not Mode.CLOUD_ONLY), facts_, answers)
def test_a_verdict_is_allowed_and_its_reason_true(policy, facts, answer):
    verdict = judge(policy, facts, answer)
    decision = verdict.decision
    hard, _ = is_hard(policy.rule, policy.threshold, policy.box_threshold, answer)
    if decision.reason in {Reason.LOW_CONFIDENCE, Reason.CONFIDENT}:
        assert policy.mode is Mode.CASCADE
        assert hard is (decision.reason is Reason.LOW_CONFIDENCE)
    else:
        assert decision == answer.chosen or is_true(decision, policy, facts)
    if verdict.action is Action.KEEP:
        assert decision.route is Route.LOCAL
    else:
        assert may_send(policy, facts)
    if verdict.action is Action.ESCALATE:
        assert decision.route is Route.CLOUD
        assert may_ask_now(policy, facts)
        assert policy.returns is Return.WAIT_FOR_CLOUD
    if verdict.action in {Action.ESCALATE, Action.ESCALATE_LATER}:
        assert facts.since_escalation_s >= policy.min_interval_s


@settings(max_examples=500)
@given(
    policies(), facts_, answers, st.sampled_from([Route.LOCAL, Route.CLOUD]), st.booleans(),
    st.sampled_from(DataClass),
)  # fmt: skip
def test_forbidden_data_never_leaves(policy, facts, answer, failed, answered, kept):
    """Choose, judge, fall back, hedge: none of them sends what may not leave."""
    policy = replace(policy, never_leave=policy.never_leave | {kept})
    facts = replace(facts, data=facts.data | {kept}, redacted=facts.redacted - {kept})
    assert is_forbidden(policy, facts)
    first = choose(policy, facts)
    then = fall_back(policy, facts, failed, "broke", answered=answered)
    assert Route.CLOUD not in {first.route, then.route}
    assert judge(policy, facts, answer).action is Action.KEEP
    for decision in (first, then, Decision(Route.CLOUD, Reason.POLICY)):
        assert hedge_after_s(policy, facts, decision) is None


@settings(max_examples=300)
@given(policies(), st.lists(facts_, min_size=3, max_size=3), answers, st.booleans(), st.booleans())
def test_every_request_ends_in_an_answer_a_queued_escalation_or_a_refusal(
    policy, moments, answer, local_works, cloud_works
):
    """Walk a request through the three functions while the facts change under it."""
    asked, sent = [], []
    decision, have = choose(policy, moments[0]), False
    if decision.route is Route.LOCAL:
        asked.append(Route.LOCAL)
        if not local_works:
            decision = fall_back(policy, moments[1], Route.LOCAL, "broke")
        else:
            have = True
            verdict = judge(policy, moments[1], AnswerFacts(decision, answer.confidence, answer.entropy))
            decision = verdict.decision
            if verdict.action in {Action.ESCALATE_LATER, Action.AUDIT}:
                sent.append(moments[1])
    if decision.route is Route.CLOUD:
        asked.append(Route.CLOUD)
        sent.append(moments[1] if len(asked) > 1 else moments[0])
        if cloud_works:
            have = True
        else:
            already = Route.LOCAL in asked and local_works
            facts = moments[2]
            decision = (
                Decision(Route.REFUSE, Reason.LOCAL_FAILED, "both broke")
                if asked[0] is Route.LOCAL and not local_works
                else fall_back(policy, facts, Route.CLOUD, "broke", answered=already)
            )
            have = have or (decision.route is Route.LOCAL and local_works)
            if decision.route is Route.LOCAL and not have:
                decision = Decision(Route.REFUSE, Reason.LOCAL_FAILED, "both broke")
    assert have is not (decision.route is Route.REFUSE)
    assert decision.reason
    assert not any(is_forbidden(policy, facts) for facts in sent)
