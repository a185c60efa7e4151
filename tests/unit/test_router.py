"""The router does what the policies decide, with real parts on both sides but the network and the engine."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.contract.errors import (
    DeadlineError,
    EdgeRuntimeError,
    EngineError,
    InputError,
    RefusedError,
    RemoteError,
    TooLargeError,
    UnknownModelError,
)
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.route import DataClass, Reason, Route
from edge_runtime.routing.audit_log import AuditLog
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.outgoing import Outgoing
from edge_runtime.routing.parcel import Kind
from edge_runtime.routing.policy import Mode, Policy, Return
from edge_runtime.routing.routed import Redaction
from tests.simulators.far_side import Asked, Model, World, classified

Make = Callable[..., World]
CASCADE = Policy(Mode.CASCADE, threshold=0.85)
AWAY = RemoteError("the cloud", retryable=True)
BROKEN = EngineError("the engine")
PICTURE = Picture.from_bgr(np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Make]:
    box = Outbox(tmp_path / "outbox.sqlite", max_bytes=10**6, max_age_s=10**6)
    yield lambda **more: World(box, **more)
    box.close()


# policy, what is turned, route and reason of the answer, whether the cloud was asked
CASES: dict[str, tuple[Policy, dict[str, Any], Route, Reason, bool]] = {
    "local only": (Policy(), {}, Route.LOCAL, Reason.POLICY, False),
    "local first, fits": (Policy(Mode.LOCAL_FIRST), {}, Route.LOCAL, Reason.FITS, False),
    "local first, does not fit": (
        *(Policy(Mode.LOCAL_FIRST), {"fits": False}, Route.CLOUD, Reason.DOES_NOT_FIT, True),
    ),
    "local first, fails": (
        *(Policy(Mode.LOCAL_FIRST), {"model": Model(error=BROKEN)}, Route.CLOUD, Reason.LOCAL_FAILED, True),
    ),
    "cloud only": (Policy(Mode.CLOUD_ONLY), {}, Route.CLOUD, Reason.POLICY, True),
    "a sure cascade": (CASCADE, {}, Route.LOCAL, Reason.CONFIDENT, False),
    "an unsure cascade": (CASCADE, {"model": Model(0.6)}, Route.CLOUD, Reason.LOW_CONFIDENCE, True),
    "an unsure cascade, and the cloud fails": (
        *(CASCADE, {"model": Model(0.6), "client": Asked(AWAY)}, Route.LOCAL, Reason.CLOUD_FAILED, True),
    ),
    "an unsure cascade of what may not leave": (
        replace(CASCADE, never_leave=frozenset({DataClass.TEXT})),
        *({"model": Model(0.6)}, Route.LOCAL, Reason.PRIVACY, False),
    ),
}


@pytest.mark.parametrize(("timeout_s", "kept_s"), [(10.0, 1.0), (1.0, 0.1), (0.2, 0.05), (0.04, 0.02)])
def test_an_answer_in_hand_keeps_its_way_back(world: Make, timeout_s: float, kept_s: float) -> None:
    one = world(policy=CASCADE, model=Model(0.6))
    one.ask(timeout_s=timeout_s)
    assert one.client.deadlines_s == [pytest.approx(one.clock_s + timeout_s - kept_s)]


def test_what_is_too_long_here_and_unknown_there_is_too_long(world: Make) -> None:
    long, unknown = TooLargeError("text", expected="8 tokens"), UnknownModelError("model 'large'")
    one = world(policy=Policy(Mode.LOCAL_FIRST), model=Model(error=long), client=Asked(unknown))
    with pytest.raises(TooLargeError, match="8 tokens"):
        one.ask()
    with pytest.raises(TooLargeError, match="8 tokens"):
        list(one.router.generate(Request("id", "m", Prompt("a text"))))


class Long(Model):
    """Takes three runs for a text, a second each."""

    runs = 0
    world: World

    def predict_while(self, value: Any, between: Callable[[], None]) -> Any:
        for self.runs in (1, 2, 3):
            self.world.clock_s += 1.0
            between()
        return classified(0.9)


@pytest.mark.parametrize(("timeout_s", "runs"), [(10.0, 3), (1.5, 2)])
def test_nothing_goes_on_for_a_text_whose_time_is_over(world: Make, timeout_s: float, runs: int) -> None:
    model = Long()
    model.world = world(policy=Policy(), model=model)
    if runs == 3:
        assert model.world.ask(timeout_s=timeout_s).decision.route is Route.LOCAL
    else:
        with pytest.raises(DeadlineError):
            model.world.ask(timeout_s=timeout_s)
    assert model.runs == runs


@pytest.mark.parametrize("case", CASES)
def test_who_answers_and_why(world: Make, case: str) -> None:
    policy, turned, route, reason, asked = CASES[case]
    one = world(policy=policy, **turned)
    answer = one.ask()
    assert (answer.decision.route, answer.decision.reason) == (route, reason)
    assert bool(one.client.left) is asked
    model, version, variant = ("large", "2", "v") if route is Route.CLOUD else ("small", "1", "int8")
    assert (answer.model, answer.version, answer.variant) == (model, version, variant)
    assert one.router.routes() == {("m", route, reason): 1}


REFUSALS: dict[str, tuple[Policy, dict[str, Any], type[EdgeRuntimeError]]] = {
    "local only, broken": (Policy(), {"model": Model(error=BROKEN)}, EngineError),
    "local only, does not fit": (Policy(), {"fits": False}, EngineError),
    "cloud only, which is away": (Policy(Mode.CLOUD_ONLY), {"client": Asked(AWAY)}, RemoteError),
    "cloud only, and may not leave": (
        Policy(Mode.CLOUD_ONLY, never_leave=frozenset({DataClass.TEXT})),
        {},
        RefusedError,
    ),
    "does not fit, and may not leave": (
        Policy(Mode.LOCAL_FIRST, never_leave=frozenset({DataClass.TEXT})),
        {"fits": False},
        RefusedError,
    ),
    "no cloud": (Policy(Mode.CLOUD_ONLY), {"has_cloud": False}, RefusedError),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_where_nobody_answers(world: Make, case: str) -> None:
    policy, turned, error = REFUSALS[case]
    with pytest.raises(error):
        world(policy=policy, **turned).ask()


def test_offline_is_refused_without_asking(world: Make) -> None:
    one = world(policy=Policy(Mode.CLOUD_ONLY))
    one.off()
    with pytest.raises(RemoteError, match="offline"):
        one.ask()
    assert one.client.left == []
    assert one.router.routes() == {("m", Route.REFUSE, Reason.OFFLINE): 1}


def test_no_time_is_no_answer(world: Make) -> None:
    with pytest.raises(DeadlineError):
        world().ask(timeout_s=0.0)


def test_an_unknown_model_is_told_the_known_ones(world: Make) -> None:
    with pytest.raises(UnknownModelError, match="expected one of m"):
        world().router.predict(Request("1", "n", "x"))


def test_another_version_is_the_clouds(world: Make) -> None:
    answer = world(policy=Policy(Mode.LOCAL_FIRST)).ask(version="2")
    assert (answer.decision.route, answer.decision.reason) == (Route.CLOUD, Reason.NO_ENGINE)


def test_a_version_that_the_cloud_does_not_have_is_no_answer(world: Make) -> None:
    with pytest.raises(RemoteError, match="expected version 3, got version 2"):
        world(policy=Policy(Mode.CLOUD_ONLY)).ask(version="3")


def test_a_wrong_input_is_nobodys_else_business(world: Make) -> None:
    one = world(policy=Policy(Mode.LOCAL_FIRST))
    with pytest.raises(InputError, match="expected a text, got a picture"):
        one.ask(PICTURE)
    assert one.client.left == []


def test_tensors_go_past_the_task(world: Make) -> None:
    answer = world().router.predict(Request("1", "m", {"x": np.ones(2, np.float32)}), ["z"])
    assert {name: array.tolist() for name, array in answer.value.tensors.items()} == {"z": [3, 3]}
    with pytest.raises(InputError, match="expected y, z, got q"):
        world().router.predict(Request("1", "m", {"x": np.ones(2, np.float32)}), ["q"])


def test_local_now_owes_the_question_before_it_answers(world: Make) -> None:
    one = world(policy=replace(CASCADE, returns=Return.LOCAL_NOW), model=Model(0.6))
    one.off()
    answer = one.ask(id="id-7")
    assert (answer.decision.route, answer.decision.reason) == (Route.LOCAL, Reason.LOW_CONFIDENCE)
    (owed,) = one.outbox.heads()
    assert (owed.parcel.key, owed.parcel.kind, owed.parcel.stream) == ("id-7", Kind.ESCALATION, "m")
    assert json.loads(owed.parcel.body) == {"text": "a text"}


def test_a_full_outbox_is_said_with_the_answer(world: Make) -> None:
    one = world(policy=replace(CASCADE, returns=Return.LOCAL_NOW), model=Model(0.6))
    answer = one.ask("x" * 2 * 10**6)
    assert answer.decision.route is Route.LOCAL
    assert "no room" in answer.decision.detail


def test_an_audit_is_owed_with_the_devices_answer(world: Make) -> None:
    one = world(policy=replace(CASCADE, audit_rate=0.1), dice=0.05)
    assert one.ask().decision.reason is Reason.AUDIT
    (owed,) = one.outbox.heads()
    assert owed.parcel.kind is Kind.AUDIT
    assert json.loads(owed.parcel.note)["local"]["classes"][0]["label"] == "positive"


def test_escalations_keep_their_distance(world: Make) -> None:
    one = world(policy=replace(CASCADE, min_interval_s=10), model=Model(0.6))
    reasons: list[Reason] = []
    for at_s in (0, 5, 11):
        one.clock_s = 1000.0 + at_s
        reasons.append(one.ask().decision.reason)
    assert reasons == [Reason.LOW_CONFIDENCE, Reason.BUDGET, Reason.LOW_CONFIDENCE]


def test_the_device_keeps_time_to_answer_after_all(world: Make) -> None:
    one = world(policy=Policy(Mode.FASTEST), client=Asked(AWAY))
    local = one.router.model("m").local
    assert local is not None
    local._speed.add("int8", 400.0, one.clock_s)
    leave = one.gauge.acquire("large", 0, 0)
    assert leave is not None
    one.gauge.done(leave, __import__("time").monotonic(), None)
    answer = one.ask(timeout_s=2.0)
    assert (answer.decision.route, answer.decision.reason) == (Route.LOCAL, Reason.CLOUD_FAILED)
    assert one.client.deadlines_s == [pytest.approx(1000 + 2.0 - 0.6)]


def test_a_hedge_waits_as_long_as_the_policy_says(world: Make) -> None:
    one = world(policy=Policy(Mode.CLOUD_ONLY, hedge_after=0.3))
    one.ask()
    assert one.client.hedges == [0.3]


def pieces(one: World) -> tuple[str, Any]:
    *parts, last = one.router.generate(Request("1", "m", Prompt("x")))
    return "".join(part.text for part in parts), last.end


def test_a_text_is_generated_here_or_there(world: Make) -> None:
    text, end = pieces(world(kind="generation"))
    assert (text, end.decision.route, end.model) == ("here!", Route.LOCAL, "small")
    text, end = pieces(world(kind="generation", policy=Policy(Mode.CLOUD_ONLY)))
    assert (text, end.decision.route, end.model) == ("there", Route.CLOUD, "large")


def test_a_text_that_did_not_begin_is_asked_of_the_other_side(world: Make) -> None:
    broken = Model(error=BROKEN)
    text, end = pieces(world(kind="generation", policy=Policy(Mode.LOCAL_FIRST), model=broken))
    assert (text, end.decision.reason) == ("there", Reason.LOCAL_FAILED)
    one = world(kind="generation", policy=Policy(Mode.LOCAL_FIRST), model=broken, client=Asked(AWAY))
    with pytest.raises(RemoteError):
        pieces(one)
    assert len(one.client.left) == 1


def test_redaction_runs_only_when_something_leaves_and_is_told(world: Make) -> None:
    seen: list[Any] = []

    def blur(request: Request) -> Request:
        seen.append(request)
        return replace(request, value=PICTURE)

    never = frozenset({DataClass.FACES})
    kind, redaction = "classification", Redaction(blur, never)
    one = world(policy=replace(CASCADE, never_leave=never), kind=kind, redaction=redaction)
    one.ask(PICTURE)
    assert seen == []
    one.model.score = 0.5
    assert one.ask(PICTURE).decision.route is Route.CLOUD
    (left,) = one.client.left
    assert (left.data, left.redacted) == (frozenset({DataClass.VIDEO}), never)


def test_a_redaction_that_fails_lets_nothing_leave(world: Make) -> None:
    def broken(request: Request) -> Request:
        raise ValueError("no faces found")

    redaction = Redaction(broken, frozenset({DataClass.TEXT}))
    one = world(policy=CASCADE, model=Model(0.5), redaction=redaction)
    assert one.ask().decision.reason is Reason.CLOUD_FAILED
    assert one.client.left == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(
    mode=st.sampled_from(Mode),
    returns=st.sampled_from(Return),
    never=st.frozensets(st.sampled_from(DataClass)),
    said=st.frozensets(st.sampled_from(DataClass)),
    value=st.sampled_from(["a text", PICTURE, Prompt("p"), {"x": np.ones(1, np.float32)}]),
    kind=st.sampled_from(["text-classification", "classification", "generation", "tensors"]),
    score=st.floats(0, 1),
    dice=st.floats(0, 0.99),
    fits=st.booleans(),
    fails=st.booleans(),
    removes=st.frozensets(st.sampled_from(DataClass), max_size=1),
)
def test_nothing_that_may_not_leave_leaves(
    world: Make,
    mode: Mode,
    returns: Return,
    never: frozenset[DataClass],
    said: frozenset[DataClass],
    value: Any,
    kind: str,
    score: float,
    dice: float,
    fits: bool,
    fails: bool,
    removes: frozenset[DataClass],
) -> None:
    audits = 0.0 if mode in {Mode.LOCAL_ONLY, Mode.CLOUD_ONLY} else 0.5
    one = world(
        policy=Policy(mode, returns=returns, never_leave=never, audit_rate=audits),
        model=Model(score, BROKEN if fails else None),
        kind=kind,
        fits=fits,
        dice=dice,
        redaction=Redaction(lambda request: request, removes) if removes else None,
    )
    with suppress(EdgeRuntimeError):
        one.ask(value, data=said)
    for left in one.client.left:
        assert not left.data & never
        assert left.data | left.redacted >= said
    for owed in one.outbox.heads():
        told = owed.parcel.headers.get("x-edge-data", "").split(",")
        assert not never & set(told)
        assert said - removes <= set(told)
        one.outbox.settle(owed, "t", b"", 0)


def outgoing(number: int) -> Outgoing:
    return Outgoing(f"id-{number}", "m", "/p", "t", b"body", {}, frozenset({DataClass.TEXT}), reason="policy")


def test_the_audit_log_says_what_left(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "audit.jsonl"
    log = AuditLog(path)
    log.leaving(outgoing(1), "request", "https://c")
    log.close()
    path.write_bytes(path.read_bytes() + b'{"torn": ')
    log.leaving(outgoing(2), "hedge", "https://c")
    first, torn, second = path.read_text().splitlines()
    said = json.loads(first)
    assert (said["id"], said["data"], said["bytes"], said["to"]) == ("id-1", ["text"], 4, "https://c/p")
    assert said["sha256"] == "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"
    assert "body" not in first
    assert (torn, json.loads(second)["how"]) == ('{"torn": ', "hedge")
    log.close()


def test_the_audit_log_turns_over(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=100)
    for number in range(9):
        log.leaving(outgoing(number), "request", "https://c")
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"audit.{number}.jsonl" for number in (1, 2, 3, 4)]
    assert json.loads((tmp_path / "audit.1.jsonl").read_text())["id"] == "id-8"


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(EdgeRuntimeError, match="so nothing does"):
        AuditLog(tmp_path / "audit.jsonl").leaving(outgoing(1), "request", "https://c")
