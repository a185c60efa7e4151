"""What the router would do with a request, and why: a model's policy, asked about facts that are made up.

Opens no model and asks no cloud.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_runtime.contract.errors import ConfigError, EdgeRuntimeError
from edge_runtime.contract.route import DataClass, Decision, Route
from edge_runtime.local_model import this_device
from edge_runtime.routing.breaker import BreakerState
from edge_runtime.routing.facts import AnswerFacts, CloudFacts, Facts, LocalFacts
from edge_runtime.routing.policy import Mode, Policy, Verdict, choose, judge
from edge_runtime.runtime.bundles import bundles_of
from edge_runtime.runtime.models import plan_local
from edge_runtime.runtime.policies import policy_of
from edge_runtime.settings import AgentSettings


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with all that it was made of.

    Args:
        model: As the settings call it.
        policy: Its.
        facts: That were given, and the usual ones.
        decision: Before anything runs.
        verdict: With the device's answer in hand; None: the device was not asked, or no confidence was given.
        row: What each policy says about these facts, by its name: the row of the decision table.
    """

    model: str
    policy: Policy
    facts: Facts
    decision: Decision
    verdict: Verdict | None
    row: Mapping[str, Decision]


def explain(settings: AgentSettings, model: str, given: str) -> Explanation:
    """Explain what would happen.

    Args:
        settings: The store's.
        model: As they call it.
        given: `online=false,confidence=0.4`; `FACTS` has the names. What is not named is as this device has
            it, with a cloud that is well.

    Raises:
        ConfigError: A fact or the model is unknown, or a value is none of the fact's.
    """
    wanted = settings.models.get(model)
    if wanted is None:
        raise ConfigError("--model", expected=f"one of {', '.join(sorted(settings.models))}", got=model)
    policy, _ = policy_of(model, wanted.route, has_cloud=settings.cloud is not None)
    facts = Facts(
        local=_local_facts(settings, model),
        cloud=None if settings.cloud is None else CloudFacts(),
        data=frozenset({DataClass.TEXT}),
        deadline_left_s=wanted.route.timeout_s,
    )
    answer: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in given.split(","))):
        name, _, text = part.partition("=")
        if name not in FACTS:
            raise ConfigError("--facts", expected=f"of {', '.join(FACTS)}", got=name)
        try:
            facts = FACTS[name](facts, text, answer)
        except ValueError as error:
            raise ConfigError(f"--facts {name}", expected=str(error), got=text or "nothing") from error
    decision = choose(policy, facts)
    verdict = None
    if decision.route is Route.LOCAL and answer:
        told = AnswerFacts(
            decision, answer.get("confidence", 1.0), answer.get("entropy"), answer.get("margin")
        )
        verdict = judge(policy, facts, told)
    row = {mode.value: choose(_as(policy, mode), facts) for mode in Mode}
    return Explanation(model, policy, facts, decision, verdict, row)


_Set = Callable[[Facts, str, dict[str, float]], Facts]


def _of_cloud(name: str, read: Callable[[str], Any]) -> _Set:
    def put(facts: Facts, text: str, _: dict[str, float]) -> Facts:
        return replace(facts, cloud=replace(facts.cloud or CloudFacts(), **{name: read(text)}))

    return put


def _of_local(name: str, read: Callable[[str], Any]) -> _Set:
    def put(facts: Facts, text: str, _: dict[str, float]) -> Facts:
        return replace(facts, local=replace(facts.local or LocalFacts(), **{name: read(text)}))

    return put


def _of_request(name: str, read: Callable[[str], Any]) -> _Set:
    return lambda facts, text, _: replace(facts, **{name: read(text)})


def _of_answer(name: str) -> _Set:
    def put(facts: Facts, text: str, answer: dict[str, float]) -> Facts:
        answer[name] = _share(text)
        return facts

    return put


def _yes(text: str) -> bool:
    if text.lower() not in {"true", "false", "yes", "no"}:
        raise ValueError("true or false")
    return text.lower() in {"true", "yes"}


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ValueError("a number")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise ValueError("a number from 0 to 1")
    return number


def _breaker(text: str) -> BreakerState:
    if text not in set(BreakerState):
        raise ValueError(f"one of {', '.join(BreakerState)}")
    return BreakerState(text)


def _classes(text: str) -> frozenset[DataClass]:
    parts = [part for part in text.split("+") if part]
    if not set(parts) <= set(DataClass):
        raise ValueError(f"of {', '.join(DataClass)}, with + between")
    return frozenset(DataClass(part) for part in parts)


def _cloud_is(facts: Facts, text: str, _: dict[str, float]) -> Facts:
    return replace(facts, cloud=(facts.cloud or CloudFacts()) if _yes(text) else None)


def _bundle_is(facts: Facts, text: str, _: dict[str, float]) -> Facts:
    return replace(facts, local=(facts.local or LocalFacts()) if _yes(text) else None)


def _fits(facts: Facts, text: str, _: dict[str, float]) -> Facts:
    local = facts.local or LocalFacts()
    need = max(1, local.peak_bytes)
    return replace(
        facts, local=replace(local, peak_bytes=need, budget_bytes=need if _yes(text) else need - 1)
    )


FACTS: Mapping[str, _Set] = {
    "bundle": _bundle_is,
    "fits": _fits,
    "peak_bytes": _of_local("peak_bytes", _number),
    "budget_bytes": _of_local("budget_bytes", _number),
    "queue": _of_local("queue", _number),
    "predicted_ms": _of_local("predicted_ms", _number),
    "cloud": _cloud_is,
    "online": _of_cloud("reachable", _yes),
    "breaker": _of_cloud("breaker", _breaker),
    "cloud_p50_ms": _of_cloud("p50_ms", _number),
    "cloud_p95_ms": _of_cloud("p95_ms", _number),
    "tokens_left": _of_cloud("tokens_left", _number),
    "bytes_left": _of_cloud("bytes_left", _number),
    "data": _of_request("data", _classes),
    "redacted": _of_request("redacted", _classes),
    "request_bytes": _of_request("request_bytes", _number),
    "request_tokens": _of_request("request_tokens", _number),
    "deadline_left_s": _of_request("deadline_left_s", _number),
    "since_escalation_s": _of_request("since_escalation_s", _number),
    "dice": _of_request("dice", _share),
    "confidence": _of_answer("confidence"),
    "entropy": _of_answer("entropy"),
    "margin": _of_answer("margin"),
}
"""What can be made up, by name."""


def _local_facts(settings: AgentSettings, model: str) -> LocalFacts | None:
    """Say what this device could do, nothing else being open."""
    wanted = settings.models[model]
    if not wanted.here:
        return None
    profile = this_device(settings.profile)
    budget = settings.memory_budget_mb
    left_bytes = profile.memory_budget_bytes if budget is None else budget * 2**20
    try:
        plan = plan_local(wanted, bundles_of(settings).open(wanted), profile, left_bytes)
    except EdgeRuntimeError as error:
        return LocalFacts(why_not=str(error))
    return LocalFacts(plan.needs_bytes, left_bytes)


def _as(policy: Policy, mode: Mode) -> Policy:
    """See a policy under another mode; an audit rate would contradict some."""
    return replace(policy, mode=mode, audit_rate=0.0)
