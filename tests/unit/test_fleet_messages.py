"""Topics and messages of the fleet protocol: what is taken, and the code of what is not."""

import json
from typing import Any

import pytest

from edge_runtime.contract.fleet import (
    MESSAGE_MAX_BYTES,
    Command,
    Desired,
    DeviceEvent,
    Have,
    Health,
    Presence,
    Reply,
    Reported,
)
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import Failure, State, UpdateFailedError
from edge_runtime.fleet import topics
from edge_runtime.fleet.parsing import command_id, encode, encode_report, parse
from edge_runtime.fleet.topics import Address, Channel, Topics
from tests.simulators.updates import desired, release, wanted

MINE = Topics("acme", "d1")
DESIRED = json.loads(encode(desired(3, wanted(1, release(1)))))
COMMAND: dict[str, Any] = {"v": 1, "id": "c1", "name": "report"}
REPORT = Reported(seq=1, device="d1", time="2026-01-01T00:00:00Z", profile="store-pc", agent="1")


FOREIGN = (
    "", "/", "v1", "v2/acme/d/d1/desired", "v1/acme/d/d1", "v1/acme/d/d1/desired/", "V1/acme/all/notice",
    "v1/acme/d/d1/notice", "v1/acme/d/d1/reply", "v1/acme/d/+/desired", "v1/#", "v1/acme/d//desired",
    "v1/acme/d/D1/desired", "v1/acme/all/desired", "v1/acme/m/r1/cmd", "$SYS/broker", "v1/acme/d/d\n/cmd",
    "v1/acme/d/d1/desired\n",
)  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("v1/acme/d/d1/desired", Address("acme", Channel.DESIRED, device="d1")),
        ("v1/acme/d/d1/cmd", Address("acme", Channel.COMMAND, device="d1")),
        ("v1/acme/all/notice", Address("acme", Channel.NOTICE)),
        ("v1/acme/m/r1/reply", Address("acme", Channel.REPLY, replica="r1")),
        *((topic, None) for topic in FOREIGN),
    ],
)
def test_topics(topic: str, address: Address | None) -> None:
    if address is not None:
        assert topics.parse(topic) == address
        return
    with pytest.raises(UpdateFailedError) as caught:
        topics.parse(topic)
    assert caught.value.code is Failure.MESSAGE_FOREIGN_TOPIC


def test_what_is_built_can_be_taken_apart() -> None:
    for channel in set(Channel) - {Channel.REPLY}:
        found = topics.parse(MINE.of(channel))
        assert found == Address("acme", channel, device=None if channel is Channel.NOTICE else "d1")
    assert topics.parse(topics.reply("acme", "r1")) == Address("acme", Channel.REPLY, replica="r1")
    assert topics.of_all("acme", Channel.REPORTED) == "v1/acme/d/+/reported"
    assert topics.of_all("acme", Channel.EVENT, share="manager") == "$share/manager/v1/acme/d/+/event"
    assert MINE.taken() == ("v1/acme/d/d1/desired", "v1/acme/d/d1/cmd", "v1/acme/all/notice")


