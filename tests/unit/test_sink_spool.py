"""The spool: first in, first out, bounded, durable."""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_runtime.contract.errors import StorageError
from edge_runtime.sinks.spool import Spool


def payloads(spool: Spool) -> list[bytes]:
    return [letter.payload for letter in spool.peek(1000)]


def test_letters_stay_until_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "spool.sqlite", max_bytes=10_000)
    spool.append([("a/b", b"1"), ("a/c", b"2")])
    spool.append([("a/b", b"3")])
    first, second, third = spool.peek(10)
    assert (first.topic, second.topic, third.payload) == ("a/b", "a/c", b"3")
    assert spool.peek(10, after=first.id) == (second, third)
    spool.ack([second.id, 999])
    assert payloads(spool) == [b"1", b"3"]
    assert len(spool) == 2
    spool.close()


def test_letters_and_bounds_survive_a_new_process(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, max_bytes=10)
    spool.append([("t", b"1234")])
    spool.sync()
    spool.close()
    again = Spool(path, max_bytes=10)
    again.open()
    assert len(again) == 1
    again.append([("t", b"5678")])
    again.append([("t", b"9")])
    assert payloads(again) == [b"5678", b"9"]
    assert again.dropped == 1
    again.close()


def test_ids_are_never_used_twice(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", max_bytes=100)
    spool.append([("t", b"1")])
    (first,) = spool.peek(1)
    spool.ack([first.id])
    spool.append([("t", b"2")])
    assert spool.peek(1)[0].id > first.id
    spool.close()


def test_a_letter_larger_than_the_spool_is_counted_as_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", max_bytes=8)
    spool.append([("t", b"12345678")])
    assert (len(spool), spool.dropped) == (0, 1)
    spool.close()


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, max_bytes=100)
    spool.append([("t", b"1")])
    other = Spool(path, max_bytes=100)
    with pytest.raises(StorageError, match="second agent"):
        other.append([("t", b"2")])
    spool.close()
    other.append([("t", b"2")])
    assert payloads(other) == [b"1", b"2"]
    other.close()


class SpoolAgainstAList(RuleBasedStateMachine):
    """The spool does what a list that drops its oldest does."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "spool.sqlite"
        self.spool = Spool(self.path, max_bytes=60)
        self.model: list[bytes] = []
        self.dropped = 0

    @rule(messages=st.lists(st.binary(max_size=25), max_size=4))
    def append(self, messages: list[bytes]) -> None:
        self.spool.append([("t", message) for message in messages])
        self.model += messages
        while sum(len(m) + 1 for m in self.model) > 60:
            del self.model[0]
            self.dropped += 1

    @rule(places=st.sets(st.integers(0, 5)))
    def ack(self, places: set[int]) -> None:
        letters = self.spool.peek(100)
        self.spool.ack([letters[p].id for p in places if p < len(letters)])
        self.model = [m for p, m in enumerate(self.model) if p not in places]

    @rule()
    def reopen(self) -> None:
        self.spool.close()

    @invariant()
    def same(self) -> None:
        assert payloads(self.spool) == self.model
        assert len(self.spool) == len(self.model)
        assert self.spool.dropped == self.dropped

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestSpoolAgainstAList = SpoolAgainstAList.TestCase
TestSpoolAgainstAList.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
