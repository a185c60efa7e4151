"""A simulated device, in virtual time: what it says to what it is told. And its end of MQTT, byte by byte."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fallback.fleet.simulation import wire
from cloud_fallback.fleet.simulation.behaviour import Gone, Manner, Out, Pace, Said, SimulatedDevice
from cloud_fallback.fleet.simulation.crowd import Absence
from edge_runtime.contract.errors import RemoteError
from edge_runtime.contract.fleet import Command, Desired, DeviceEvent, Named, Reply, Reported, Wanted
from edge_runtime.contract.update import Failure, State, UpdateFailedError
from edge_runtime.fleet.parsing import encode, parse

NOW_S = 1.8e9
DESIRED = "v1/acme/d/one/desired"


def device(manner: Manner, **pace: float) -> SimulatedDevice:
    return SimulatedDevice("one", "acme", "store-pc", 0.5, lambda _device, _wanted: manner, Pace(**pace))


def wanted(number: int, deployment: str | None = None) -> Wanted:
    return Wanted(
        kind="model", name="detector", version=f"{number}.0.0", counter=number, target="t", size_bytes=5,
        deployment=deployment or f"dep-{number}", sha256=f"{number:064x}",
    )  # fmt: skip


def tell(one: SimulatedDevice, seq: int, *things: Wanted, at_s: float = NOW_S, **other: object) -> list[Out]:
    message = Desired.model_validate(
        {"seq": seq, "tenant": "acme", "device": "one", "wanted": things, **other}
    )
    return one.hear(DESIRED, encode(message), None, None, at_s)


def reports(outs: Iterable[Out]) -> list[Reported]:
    return [
        parse(Reported, each.payload)
        for each in outs
        if isinstance(each, Said) and each.topic.endswith("/reported")
    ]


def test_a_good_update_goes_through_its_states() -> None:
    one = device(Manner.GOOD, fetch_s=10.0, trial_s=5.0)
    (taken,) = reports(tell(one, 3, wanted(1)))
    assert (taken.desired_seq, taken.have[0].state, taken.have[0].version) == (3, State.DOWNLOADING, None)
    assert one.wake_at() == NOW_S + 10
    (tried,) = reports(one.poll(NOW_S + 10))
    assert tried.have[0].state is State.TRIAL
    (done,) = reports(one.poll(NOW_S + 15))
    assert (done.have[0].state, done.have[0].sha256) == (State.COMMITTED, f"{1:064x}")
    assert done.have[0].deployment == "dep-1"
    assert taken.seq < tried.seq < done.seq


def test_what_takes_no_time_is_told_once() -> None:
    (done,) = reports(tell(device(Manner.GOOD), 1, wanted(1)))
    assert done.have[0].state is State.COMMITTED


def test_a_stale_message_changes_nothing() -> None:
    one = device(Manner.GOOD)
    tell(one, 5, wanted(2))
    assert tell(one, 5, wanted(3)) == []
    assert tell(one, 4, wanted(1)) == []
    assert one.have()[0].counter == 2


def test_a_failure_is_reported_with_its_code_and_keeps_the_old_version() -> None:
    one = device(Manner.GOOD)
    tell(one, 1, wanted(1))
    one.manner = lambda _device, _wanted: Manner.FAILS
    outs = tell(one, 2, wanted(2))
    (report,) = reports(outs)
    have = report.have[0]
    assert (have.state, have.code, have.version) == (State.ROLLED_BACK, Failure.NOT_A_NUMBER, "1.0.0")
    events = [
        parse(DeviceEvent, each.payload) for each in outs if isinstance(each, Said) and "event" in each.topic
    ]
    assert [(each.code, each.deployment) for each in events] == [(Failure.NOT_A_NUMBER, "dep-2")]
    assert reports(tell(one, 3, wanted(2)))[0].have[0].state is State.ROLLED_BACK, "it is not begun again"


def test_a_silent_one_never_says_how_it_ended() -> None:
    one = device(Manner.SILENT, fetch_s=1.0, trial_s=1.0, report_every_s=1e9)
    tell(one, 1, wanted(1))
    states = [each.have[0].state for at_s in range(1, 100) for each in reports(one.poll(NOW_S + at_s))]
    assert states == [State.TRIAL]


def test_one_that_vanishes_has_succeeded_before() -> None:
    one = device(Manner.VANISHES, after_s=5.0)
    assert reports(tell(one, 1, wanted(1)))[0].have[0].state is State.COMMITTED
    assert one.wake_at() == NOW_S + 5
    assert one.poll(NOW_S + 5) == [Gone()]
    assert one.gone


def test_one_that_regresses_is_ill_until_it_goes_back() -> None:
    one = device(Manner.REGRESSES, after_s=5.0)
    assert reports(tell(one, 1, wanted(1)))[0].health.cameras_online == 2
    (ill,) = reports(one.poll(NOW_S + 5))
    assert (ill.health.cameras_online, ill.health.errors_per_s) == (0, 5.0)
    gone_back = reports(tell(one, 2, removed=(Named(kind="model", name="detector"),), at_s=NOW_S + 6))
    assert (gone_back[-1].have, gone_back[-1].health.cameras_online) == ((), 2)


def test_what_is_no_longer_wanted_is_given_up() -> None:
    one = device(Manner.GOOD, fetch_s=10.0)
    tell(one, 1, wanted(1))
    (report,) = reports(tell(one, 2, wanted(1), cancelled=("dep-1",)))
    assert report.have[0].state is State.CANCELLED
    assert one.poll(NOW_S + 20) == []


def test_commands_are_answered_where_they_came_from() -> None:
    one = device(Manner.GOOD)
    for name, ok in (("report", True), ("snapshot", False)):
        command = Command.model_validate({"id": "c1", "name": name})
        said = one.hear("v1/acme/d/one/cmd", encode(command), b"42", "v1/acme/m/r1/reply", NOW_S)[-1]
        assert isinstance(said, Said)
        assert (said.topic, said.correlation) == ("v1/acme/m/r1/reply", b"42")
        assert parse(Reply, said.payload).ok is ok


def test_a_foreign_message_is_refused() -> None:
    one = device(Manner.GOOD)
    with pytest.raises(UpdateFailedError):
        one.hear(DESIRED, b"{", None, None, NOW_S)
    with pytest.raises(UpdateFailedError):
        one.hear(DESIRED, encode(Desired(seq=1, tenant="acme", device="two")), None, None, NOW_S)


@given(st.floats(0, 1, exclude_max=True), st.floats(0.01, 0.99), st.floats(0, 1e5))
def test_an_absence_ends_when_it_says(spread: float, share: float, at_s: float) -> None:
    absence = Absence(100.0, share)
    changes_s = absence.change_s(spread, at_s)
    assert at_s <= changes_s <= at_s + 100.0
    assert absence.online(spread, changes_s + 1e-3) or absence.online(spread, changes_s - 1e-3)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


@given(
    TEXTS,
    st.binary(max_size=40_000),
    st.integers(1, 0xFFFF),
    st.booleans(),
    st.none() | st.binary(max_size=50),
)
def test_a_publication_is_read_as_it_was_written(
    topic: str, payload: bytes, number: int, retain: bool, correlation: bytes | None
) -> None:
    data = wire.publish(topic, payload, number, retain=retain, correlation=correlation)
    reader = wire.Reader()
    packets = [packet for at in range(0, len(data), 997) for packet in reader.feed(data[at : at + 997])]
    expected = wire.Packet(wire.Kind.PUBLISH, 0, number, topic, payload, None, correlation)
    assert packets == [expected]


def test_properties_of_a_publication_are_read_over_those_that_do_not_matter() -> None:
    """As mosquitto sends a command: expiry, user property, response topic, correlation, subscription id."""
    properties = (
        b"\x02\x00\x00\x00\x1e" b"\x26\x00\x01a\x00\x02bc" b"\x08\x00\x03a/b" b"\x09\x00\x02\x00\x07"
        b"\x0b\x81\x01" b"\x03\x00\x04text"
    )  # fmt: skip
    body = b"\x00\x01t\x00\x05" + bytes((len(properties),)) + properties + b"hello"
    (packet,) = wire.Reader().feed(bytes((0x32, len(body))) + body)
    assert (packet.response_topic, packet.correlation, packet.payload) == ("a/b", b"\x00\x07", b"hello")


@pytest.mark.parametrize("data", [b"\x30\xff\xff\xff\xff\x01", b"\x30\x01\x00", b"\xf5\x00", b"\x40\x01\x00"])
def test_what_is_no_mqtt_is_said_so(data: bytes) -> None:
    with pytest.raises(RemoteError):
        list(wire.Reader().feed(data))