def changed(document: dict[str, Any], **fields: object) -> bytes:
    return json.dumps({**document, **fields}).encode()


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        (Desired, b"", Failure.MESSAGE_MALFORMED),
        (Desired, b"{", Failure.MESSAGE_MALFORMED),
        (Desired, b"[]", Failure.MESSAGE_MALFORMED),
        (Desired, b"null", Failure.MESSAGE_MALFORMED),
        (Desired, b"\xff\xfe", Failure.MESSAGE_MALFORMED),
        (Desired, b"[" * 60_000, Failure.MESSAGE_MALFORMED),
        (Desired, b"9" * 60_000, Failure.MESSAGE_MALFORMED),
        (Desired, changed(DESIRED, seq="3"), Failure.MESSAGE_MALFORMED),
        (Desired, changed(DESIRED, seq=-1), Failure.MESSAGE_MALFORMED),
        (Desired, changed(DESIRED, seq=None), Failure.MESSAGE_MALFORMED),
        (Desired, changed(DESIRED, device="../d2"), Failure.MESSAGE_MALFORMED),
        (Desired, changed(DESIRED, wanted=float("nan")), Failure.MESSAGE_MALFORMED),
        (Reported, encode(REPORT).replace(b'"uptime_s":0.0', b'"uptime_s":NaN'), Failure.MESSAGE_MALFORMED),
        (Desired, b" " * (MESSAGE_MAX_BYTES + 1), Failure.MESSAGE_TOO_LARGE),
        (Desired, changed(DESIRED, v=2), Failure.MESSAGE_VERSION),
        (Desired, changed(DESIRED, v="1"), Failure.MESSAGE_VERSION),
        (Desired, changed(DESIRED, v=2, colour="red", seq="x"), Failure.MESSAGE_VERSION),
        (Desired, changed(DESIRED, colour="red"), Failure.MESSAGE_UNKNOWN_FIELD),
        (Desired, changed(DESIRED, wanted=[{**DESIRED["wanted"][0], "x": 1}]), Failure.MESSAGE_UNKNOWN_FIELD),
        (Command, changed(COMMAND, name="reboot"), Failure.COMMAND_UNKNOWN),
        (Command, changed(COMMAND, name=7), Failure.MESSAGE_MALFORMED),
        (Command, changed(COMMAND, name="reboot", id=""), Failure.MESSAGE_MALFORMED),
        (Command, changed(COMMAND, name="reboot", x=1), Failure.MESSAGE_UNKNOWN_FIELD),
        (Command, changed(COMMAND, v=2, name="reboot"), Failure.MESSAGE_VERSION),
        (Command, changed(COMMAND, arguments=[]), Failure.MESSAGE_MALFORMED),
        (Command, changed(COMMAND, expires="tomorrow"), Failure.MESSAGE_MALFORMED),
    ],
)
def test_what_is_refused_and_with_which_code(kind: type[Declared], payload: bytes, code: Failure) -> None:
    with pytest.raises(UpdateFailedError) as caught:
        parse(kind, payload)
    assert caught.value.code is code
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "message",
    [
        desired(3, wanted(1, release(1)), cancelled=("dep-0",)),
        Command(id="c1", name="snapshot", arguments={"camera": "door"}, expires="2026-01-01T00:00:00Z"),
        REPORT,
        Presence(online=False),
        DeviceEvent(id="e", time="2026-01-01T00:00:00.123Z", level="info", code="committed", text=""),
        Reply(id="c1", ok=False, code=Failure.COMMAND_UNKNOWN, detail="?"),
    ],
)
def test_what_one_end_writes_the_other_reads(message: Declared) -> None:
    payload = encode(message)
    assert parse(type(message), payload) == message
    assert b'"v":1' in payload


def test_a_report_that_is_too_long_is_shortened_and_not_kept_back() -> None:
    have = tuple(
        Have(name=f"m{n}", state=State.FAILED, deployment="d", detail="why " * 250) for n in range(100)
    )
    long = REPORT.model_copy(update={"have": have, "health": Health(trouble=("t" * 900,) * 20)})
    found = parse(Reported, encode_report(long))
    assert [each.detail for each in found.have] == ["why " * 20] * 100
    assert len(found.health.trouble) == 20
    longer = long.model_copy(update={"health": Health(trouble=("t" * 3_000,) * 20)})
    assert parse(Reported, encode_report(longer)).health.trouble == ()
    with pytest.raises(UpdateFailedError) as caught:
        encode_report(long.model_copy(update={"have": have * 5}))
    assert caught.value.code is Failure.MESSAGE_TOO_LARGE


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"id": "c1", "colour": 1}', "c1"),
        (b'{"id": "C 1"}', None),
        (b'{"id": 7}', None),
        (b"{}", None),
        (b"[]", None),
        (b"7", None),
        (b"{", None),
        (b'{"id": "c1"}' + b" " * MESSAGE_MAX_BYTES, None),
    ],
)
def test_the_id_of_a_command_that_cannot_be_read(payload: bytes, found: str | None) -> None:
    assert command_id(payload) == found
