"""The outbox's sender: what each answer of the cloud makes of a parcel."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.contract.errors import DeadlineError, OverloadedError, StorageError
from edge_runtime.contract.route import DataClass
from edge_runtime.routing.call import CallError, Reply
from edge_runtime.routing.cloud_client import Outcome
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.outgoing import Outgoing
from edge_runtime.routing.parcel import Kind, Late, Owed, Parcel
from edge_runtime.routing.privacy import Gate
from edge_runtime.routing.retry import Failure
from edge_runtime.routing.sender import Sender
from edge_runtime.routing.sending import SendingOptions
from tests.simulators.cloud import until

FAST = SendingOptions(first_s=0.01, longest_s=0.02, most_attempts=3)
GATE = Gate({"s": {DataClass.TEXT}, "f": {DataClass.FACES}}, {"l"})
GOOD = Outcome(Reply(200, {"content-type": "application/json"}, b"{}"), None, None)
AWAY = Outcome(None, Failure.UNREACHABLE, CallError(Failure.UNREACHABLE, "away", got="refused"))


def refused(status: int, failure: Failure) -> Outcome:
    return Outcome(Reply(status, {}, b'{"error": "no"}'), failure, None)


class Script:
    """A cloud's client that answers by a script, and then well."""

    def __init__(self, *outcomes: Outcome | OverloadedError) -> None:
        self._outcomes = list(outcomes)
        self.sent: list[str] = []
        self.withheld: list[tuple[str, str]] = []
        self.no_log = 0

    def withhold(self, outgoing: Outgoing, why: str) -> None:
        if self.no_log:
            self.no_log -= 1
            raise StorageError("the audit log is full")
        self.withheld.append((outgoing.id, why))

    def send(self, outgoing: Outgoing, timeout_s: float) -> Outcome:
        self.sent.append(outgoing.id)
        outcome = self._outcomes.pop(0) if self._outcomes else GOOD
        if isinstance(outcome, OverloadedError):
            raise outcome
        return outcome


class FullDisk(Outbox):
    """Cannot settle until there is room."""

    room = False
    tries = 0

    def settle(self, owed: Owed, content_type: str, body: bytes, now_s: float) -> None:
        self.tries += 1
        if not self.room:
            raise StorageError("full")
        super().settle(owed, content_type, body, now_s)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    one = Outbox(tmp_path / "outbox.sqlite", max_bytes=10**6, max_age_s=10**6)
    yield one
    one.close()


def put(box: Outbox, *keys: str, kind: Kind = Kind.ESCALATION, holds: str = "", path: str = "/p") -> None:
    for key in keys:
        said = {"x-edge-data": holds} if holds else {}
        parcel = Parcel(key, key[0], kind, path, "application/json", b"{}", said)
        assert box.put(parcel, time.time())


