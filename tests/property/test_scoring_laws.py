"""What is left of a job, whatever was done and deleted before; tables read from any row."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.scoring.inputs import Kind, Source
from edge_runtime.scoring.plan import Gap, Growing, Limits, Span, differences, gaps, marked
from edge_runtime.scoring.tables import Place, Table

MOST = 60
spans = st.lists(
    st.tuples(st.integers(0, MOST), st.integers(1, 9), st.booleans()).map(
        lambda made: Span(made[0], made[0] + made[1], made[2])
    ),
    max_size=12,
)
# What a person may write into a table: any character but halves of surrogate pairs.
words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=20)


def rows_of(some: list[Span]) -> set[int]:
    return {row for span in some for row in range(span.first, span.end)}


@given(spans)
def test_a_row_is_done_or_left_and_never_both(done: list[Span]) -> None:
    left = gaps(done)
    covered, ended = rows_of(done), any(span.last for span in done)
    for row in range(3 * MOST):
        wanted = row not in covered and (not ended or row < max(span.end for span in done))
        assert any(row in gap for gap in left) == wanted
    ends = [gap.end for gap in left]
    assert all(end is not None for end in ends[:-1])
    assert ended == (not ends or ends[-1] is not None)
    firsts = [gap.first for gap in left]
    assert firsts == sorted(firsts)


@given(st.lists(st.integers(0, MOST), unique=True))
def test_a_part_claims_the_rows_it_was_given_and_no_other(rows: list[int]) -> None:
    growing = Growing()
    for row in rows:
        growing.add("a", row, last=False, holes=False)
    assert rows_of(growing.spans.get("a", [])) == set(rows)


@given(st.lists(st.integers(0, MOST), unique=True, min_size=1).map(sorted))
def test_a_sampled_recording_is_done_up_to_its_last_row(rows: list[int]) -> None:
    growing = Growing()
    for row, last in marked(rows):
        growing.add("a", row, last=last, holes=True)
    assert growing.spans == {"a": [Span(rows[0], rows[-1] + 1, last=True)]}


@given(st.integers(1, 40), st.integers(1, 7), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_runs_that_are_killed_and_parts_that_are_deleted_leave_every_row_once(
    rows: int, part_rows: int, troubles: list[tuple[int, int]]
) -> None:
    """Each run writes parts in order until it is killed; then somebody deletes one of them."""
    limits, parts = Limits(rows=part_rows), list[list[int]]()
    spans_of = list[list[Span]]()
    for killed_after, deleted in [*troubles, (10**6, None)]:
        left = gaps(span for some in spans_of for span in some)
        pending = [row for row in range(rows) if any(row in gap for gap in left)]
        part, growing = list[int](), Growing()
        for number, row in enumerate(pending):
            part.append(row)
            growing.add("a", row, last=row == rows - 1, holes=False)
            if limits.full(len(part), 0, 0.0) or row == pending[-1]:
                parts.append(part)
                spans_of.append(growing.spans["a"])
                part, growing = [], Growing()
            if number >= killed_after:
                break
        if deleted is not None and deleted < len(parts):
            del parts[deleted], spans_of[deleted]
    assert gaps(span for some in spans_of for span in some) == ()
    assert sorted(row for part in parts for row in part) == list(range(rows))


@given(*[st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["", "1", "2"]))] * 2)
def test_jobs_differ_in_what_is_named(before: dict[str, str], now: dict[str, str]) -> None:
    told = differences(before, now)
    names = [name for name in "abcd" if before.get(name, "") != now.get(name, "")]
    assert [one.split()[0] for one in told] == names


@given(st.integers(0, 9), st.integers(0, 9), st.floats(0, 9))
def test_a_part_without_rows_is_never_full(rows: int, size: int, age_s: float) -> None:
    limits = Limits(rows=5, bytes=5, seconds=5.0)
    assert limits.full(rows, size, age_s) == (rows > 0 and (rows >= 5 or size >= 5 or age_s >= 5))


def source(tmp: Path, name: str, kind: Kind, content: bytes) -> Source:
    path = tmp / name
    path.write_bytes(content)
    return Source(name, path, kind, len(content), 0)


@given(rows=st.lists(st.tuples(words, words), min_size=1), data=st.data())
def test_csv_is_read_as_it_was_written_from_any_row(
    rows: list[tuple[str, str]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([("id", "text"), *rows])
    table = Table(
        source(tmp_path_factory.getbasetemp(), "t.csv", Kind.CSV, written.getvalue().encode()), None
    )
    found = list(table.texts())
    assert [one.text for one in found] == [text for _, text in rows]
    assert [one.row for one in found] == list(range(len(rows)))
    check_from(table, data.draw(st.integers(0, len(rows) - 1)))


@given(rows=st.lists(words, min_size=1), data=st.data())
def test_json_lines_are_read_as_they_were_written_from_any_row(
    rows: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = "".join(f"{json.dumps({'text': text})}\n\n" for text in rows).encode()
    table = Table(source(tmp_path_factory.getbasetemp(), "t.jsonl", Kind.JSONL, written), None)
    assert [one.text for one in table.texts()] == rows
    check_from(table, data.draw(st.integers(0, len(rows) - 1)))


@given(content=st.binary(max_size=200), kind=st.sampled_from([Kind.CSV, Kind.JSONL]))
def test_no_bytes_stop_the_reading(
    content: bytes, kind: Kind, tmp_path_factory: pytest.TempPathFactory
) -> None:
    head = b"text\n" if kind is Kind.CSV else b""
    table = Table(source(tmp_path_factory.getbasetemp(), "t", kind, head + content), None)
    found = list(table.texts())
    assert [one.row for one in found] == list(range(len(found)))
    assert all((one.text is None) == bool(one.error) for one in found)


def check_from(table: Table, row: int) -> None:
    """Reading from a row, by its number or by its place, gives what reading everything gives from there."""
    found = list(table.texts())
    offset = found[row - 1].end if row else 0
    for place in (Place(row), Place(row, offset)):
        assert list(table.texts(place)) == found[row:]
    assert [one.row in Gap(row, None) for one in found] == [at >= row for at in range(len(found))]
