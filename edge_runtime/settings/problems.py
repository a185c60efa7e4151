"""What is wrong with a settings file, said with file, line and path; all of it at once.

Turns pydantic's errors into such problems. Reads no file.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from edge_runtime.contract.address import redact
from edge_runtime.contract.bundle import NAME_PATTERN
from edge_runtime.contract.errors import ConfigError, EdgeRuntimeError
from edge_runtime.settings.document import Document, Keys
from edge_runtime.settings.schema import Schema, known_keys

_SECRET_KEYS = frozenset({"password", "secret", "token"})
_NAME_RULE = "lower-case letters, digits, '.', '_' and '-', at most 64 of them"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Args:
        keys: Where in the document, e.g. `("cameras", "door", "fps")`.
        problem: What is wrong, without the place.
        expected: As in `EdgeRuntimeError`.
        got: As in `EdgeRuntimeError`.
        do: As in `EdgeRuntimeError`.
    """

    keys: Keys
    problem: str = ""
    expected: str | None = None
    got: str | None = None
    do: str | None = None

    def said(self, document: Document) -> str:
        """Write it as one line: file, line, path, problem, expected, got, what to do."""
        place = ": ".join(
            part for part in (document.place(self.keys), dotted(self.keys), self.problem) if part
        )
        return str(EdgeRuntimeError(place, expected=self.expected, got=self.got, do=self.do))

    def alone(self) -> str:
        """Write it without its place."""
        said = EdgeRuntimeError(self.problem, expected=self.expected, got=self.got, do=self.do)
        return str(said).removeprefix(": ")


class SettingsError(ConfigError):
    """A settings file is wrong; `problems` has one line for each thing that is, in the file's order.

    `places` has, for each, where it is and what to say there.
    """

    def __init__(self, document: Document, problems: Iterable[Problem]) -> None:
        ordered = sorted(problems, key=lambda problem: document.line(problem.keys))
        self.problems = tuple(problem.said(document) for problem in ordered)
        self.places = tuple((problem.keys, problem.alone()) for problem in ordered)
        super().__init__("\n".join(self.problems))


def dotted(keys: Keys) -> str:
    """Write a place for a person: `cameras.door.zones.aisle.polygon[2]`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Suggest the nearest known word, or list them all."""
    words = list(known)
    near = difflib.get_close_matches(str(word), words, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(sorted(words)) or 'none'}."


def explain(error: ValidationError, document: Document, schema: Schema) -> Iterator[Problem]:
    """Say pydantic's errors in the words of this project; one problem a place.

    A union reports an error for each of its members; their expectations are joined by "or".
    """
    by_place: dict[Keys, Problem] = {}
    for detail in error.errors(include_url=False):
        problem = _translate(cast("Mapping[str, Any]", detail), document, schema)
        other = by_place.get(problem.keys)
        if other is not None and other.expected and problem.expected and other.expected != problem.expected:
            problem = Problem(
                other.keys, other.problem, f"{other.expected} or {problem.expected}", other.got, other.do
            )
        by_place[problem.keys] = problem
    yield from by_place.values()


def _translate(detail: Mapping[str, Any], document: Document, schema: Schema) -> Problem:
    kind, message = str(detail["type"]), str(detail["msg"])
    context: Mapping[str, Any] = detail.get("ctx", {})
    keys = _real_keys(detail["loc"], document, missing=kind == "missing")
    if kind == "missing":
        return Problem(keys, "is missing", do="Add it.")
    if kind == "extra_forbidden":
        return Problem(
            keys, "unknown key", do=did_you_mean(keys[-1], known_keys(schema, keys[:-1], document.data))
        )
    if kind == "refused":
        return Problem(keys, context["problem"], context["expected"] or None, None, context["do"] or None)
    if kind == "union_tag_invalid":
        keys = (*keys, str(context["discriminator"]).strip("'"))
        return Problem(keys, "", f"one of {context['expected_tags']}", _shown(keys, document))
    if kind == "union_tag_not_found":
        return Problem(keys, f"{context['discriminator']} is missing", do="Add it.")
    is_key = detail["loc"][-1] == "[key]"
    got = repr(keys[-1]) if is_key else _shown(keys, document)
    if kind == "string_pattern_mismatch" and context["pattern"] == NAME_PATTERN:
        return Problem(keys, "not a name", _NAME_RULE, got)
    for opening in ("Input should be ", "Value error, ", "Input should "):
        if message.startswith(opening):
            rest = message.removeprefix(opening).split(", unable to", 1)[0]
            return Problem(keys, rest) if opening == "Value error, " else Problem(keys, "", rest, got)
    return Problem(keys, message, got=got)


def _real_keys(location: Sequence[str | int], document: Document, *, missing: bool) -> Keys:
    """Drop what pydantic adds to a place (union members, '[key]'), which is not in the document."""
    *path, last = location if missing else (*location, "")
    keys: list[str | int] = []
    for key in path:
        if document.has((*keys, key)):
            keys.append(key)
    return (*keys, last) if missing else tuple(keys)


def _shown(keys: Keys, document: Document) -> str:
    if _is_secret(keys):
        return "***"
    if (written := document.written.get(keys)) is not None:
        return f"what the environment says for '{written}'"
    value = document.value(keys)
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(cast('list[object]', value))}"
    return "nothing" if value is None else redact(repr(value))[:200]


def _is_secret(keys: Keys) -> bool:
    """Whether a value may not be shown: of a webhook not even its address, which may be all it takes."""
    if not keys:
        return False
    return keys[-1] in _SECRET_KEYS or "headers" in keys[:-1] or (keys[0], keys[-1]) == ("sinks", "url")
