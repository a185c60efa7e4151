"""The reader of YAML documents: the same data as YAML's own, and every place knows its line."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edge_runtime.settings.document import Document, read_document

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=8).map(
    lambda word: f"k{word}"
)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents") / "d.yaml"


def places(value: Any, keys: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [keys, *(place for key, inner in below for place in places(inner, (*keys, key)))]


def read(file: Path, text: str, **environment: str) -> Document:
    file.write_text(text, "utf-8")
    return read_document(file, environment)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.dictionaries(WORDS, DATA, min_size=1, max_size=5))
def test_the_same_data_and_a_line_for_every_place(file: Path, data: dict[str, Any]) -> None:
    out = io.StringIO()
    YAML(typ="safe").dump(data, out)
    lines = out.getvalue().splitlines()
    document = read(file, out.getvalue())
    assert document.data == data
    assert document.faults == []
    for place in places(data):
        assert document.has(place)
        line = document.line(place)
        assert 1 <= line <= len(lines)
    for key in data:
        assert key in lines[document.line((key,)) - 1]


@given(data=st.dictionaries(WORDS, DATA, max_size=3), key=WORDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_not_there_is_not_there(file: Path, data: dict[str, Any], key: str) -> None:
    out = io.StringIO()
    YAML(typ="safe").dump({"a": data}, out)
    document = read(file, out.getvalue())
    assert document.has(("a", key)) == (key in data)
    assert not document.has(("a", key, 99))
    assert not document.has(("b",))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=20))
def test_a_variable_is_filled_in_as_it_is_and_only_once(file: Path, value: str) -> None:
    document = read(file, 'a: "x${V}y"\nb: "${W:-d}"\nc: "$${V}"\n', V=value)
    assert document.data == {"a": f"x{value}y", "b": "d", "c": "${V}"}
    assert document.written[("a",)] == "x${V}y"
