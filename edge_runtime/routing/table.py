"""The decision table and the retry table, as the code itself answers; for the documentation and for people.

Decides nothing: every cell is asked of `policy`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.routing.breaker import BreakerState
from edge_runtime.routing.facts import AnswerFacts, CloudFacts, Facts, LocalFacts
from edge_runtime.routing.policy import Action, Mode, Policy, Return, Verdict, choose, judge
from edge_runtime.routing.retry import MEANINGS

_KEPT = frozenset({DataClass.FACES})
_LOCAL = LocalFacts(peak_bytes=100, budget_bytes=200, predicted_ms=20.0)
_BIG = replace(_LOCAL, peak_bytes=300)
_CLOUD = CloudFacts(p50_ms=60.0, p95_ms=90.0)
_GOOD = Facts(_LOCAL, _CLOUD, frozenset({DataClass.VIDEO}), deadline_left_s=5.0, request_bytes=1000)
_PRIVATE = _GOOD.data | _KEPT


@dataclass(frozen=True, slots=True)
class Situation:
    """A row of the table.

    Args:
        name: What is the case, for a person.
        facts: That make it so; everything else is well.
    """

    name: str
    facts: Facts


SITUATIONS = (
    Situation("all is well", _GOOD),
    Situation("the cloud is the faster one", replace(_GOOD, local=replace(_LOCAL, predicted_ms=200.0))),
    Situation("no bundle or no engine", replace(_GOOD, local=None)),
    Situation("does not fit the memory", replace(_GOOD, local=_BIG)),
    Situation("the device would be too late", replace(_GOOD, local=replace(_LOCAL, predicted_ms=9000.0))),
    Situation("holds data that may never leave", replace(_GOOD, data=_PRIVATE)),
    Situation("… which were removed", replace(_GOOD, data=_PRIVATE, redacted=_KEPT)),
    Situation("… and does not fit", replace(_GOOD, local=_BIG, data=_PRIVATE)),
    Situation("no cloud is configured", replace(_GOOD, cloud=None)),
    Situation("offline", replace(_GOOD, cloud=replace(_CLOUD, reachable=False))),
    Situation(
        "offline, and does not fit", replace(_GOOD, local=_BIG, cloud=replace(_CLOUD, reachable=False))
    ),
    Situation("breaker open", replace(_GOOD, cloud=replace(_CLOUD, breaker=BreakerState.OPEN))),
    Situation("its probe is under way", replace(_GOOD, cloud=replace(_CLOUD, breaker=BreakerState.PROBING))),
    Situation("its probe may go", replace(_GOOD, cloud=replace(_CLOUD, breaker=BreakerState.HALF_OPEN))),
    Situation("budget used up", replace(_GOOD, cloud=replace(_CLOUD, bytes_left=999.0))),
    Situation("the cloud would be too late", replace(_GOOD, deadline_left_s=0.05)),
    Situation("no time left", replace(_GOOD, deadline_left_s=0.0)),
    Situation("last escalation just now", replace(_GOOD, since_escalation_s=1.0)),
)
"""Every fact that can change a decision, one at a time."""


def chosen(situation: Situation, mode: Mode) -> Decision:
    """Give a cell of the table before anything ran."""
    return choose(Policy(mode, never_leave=_KEPT), situation.facts)


def judged(situation: Situation, returns: Return, *, hard: bool, drawn: bool) -> Verdict:
    """Give a cell of the table for a cascade that has the device's answer.

    Args:
        situation: The row.
        returns: What the caller gets while the cloud is asked.
        hard: Whether the answer is a hard example.
        drawn: Whether the dice draw it for an audit.
    """
    policy = Policy(Mode.CASCADE, never_leave=_KEPT, returns=returns, min_interval_s=10.0, audit_rate=0.01)
    answer = AnswerFacts(Decision(Route.LOCAL, Reason.FITS), 0.4 if hard else 0.95)
    return judge(policy, replace(situation.facts, dice=0.0 if drawn else 0.5), answer)


def choose_table() -> Iterator[str]:
    """Write what `choose` says as a Markdown table, a column a mode."""
    yield "| | " + " | ".join(f"`{mode}`" for mode in Mode) + " |"
    yield "|---" * (len(Mode) + 1) + "|"
    for situation in SITUATIONS:
        cells = (_cell(chosen(situation, mode)) for mode in Mode)
        yield f"| {situation.name} | " + " | ".join(cells) + " |"


def judge_table() -> Iterator[str]:
    """Write what `judge` says under `cascade` as a Markdown table."""
    yield "| | hard, `wait_for_cloud` | hard, `local_now` | sure enough | … and drawn for an audit |"
    yield "|---|---|---|---|---|"
    for situation in SITUATIONS:
        if chosen(situation, Mode.CASCADE).route is not Route.LOCAL:
            continue
        verdicts = (
            judged(situation, Return.WAIT_FOR_CLOUD, hard=True, drawn=False),
            judged(situation, Return.LOCAL_NOW, hard=True, drawn=False),
            judged(situation, Return.WAIT_FOR_CLOUD, hard=False, drawn=False),
            judged(situation, Return.WAIT_FOR_CLOUD, hard=False, drawn=True),
        )
        yield f"| {situation.name} | " + " | ".join(map(_verdict_cell, verdicts)) + " |"


def retry_table() -> Iterator[str]:
    """Write what each failure means as a Markdown table."""
    yield "| failure | sent again | counts for the breaker of | means offline | why |"
    yield "|---|---|---|---|---|"
    for failure, meaning in MEANINGS.items():
        offline = "yes" if meaning.offline else "no"
        yield f"| `{failure}` | {meaning.again} | {meaning.opens} | {offline} | {meaning.why} |"


def _cell(decision: Decision) -> str:
    return f"{decision.route}: {decision.reason}"


def _verdict_cell(verdict: Verdict) -> str:
    name = "keep" if verdict.action is Action.KEEP else f"**{verdict.action}**"
    return f"{name}: {verdict.decision.reason}"