@pytest.fixture
def sender(box: Outbox) -> Iterator[Callable[..., Sender]]:
    made: list[Sender] = []

    def make(
        script: Script, late: list[str] | None = None, online: Callable[[], bool] = lambda: True
    ) -> Sender:
        heard: list[str] = [] if late is None else late

        def on_late(one: Late) -> None:
            heard.append(one.key)
            if one.key == "bad callback":
                raise ValueError("the application's own fault")

        made.append(
            Sender(
                *(box, script),
                online=online,
                on_late=on_late,
                gate=GATE,
                on_withheld=script.withhold,
                options=FAST,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    "outcome",
    [
        AWAY,
        Outcome(None, Failure.TIMEOUT, DeadlineError("late")),
        refused(503, Failure.OVERLOADED),
        refused(500, Failure.SERVER),
        refused(401, Failure.UNAUTHORIZED),
        refused(429, Failure.QUOTA),
        OverloadedError("the breaker is open", retry_after_s=0.01),
    ],
    ids=["away", "late", "503", "500", "401", "429", "breaker"],
)
def test_what_may_pass_is_sent_again_in_order(
    box: Outbox, sender: Callable[..., Sender], outcome: Outcome | OverloadedError
) -> None:
    put(box, "a1", "a2")
    late: list[str] = []
    script = Script(outcome, outcome)
    sender(script, late)
    until(lambda: late == ["a1", "a2"], "both answers")
    assert script.sent == ["a1", "a1", "a1", "a2"]
    assert box.poisoned() == ()


def test_what_is_wrong_for_good_is_put_aside_and_the_next_comes_up(
    box: Outbox, sender: Callable[..., Sender]
) -> None:
    put(box, "a1", "a2")
    late: list[str] = []
    sender(Script(refused(400, Failure.REQUEST)), late)
    until(lambda: late == ["a2"], "the second answer")
    (bad,) = box.poisoned()
    assert (bad.key, bad.error) == ("a1", "no")


def test_a_model_that_is_not_there_yet_is_waited_for(box: Outbox, sender: Callable[..., Sender]) -> None:
    put(box, "a1", "b1", path="/v1/predict/a")
    late: list[str] = []
    script = Script(refused(404, Failure.REQUEST), GOOD, *[refused(404, Failure.REQUEST)] * 5)
    sender(script, late)
    until(lambda: late == ["b1", "a1"], "both answers")
    assert script.sent == ["a1", "b1", *["a1"] * 6]
    assert box.poisoned() == ()


@pytest.mark.parametrize("path", ["/v1/predict/a?version=7", "/v2/models/a/versions/7/infer"])
def test_a_version_that_never_comes_holds_the_others_up_for_a_while_only(
    box: Outbox, sender: Callable[..., Sender], path: str
) -> None:
    put(box, "a1", path=path)
    put(box, "a2", path="/v1/predict/a")
    late: list[str] = []
    script = Script(*[refused(404, Failure.REQUEST)] * 3)
    sender(script, late)
    until(lambda: late == ["a2"], "the second answer")
    assert script.sent == ["a1", "a1", "a1", "a2"]


def test_an_event_for_which_there_is_no_endpoint_is_put_aside(
    box: Outbox, sender: Callable[..., Sender]
) -> None:
    put(box, "a1", kind=Kind.EVENT)
    sender(Script(refused(404, Failure.REQUEST)))
    until(box.poisoned, "the poison")
    assert len(box) == 0


@pytest.mark.parametrize(
    ("key", "kind", "holds"),
    [
        ("s1", Kind.ESCALATION, "text"),
        ("s1", Kind.AUDIT, "text,video"),
        ("l1", Kind.ESCALATION, "tensors"),
        ("gone from the settings", Kind.ESCALATION, "text"),
        ("gone from the settings", Kind.ESCALATION, "faces"),
        ("l1", Kind.EVENT, "faces"),
        ("f1", Kind.EVENT, "text"),
    ],
)
def test_what_may_no_longer_leave_is_put_aside_and_never_sent(
    *,
    box: Outbox,
    sender: Callable[..., Sender],
    caplog: pytest.LogCaptureFixture,
    key: str,
    kind: Kind,
    holds: str,
) -> None:
    put(box, key, kind=kind, holds=holds)
    put(box, "f2", holds="text")
    late: list[str] = []
    script = Script()
    sender(script, late)
    until(lambda: late == ["f2"], "the other's answer")
    assert script.sent == ["f2"]
    (kept,) = box.poisoned()
    assert (kept.key, kept.withheld, box.status().withheld) == (key, True, 1)
    assert script.withheld == [(key, kept.error)]
    assert f"{kind} {key} is not sent" in caplog.text


def test_what_cannot_be_noted_as_withheld_waits_and_is_not_sent(
    box: Outbox, sender: Callable[..., Sender]
) -> None:
    put(box, "s1", holds="text")
    script = Script()
    script.no_log = 1
    one = sender(script)
    until(lambda: "audit log" in one.trouble, "the trouble")
    assert len(box) == 1
    one.ring()
    until(box.poisoned, "the poison")
    assert script.sent == []


def test_a_stream_that_fails_holds_no_other_up(box: Outbox, sender: Callable[..., Sender]) -> None:
    put(box, "a1", "b1")
    script = Script(refused(500, Failure.SERVER), GOOD)
    late: list[str] = []
    sender(script, late)
    until(lambda: len(late) == 2, "both answers")
    assert script.sent == ["a1", "b1", "a1"]


def test_where_the_cloud_is_away_nobody_else_knocks(box: Outbox, sender: Callable[..., Sender]) -> None:
    put(box, "a1", "b1")
    script = Script(AWAY)
    late: list[str] = []
    sender(script, late)
    until(lambda: len(late) == 2, "both answers")
    assert script.sent == ["a1", "a1", "b1"]


def test_a_server_that_always_fails_at_one_gives_way_to_the_next(
    box: Outbox, sender: Callable[..., Sender]
) -> None:
    put(box, "a1", "a2")
    late: list[str] = []
    script = Script(*[refused(500, Failure.SERVER)] * 3)
    sender(script, late)
    until(lambda: late == ["a2"], "the second answer")
    assert script.sent == ["a1", "a1", "a1", "a2"]
    assert [bad.attempts for bad in box.poisoned()] == [3]


def test_offline_nothing_is_tried_until_somebody_rings(box: Outbox, sender: Callable[..., Sender]) -> None:
    put(box, "a1")
    online, late, script = [False], list[str](), Script()
    one = sender(script, late, lambda: online[0])
    one.ring()
    assert script.sent == []
    online[0] = True
    one.ring(back=True)
    until(lambda: late == ["a1"], "the answer")


def test_a_callback_that_fails_is_told_once_and_stops_nothing(
    box: Outbox, sender: Callable[..., Sender], caplog: pytest.LogCaptureFixture
) -> None:
    put(box, "bad callback", "c")
    late: list[str] = []
    sender(Script(), late)
    until(lambda: late == ["bad callback", "c"] and not box.untold(1), "both answers")
    assert "the callback for the late answer to bad callback failed" in caplog.text


def test_an_answer_that_could_not_be_kept_is_told_again(box: Outbox) -> None:
    put(box, "a1")
    room, late = threading.Event(), list[str]()

    def on_late(one: Late) -> None:
        if not room.is_set():
            raise StorageError("the spool is full")
        late.append(one.key)

    script = Script()
    one = Sender(
        *(box, script),
        online=lambda: True,
        on_late=on_late,
        gate=GATE,
        on_withheld=script.withhold,
        options=FAST,
    )
    until(lambda: "the spool is full" in one.trouble, "the trouble")
    room.set()
    one.ring()
    until(lambda: late == ["a1"] and not box.untold(1), "the answer")
    assert script.sent == ["a1"]
    one.close()


def test_an_answer_that_a_full_disk_refused_is_kept_without_asking_again(tmp_path: Path) -> None:
    box = FullDisk(tmp_path / "full.sqlite", max_bytes=10**6, max_age_s=10**6)
    put(box, "a1")
    script, late = Script(), list[Late]()
    one = Sender(
        *(box, script),
        online=lambda: True,
        on_late=late.append,
        gate=GATE,
        on_withheld=script.withhold,
        options=FAST,
    )
    until(lambda: box.tries, "a try to settle")
    until(lambda: one.trouble, "the trouble")
    box.room = True
    one.ring()
    until(lambda: late, "the answer")
    assert script.sent == ["a1"]
    one.close()
    box.close()
