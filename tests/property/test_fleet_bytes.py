"""Whatever bytes and topics come, nothing is raised but a refusal with its code."""

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract.fleet import Command, Desired, DeviceEvent, Presence, Reply, Reported
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import UpdateFailedError
from edge_runtime.fleet import topics
from edge_runtime.fleet.parsing import command_id, encode, parse
from tests.simulators.updates import desired, release, wanted

KINDS = st.sampled_from([Desired, Command, Reported, Presence, DeviceEvent, Reply])
WHOLE = encode(desired(3, wanted(1, release(1))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["v", "id", "name"]), inner),
    max_leaves=20,
)


def taken(kind: type[Declared], payload: bytes) -> None:
    with suppress(UpdateFailedError):
        parse(kind, payload)
    command_id(payload)


@given(KINDS, st.binary(max_size=300))
def test_any_bytes(kind: type[Declared], payload: bytes) -> None:
    taken(kind, payload)


@given(KINDS, JSON)
def test_any_json(kind: type[Declared], document: object) -> None:
    taken(kind, json.dumps(document).encode("utf-8", "surrogatepass"))


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=0, max_size=3), st.integers(0, 30))
def test_a_message_with_a_few_bytes_changed(at: int, put: bytes, cut: int) -> None:
    taken(Desired, WHOLE[:at] + put + WHOLE[at + cut :])


@given(st.text())
def test_any_topic(topic: str) -> None:
    with suppress(UpdateFailedError):
        topics.parse(topic)


@given(st.lists(st.sampled_from(["v1", "acme", "d", "d1", "all", "m", "notice", "cmd", "+", "#", ""])))
def test_a_topic_that_is_taken_is_built_the_same_way(parts: list[str]) -> None:
    topic = "/".join(parts)
    with suppress(UpdateFailedError):
        found = topics.parse(topic)
        if found.device or found.replica is None:
            assert topics.Topics(found.tenant, found.device or "any").of(found.channel) == topic
