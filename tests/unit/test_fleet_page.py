"""The page of the fleet protocol names every field, command, code and size that there is."""

import re
from pathlib import Path

import pytest

from edge_runtime.contract.enrolment import Broker, Enrol, Enrolled
from edge_runtime.contract.fleet import (
    MESSAGE_MAX_BYTES,
    Command,
    Delta,
    Desired,
    DeviceEvent,
    Have,
    Health,
    Presence,
    Reply,
    Reported,
    Trial,
    Wanted,
    Window,
)
from edge_runtime.contract.task import Declared
from edge_runtime.contract.update import Failure
from edge_runtime.fleet.enrolling import Renew
from edge_runtime.fleet.topics import Channel

MESSAGES: tuple[type[Declared], ...] = (
    Desired, Wanted, Delta, Window, Trial, Reported, Have, Health, Presence, DeviceEvent, Command, Reply,
    Enrol, Enrolled, Broker, Renew,
)  # fmt: skip


@pytest.fixture(scope="module")
def named(repository: Path) -> set[str]:
    """Everything that stands in code quotes."""
    page = (repository / "docs/reference/fleet-protocol.md").read_text("utf-8")
    return set(re.findall(r"`([^`]+)`", page)) | {str(MESSAGE_MAX_BYTES)} & set(page.split())


@pytest.mark.parametrize("message", MESSAGES)
def test_every_field(message: type[Declared], named: set[str]) -> None:
    assert set(message.model_fields) - named == set()


def test_every_command_code_and_channel(named: set[str]) -> None:
    commands = set(Command.model_fields["name"].annotation.__args__)  # type: ignore[union-attr]
    codes = {each.value for each in Failure if each.startswith(("message-", "command-"))}
    assert (commands | codes) - named == set()
    topics = {each.rpartition("/")[2] for each in named if each.startswith("v1/")}
    assert {each.value for each in Channel} - topics == set()
    assert str(MESSAGE_MAX_BYTES) in named
