"""What each command does, when it is refused, and that it is done once."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.contract.errors import EdgeRuntimeError, RefusedError
from edge_runtime.contract.fleet import MESSAGE_MAX_BYTES, Command, Reply
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.fleet.commands import Doing, check_fresh
from edge_runtime.fleet.desk import Answer, Asked, Desk
from edge_runtime.fleet.event_box import EventBox
from edge_runtime.fleet.inbound import Inbound
from edge_runtime.fleet.parsing import encode
from edge_runtime.fleet.ports import Message
from edge_runtime.fleet.snapshot import JPEG_MAX_BYTES, fit
from edge_runtime.fleet.telling import Telling
from edge_runtime.fleet.topics import Channel, Topics
from tests.simulators.broker import wait_until
from tests.simulators.fleet_device import NotedHands, noise
from tests.simulators.updates import World, desired

MINE = Topics("acme", "d1")


class RefusingHands(NotedHands):
    """Allows pictures in general, and not of this camera."""

    def snapshot(self, camera: str) -> bytes:
        raise RefusedError(f"camera {camera}: nobody may see it")


class BrokenHands(NotedHands):
    """Has a bug."""

    def restart_pipeline(self, camera: str | None) -> None:
        raise ZeroDivisionError("division by zero")


def doing(hands: NotedHands | None = None) -> tuple[Doing, list[tuple[object, ...]]]:
    hands = hands or NotedHands()
    hands.may_go_on.set()
    done = hands.done
    perform = Doing(
        hands,
        cancel=lambda deployment: done.append(("cancel", deployment)),
        report=lambda: done.append(("report",)),
    )
    return perform, done


def command(name: str, **arguments: Any) -> Command:
    return Command.model_validate({"id": "c1", "name": name, "arguments": arguments})


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        (command("report"), ("report",)),
        (command("cancel", deployment="dep-1"), ("cancel", "dep-1")),
        (command("restart-pipeline"), ("restart", None)),
        (command("restart-pipeline", camera="door"), ("restart", "door")),
        (command("set-log-level", level="debug"), ("log", "debug", None)),
        (command("set-log-level", level="info", seconds=60), ("log", "info", 60.0)),
        (command("snapshot", camera="door"), ("snapshot", "door")),
        (command("benchmark"), ("benchmark", 5.0)),
        (command("benchmark", seconds=60), ("benchmark", 60.0)),
    ],
)
def test_what_is_done(asked: Command, done: tuple[object, ...]) -> None:
    perform, log = doing()
    assert perform.perform(asked).ok
    assert log == [done]


@pytest.mark.parametrize(
    ("asked", "hands", "code"),
    [
        (command("report", now=True), NotedHands(), Failure.MESSAGE_UNKNOWN_FIELD),
        (command("cancel"), NotedHands(), Failure.MESSAGE_MALFORMED),
        (command("cancel", deployment="../x"), NotedHands(), Failure.MESSAGE_MALFORMED),
        (command("restart-pipeline", camera=1), NotedHands(), Failure.MESSAGE_MALFORMED),
        (command("set-log-level", level="loud"), NotedHands(), Failure.MESSAGE_MALFORMED),
        (command("set-log-level", level="info", seconds=0), NotedHands(), Failure.MESSAGE_MALFORMED),
        (command("benchmark", seconds=3600), NotedHands(), Failure.MESSAGE_MALFORMED),
        (command("snapshot"), NotedHands(), Failure.MESSAGE_MALFORMED),
        (command("snapshot", camera="door"), NotedHands(allows_snapshots=False), Failure.COMMAND_FORBIDDEN),
        (command("snapshot", camera="door"), RefusingHands(), Failure.COMMAND_FORBIDDEN),
        (command("snapshot", camera="door"), NotedHands(picture=b"GIF89a"), Failure.MESSAGE_MALFORMED),
        (command("benchmark"), NotedHands(result={"x": "y" * 70_000}), Failure.MESSAGE_TOO_LARGE),
        (command("restart-pipeline", camera="nowhere"), NotedHands(), None),
        (command("restart-pipeline"), BrokenHands(), None),
    ],
)
def test_what_is_not_done_and_why(asked: Command, hands: NotedHands, code: Failure | None) -> None:
    reply = doing(hands)[0].perform(asked)
    assert (reply.ok, reply.code, reply.id) == (False, code, "c1")
    assert reply.detail


@pytest.mark.parametrize("height", [48, 200, 1080, 2160])
def test_a_picture_fits_into_a_message(height: int) -> None:
    reply = doing(NotedHands(picture=noise(height, height * 16 // 9)))[0].perform(
        command("snapshot", camera="door")
    )
    assert len(encode(reply)) <= MESSAGE_MAX_BYTES
    jpeg = base64.b64decode(str(reply.result["jpeg_base64"]))
    seen = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert seen is not None
    assert seen.shape[:2] == (reply.result["height"], reply.result["width"])
    assert abs(seen.shape[1] / seen.shape[0] - 16 / 9) < 0.05


def test_a_small_picture_stays_as_it_is_and_a_hopeless_one_is_refused() -> None:
    small = noise(48, 64)
    assert fit(small).jpeg == small
    assert len(noise(400, 700)) > JPEG_MAX_BYTES >= len(fit(noise(400, 700)).jpeg)
    with pytest.raises(UpdateFailedError) as caught:
        fit(noise(400, 700), 200)
    assert caught.value.code is Failure.MESSAGE_TOO_LARGE


@pytest.mark.parametrize(
    ("expires", "left_s", "code"),
    [
        (None, None, None),
        (None, 0.1, None),
        (None, 0.0, Failure.COMMAND_EXPIRED),
        (None, -3.0, Failure.COMMAND_EXPIRED),
        ("2026-01-01T00:00:00Z", None, None),
        ("2025-12-31T23:59:59.9Z", None, Failure.COMMAND_EXPIRED),
        ("2025-12-31T23:59:59.9Z", 10.0, Failure.COMMAND_EXPIRED),
        ("2026-13-45T00:00:00Z", None, Failure.MESSAGE_MALFORMED),
    ],
)
def test_what_is_too_old(expires: str | None, left_s: float | None, code: Failure | None) -> None:
    asked = Command(id="c1", name="report", expires=expires)
    now_s = 1767225600.0  # 2026-01-01T00:00:00Z
    if code is None:
        check_fresh(asked, now_s=now_s, left_s=left_s)
        return
    with pytest.raises(UpdateFailedError) as caught:
        check_fresh(asked, now_s=now_s, left_s=left_s)
    assert caught.value.code is code


class Office:
    """A desk and what comes in at it, with nobody else around."""

    def __init__(self, folder: Path, hands: NotedHands | None = None) -> None:
        self.world = World("http://127.0.0.1:1")
        self.hands = hands or NotedHands()
        self.desires: list[int] = []
        self.notices = 0
        self.box = EventBox(folder / "events.db")
        self.telling = Telling(self.box, self.world)
        perform = Doing(self.hands, self.cancel, lambda: self.hands.done.append(("report",)))
        self.desk = Desk(perform, self.world, lambda: None)
        self.inbound = Inbound(
            MINE, desire=self.desire, taken_seq=lambda: 7, desk=self.desk, noticed=self.notice,
            telling=self.telling, clock=self.world,
        )  # fmt: skip

    def desire(self, wanted: Any) -> None:
        self.desires.append(wanted.seq)

    def notice(self) -> None:
        self.notices += 1

    def cancel(self, deployment: str) -> None:
        self.hands.done.append(("cancel", deployment))

    def comes(self, topic: str, payload: bytes = b"", **other: Any) -> Answer | None:
        answer = self.inbound.take(Message(topic, payload, **other))
        if answer is not None:
            self.inbound.tell(answer)
        return answer

    def asked(self, asked: Command, **other: Any) -> Answer | None:
        return self.comes(
            MINE.of(Channel.COMMAND), encode(asked), response_topic="v1/acme/m/r1/reply", **other
        )


def test_messages_find_their_way_and_foreign_ones_do_not(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.comes(MINE.of(Channel.DESIRED), encode(desired(7)), retained=True)
    assert office.desires == [], "the broker says again what is known"
    office.comes(MINE.of(Channel.DESIRED), encode(desired(8)))
    office.comes(MINE.of(Channel.NOTICE), b"anything")
    assert (office.desires, office.notices, office.telling.refused_counts) == ([8], 1, {})
    foreign = (
        "v1/acme/d/d2/desired", "v1/other/d/d1/desired", "v1/other/all/notice", "v1/acme/d/d1/reported",
        "v1/acme/m/r1/reply", "somewhere",
    )  # fmt: skip
    for topic in foreign:
        assert office.comes(topic, encode(desired(9))) is None
    assert (office.desires, office.notices) == ([8], 1)
    assert office.telling.refused_counts == {Failure.MESSAGE_FOREIGN_TOPIC: len(foreign)}
    assert len(office.box) == 5, "the sixth is counted, and told with a later one"
    office.box.close()


@pytest.mark.parametrize(
    "topic", ["v1/acme/d/d2/desired", "v1/other/m/r1/reply", "v1/acme/all/notice", "anywhere"]
)
def test_an_answer_goes_to_the_manager_only(topic: str, tmp_path: Path) -> None:
    office = Office(tmp_path)
    asked = Command(id="c1", name="cancel", arguments={"deployment": "dep-1"})
    assert office.comes(MINE.of(Channel.COMMAND), encode(asked), response_topic=topic) is None
    assert office.hands.done == []
    assert office.telling.refused_counts == {Failure.MESSAGE_FOREIGN_TOPIC: 1}
    office.box.close()


def test_a_command_is_done_once_however_often_it_comes(tmp_path: Path) -> None:
    office = Office(tmp_path)
    asked = Command(id="c1", name="cancel", arguments={"deployment": "dep-1"})
    answers = [office.asked(asked, correlation=b"%d" % n) for n in range(3)]
    assert [each and each.correlation for each in answers] == [b"0", b"1", b"2"]
    assert {each.reply.ok for each in answers if each} == {True}
    assert office.hands.done == [("cancel", "dep-1")]
    for n in range(40):
        office.asked(Command(id=f"x{n}", name="report"))
    office.asked(asked)
    assert office.hands.done.count(("cancel", "dep-1")) == 2, "its memory is small"
    office.box.close()


def test_slow_commands_wait_for_each_other_and_for_nobody_else(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.desk.start()
    for n in range(9):
        assert office.asked(Command(id=f"slow{n}", name="benchmark")) is None
        wait_until(lambda: len(office.hands.done) >= 1)
    turned_away = office.asked(Command(id="slow9", name="benchmark"))
    assert turned_away is not None
    assert (turned_away.reply.ok, turned_away.reply.code) == (False, None)
    assert office.asked(Command(id="slow3", name="benchmark")) is None, "under way: answered once"
    quick = office.asked(Command(id="quick", name="report"))
    assert quick is not None
    assert quick.reply.ok
    office.hands.may_go_on.set()
    replies: list[Reply] = []
    wait_until(
        lambda: bool(replies.extend(each.reply for each in office.desk.answers()) or len(replies) == 9)
    )
    assert [each.id for each in replies] == [f"slow{n}" for n in range(9)]
    office.desk.close(5)
    office.box.close()


def test_a_command_that_waited_too_long_is_not_done(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.desk.start()
    assert office.asked(Command(id="first", name="benchmark"), expiry_s=10.0) is None
    wait_until(lambda: len(office.hands.done) == 1)
    assert office.asked(Command(id="second", name="restart-pipeline"), expiry_s=10.0) is None
    office.world.steady += 11
    office.hands.may_go_on.set()
    answers: list[Answer] = []
    wait_until(lambda: bool(answers.extend(office.desk.answers()) or len(answers) == 2))
    assert [(each.reply.ok, each.reply.code) for each in answers] == [
        (True, None), (False, Failure.COMMAND_EXPIRED),
    ]  # fmt: skip
    assert office.hands.done == [("benchmark", 5.0)]
    office.inbound.tell(answers[1])
    assert office.telling.refused_counts == {Failure.COMMAND_EXPIRED: 1}
    office.desk.close(5)
    office.box.close()


def test_a_desk_closes_while_a_command_takes_its_time(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.desk.start()
    for n in range(9):
        office.asked(Command(id=f"slow{n}", name="benchmark"))
        wait_until(lambda: len(office.hands.done) >= 1)
    office.desk.close(0)
    office.hands.may_go_on.set()
    office.desk.close(10)
    assert office.hands.done == [("benchmark", 5.0)], "those that waited are not begun"
    office.box.close()


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (b'{"id": "c1", "name": "reboot"}', ("c1", Failure.COMMAND_UNKNOWN)),
        (b'{"id": "c1", "name": "report", "x": 1}', ("c1", Failure.MESSAGE_UNKNOWN_FIELD)),
        (b'{"v": 2, "id": "c1", "name": "report"}', ("c1", Failure.MESSAGE_VERSION)),
        (b'{"name": "report"}', ("unreadable", Failure.MESSAGE_MALFORMED)),
        (b"{" * MESSAGE_MAX_BYTES + b"{", ("unreadable", Failure.MESSAGE_TOO_LARGE)),
    ],
)
def test_a_command_that_cannot_be_read_is_answered_too(
    payload: bytes, reply: tuple[str, Failure], tmp_path: Path
) -> None:
    office = Office(tmp_path)
    answer = office.comes(
        MINE.of(Channel.COMMAND), payload, response_topic="v1/acme/m/r1/reply", correlation=b"7"
    )
    assert answer is not None
    assert (answer.reply.id, answer.reply.code, answer.correlation) == (*reply, b"7")
    assert office.telling.refused_counts == {reply[1]: 1}
    office.box.close()


def test_hands_may_only_fail_with_errors_of_ours() -> None:
    """What is unexpected is answered all the same, and its name is in the answer."""
    assert not issubclass(ZeroDivisionError, EdgeRuntimeError)
    reply = doing(BrokenHands())[0].perform(command("restart-pipeline"))
    assert "ZeroDivisionError" in reply.detail


def test_an_answer_without_a_topic_is_for_nobody() -> None:
    asked = Asked(command("report"), None, None, None)
    desk = Desk(doing()[0], World("http://127.0.0.1:1"), lambda: None)
    answer = desk.take(asked)
    assert answer is not None
    assert answer.topic is None
