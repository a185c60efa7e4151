"""The decision table of every policy, what a hard example is, and what comes after a failure."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.result import Detections, Embedding, Entities, Entity, TextClassification
from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.routing.facts import AnswerFacts, CloudFacts, Facts, LocalFacts
from edge_runtime.routing.hardness import Rule, is_hard, measure, rules_of, sureness
from edge_runtime.routing.policy import Action, Mode, Policy, Return, choose, fall_back, judge
from edge_runtime.routing.privacy import forbidden
from edge_runtime.routing.table import (
    SITUATIONS,
    choose_table,
    chosen,
    judge_table,
    judged,
    retry_table,
)

BY_NAME = {each.name: each for each in SITUATIONS}
HERE = Decision(Route.LOCAL, Reason.FITS)
GOOD = BY_NAME["all is well"].facts

# One row a situation: local_only, cloud_only, local_first, cascade, fastest; L, C, R for the route.
TABLE = """
all is well                     | L policy       | C policy       | L fits         | L fits         | L fastest
the cloud is the faster one     | L policy       | C policy       | L fits         | L fits         | C fastest
no bundle or no engine          | R no-engine    | C policy       | C no-engine    | C no-engine    | C no-engine
does not fit the memory         | R does-not-fit | C policy       | C does-not-fit | C does-not-fit | C does-not-fit
the device would be too late    | L policy       | C policy       | C deadline     | C deadline     | C fastest
holds data that may never leave | L policy       | R privacy      | L fits         | L fits         | L privacy
… which were removed            | L policy       | C policy       | L fits         | L fits         | L fastest
… and does not fit              | R does-not-fit | R privacy      | R privacy      | R privacy      | R privacy
no cloud is configured          | L policy       | R policy       | L fits         | L fits         | L policy
offline                         | L policy       | R offline      | L fits         | L fits         | L offline
offline, and does not fit       | R does-not-fit | R offline      | R does-not-fit | R does-not-fit | R does-not-fit
breaker open                    | L policy       | R breaker-open | L fits         | L fits         | L breaker-open
its probe is under way          | L policy       | R breaker-open | L fits         | L fits         | L breaker-open
its probe may go                | L policy       | C policy       | L fits         | L fits         | L fastest
budget used up                  | L policy       | R budget       | L fits         | L fits         | L budget
the cloud would be too late     | L policy       | R deadline     | L fits         | L fits         | L deadline
no time left                    | R deadline     | R deadline     | R deadline     | R deadline     | R deadline
last escalation just now        | L policy       | C policy       | L fits         | L fits         | L fastest
"""  # noqa: E501 (a table reads best with one row a line)

# hard and wait_for_cloud, hard and local_now, sure enough, sure enough and drawn for an audit.
VERDICTS = """
all is well                     | escalate low-confidence | escalate-later low-confidence | keep confident | audit audit
the cloud is the faster one     | escalate low-confidence | escalate-later low-confidence | keep confident | audit audit
holds data that may never leave | keep privacy            | keep privacy                  | keep confident | keep confident
… which were removed            | escalate low-confidence | escalate-later low-confidence | keep confident | audit audit
no cloud is configured          | keep policy             | keep policy                   | keep confident | keep confident
offline                         | keep offline            | escalate-later low-confidence | keep confident | audit audit
breaker open                    | keep breaker-open       | escalate-later low-confidence | keep confident | audit audit
its probe is under way          | keep breaker-open       | escalate-later low-confidence | keep confident | audit audit
its probe may go                | escalate low-confidence | escalate-later low-confidence | keep confident | audit audit
budget used up                  | keep budget             | keep budget                   | keep confident | keep confident
the cloud would be too late     | keep deadline           | escalate-later low-confidence | keep confident | audit audit
last escalation just now        | keep budget             | keep budget                   | keep confident | audit audit
"""  # noqa: E501


def rows(table):
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


@pytest.mark.parametrize("row", rows(TABLE), ids=lambda row: row[0])
def test_every_policy_in_every_situation(row):
    name, *cells = row
    for mode, cell in zip(Mode, cells, strict=True):
        decision = chosen(BY_NAME[name], mode)
        assert f"{decision.route[0].upper()} {decision.reason}" == cell, mode


def test_the_table_has_every_situation():
    assert [row[0] for row in rows(TABLE)] == list(BY_NAME)
    assert len(list(choose_table())) == len(SITUATIONS) + 2
    assert len(list(judge_table())) == len(rows(VERDICTS)) + 2
    assert len(list(retry_table())) > 10


@pytest.mark.parametrize("row", rows(VERDICTS), ids=lambda row: row[0])
def test_the_cascade_in_every_situation(row):
    name, *cells = row
    situation = BY_NAME[name]
    verdicts = (
        judged(situation, Return.WAIT_FOR_CLOUD, hard=True, drawn=False),
        judged(situation, Return.LOCAL_NOW, hard=True, drawn=False),
        judged(situation, Return.WAIT_FOR_CLOUD, hard=False, drawn=False),
        judged(situation, Return.WAIT_FOR_CLOUD, hard=False, drawn=True),
    )
    assert [f"{each.action} {each.decision.reason}" for each in verdicts] == cells
    for verdict in verdicts:
        assert verdict.decision.route is (Route.CLOUD if verdict.action is Action.ESCALATE else Route.LOCAL)


def test_details_speak_of_the_facts():
    big = BY_NAME["does not fit the memory"].facts
    assert choose(Policy(Mode.LOCAL_ONLY), big).detail == "needs 300 bytes at its peak, the budget is 200"
    private = replace(GOOD, data=frozenset({DataClass.FACES, DataClass.VIDEO}))
    policy = Policy(Mode.CLOUD_ONLY, never_leave=frozenset(DataClass))
    assert choose(policy, private).detail == "faces, video may never leave"
    hard = judge(Policy(Mode.CASCADE), GOOD, AnswerFacts(HERE, 0.42))
    assert hard.decision.detail == "score 0.42 is a hard example at threshold 0.85"


def test_the_fastest_policy_measures_what_it_does_not_know():
    policy = Policy(Mode.FASTEST)
    unknown_here = replace(GOOD, local=LocalFacts(budget_bytes=1))
    assert choose(policy, unknown_here).route is Route.LOCAL
    unknown_there = replace(GOOD, cloud=CloudFacts())
    assert choose(policy, replace(unknown_there, dice=0.5)).reason is Reason.FITS
    assert choose(policy, replace(unknown_there, dice=0.95)).route is Route.CLOUD


@pytest.mark.parametrize("mode", [Mode.LOCAL_FIRST, Mode.FASTEST])
def test_other_policies_are_audited_too_and_keep_their_reason(mode):
    answer = AnswerFacts(Decision(Route.LOCAL, Reason.OFFLINE, "x"), 0.1)
    kept = judge(Policy(mode, audit_rate=0.2), replace(GOOD, dice=0.2), answer)
    assert (kept.action, kept.decision) == (Action.KEEP, answer.chosen)
    assert judge(Policy(mode, audit_rate=0.2), replace(GOOD, dice=0.19), answer).action is Action.AUDIT


def test_a_local_answer_after_a_failed_cloud_is_not_sent_there_again():
    failed = AnswerFacts(Decision(Route.LOCAL, Reason.CLOUD_FAILED, "reset"), 0.1)
    verdict = judge(Policy(Mode.CASCADE, audit_rate=1), replace(GOOD, dice=0), failed)
    assert (verdict.action, verdict.decision) == (Action.KEEP, failed.chosen)


def test_a_failure_leads_to_the_other_side_once_or_to_a_refusal():
    said = [
        fall_back(Policy(mode), facts, failed, "broke", answered=answered)
        for mode, facts, failed, answered in (
            (Mode.CASCADE, GOOD, Route.CLOUD, True),
            (Mode.FASTEST, GOOD, Route.CLOUD, False),
            (Mode.FASTEST, BY_NAME["does not fit the memory"].facts, Route.CLOUD, False),
            (Mode.CLOUD_ONLY, GOOD, Route.CLOUD, False),
            (Mode.LOCAL_FIRST, GOOD, Route.LOCAL, False),
            (Mode.LOCAL_FIRST, BY_NAME["offline"].facts, Route.LOCAL, False),
            (Mode.LOCAL_ONLY, GOOD, Route.LOCAL, False),
        )
    ]
    assert [(each.route, each.reason) for each in said] == [
        (Route.LOCAL, Reason.CLOUD_FAILED),
        (Route.LOCAL, Reason.CLOUD_FAILED),
        (Route.REFUSE, Reason.CLOUD_FAILED),
        (Route.REFUSE, Reason.CLOUD_FAILED),
        (Route.CLOUD, Reason.LOCAL_FAILED),
        (Route.REFUSE, Reason.LOCAL_FAILED),
        (Route.REFUSE, Reason.LOCAL_FAILED),
    ]
    assert all("broke" in each.detail for each in said)


def test_a_failure_does_not_open_the_gate():
    policy = Policy(Mode.LOCAL_FIRST, never_leave=frozenset({DataClass.VIDEO}))
    decision = fall_back(policy, GOOD, Route.LOCAL, "broke")
    assert decision.route is Route.REFUSE
    assert "video may never leave" in decision.detail


def test_only_the_removed_class_may_go():
    faces, video = DataClass.FACES, DataClass.VIDEO
    assert forbidden({faces}, {faces, video}, set()) == {faces}
    assert forbidden({faces}, {faces, video}, {faces}) == set()
    assert forbidden({faces, video}, {faces, video}, {faces}) == {video}
    assert forbidden({faces}, {video}, set()) == set()


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.1},
        {"threshold": math.nan},
        {"audit_rate": -0.1, "mode": Mode.CASCADE},
        {"box_threshold": 2},
        {"min_interval_s": -1},
        {"min_interval_s": math.nan},
        {"hedge_after": 0},
        {"audit_rate": 0.1, "mode": Mode.LOCAL_ONLY},
        {"audit_rate": 0.1, "mode": Mode.CLOUD_ONLY},
    ],
)
def test_wrong_policies_are_refused(wrong):
    with pytest.raises(ConfigError, match="route: "):
        Policy(**wrong)


# --- hard examples ------------------------------------------------------------------------------------------


def texts(*scores, labels=3):
    return TextClassification(
        np.arange(len(scores), dtype=np.int32),
        np.array(scores, np.float32),
        tuple(f"l{i}" for i in range(labels)),
        tokens=3,
        truncated=False,
    )


def boxes(*scores):
    return Detections(
        np.zeros((len(scores), 4), np.float32),
        np.array(scores, np.float32),
        np.zeros(len(scores), np.int32),
        ("a",),
    )


def test_the_measures_of_classes():
    sure = measure(texts(1.0, 0.0, 0.0), 1.0, HERE)
    assert (sure.entropy, sure.margin) == (0.0, 1.0)
    even = measure(texts(1 / 3, 1 / 3, 1 / 3), 1 / 3, HERE)
    assert even.entropy == pytest.approx(1)
    assert even.margin == 0
    # Only the best class is told: the other two share the rest, as in (0.5, 0.25, 0.25).
    best = measure(texts(0.5), 0.5, HERE)
    assert best.margin is None
    assert best.entropy == pytest.approx(1.5 * math.log(2) / math.log(3))
    assert measure(texts(0.9, labels=1), 0.9, HERE).entropy is None


def test_the_measures_of_boxes_and_of_anything_else():
    assert measure(boxes(0.5, 0.25), 0.5, HERE).detection_scores == (0.5, 0.25)
    found = Entities((Entity("person", 0, 3, "Ada", 0.75),), 3, False)
    assert measure(found, 0.75, HERE).detection_scores == (0.75,)
    vector = measure(Embedding(np.zeros(2, np.float32), 3, False), 1.0, HERE)
    assert vector == AnswerFacts(HERE, 1.0)


def sedna_is_hard(scores, threshold_img, threshold_box):
    """The published rule, written down on its own: hard coefficient >= 1 - threshold_img."""
    if not scores:
        return False
    return len([s for s in scores if s <= threshold_box]) / len(scores) >= 1 - threshold_img


@pytest.mark.parametrize("scores", [(), (0.9,), (0.5,), (0.1, 0.9), (0.1, 0.2, 0.9), (0.9, 0.8, 0.7, 0.1)])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_rule_for_detections_is_sednas(scores, threshold):
    answer = AnswerFacts(HERE, 0.9, detection_scores=scores)
    assert is_hard(Rule.DETECTION, threshold, 0.5, answer)[0] is sedna_is_hard(scores, threshold, 0.5)


def test_nothing_vouches_for_an_answer_without_the_measure_or_with_nan():
    plain = AnswerFacts(HERE, math.nan)
    for rule in Rule:
        assert sureness(rule, 0.5, plain) == 0
        assert is_hard(rule, 0.1, 0.5, plain) == (True, 0.0)
    assert sureness(Rule.DETECTION, 0.5, AnswerFacts(HERE, 1, detection_scores=(math.nan, 0.9))) == 0.5


def test_the_rules_that_fit_a_task():
    assert Rule.DETECTION in rules_of("detection")
    assert Rule.MARGIN in rules_of("text-classification")
    assert rules_of("embedding") == (Rule.SCORE,)


def test_a_private_hard_example_stays_whatever_comes_back():
    private = Facts(GOOD.local, GOOD.cloud, frozenset({DataClass.TEXT}))
    for returns in Return:
        policy = Policy(Mode.CASCADE, never_leave=frozenset({DataClass.TEXT}), returns=returns)
        verdict = judge(policy, private, AnswerFacts(HERE, 0.0))
        assert (verdict.action, verdict.decision.reason) == (Action.KEEP, Reason.PRIVACY)
