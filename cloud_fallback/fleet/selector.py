r"""Selectors: which devices a deployment is for.

`profile=store-pc and region in (west, south) and not label=lab`

    expression   what `or` joins; `and` binds tighter, `not` tightest; parentheses as usual
    test         KEY=VALUE, KEY!=VALUE, KEY in (VALUE, …), KEY not in (VALUE, …), or `all`
    value        letters, digits and . _ - : / @ +, or anything in double quotes (\" and \\ inside)

A key that a device does not have equals nothing; a key with several values, as groups and labels, equals each
of them. Pure: a parser of its own, nothing is evaluated by Python or SQL.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from edge_runtime.contract.errors import ConfigError

Labels = Mapping[str, str | Collection[str]]
"""What is known of a device, by key: `profile`, `region`, `label` …"""

MAX_LENGTH = 2000
MAX_DEPTH = 30
"""Of parentheses and `not`s; deeper ones are nobody's intention."""

_TOO_DEEP = f"at most {MAX_DEPTH} parentheses and `not`s in one another"
_WORDS = frozenset({"and", "or", "not", "in", "all"})
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BARE = re.compile(r"[A-Za-z0-9._:/@+-]+")
_TOKEN = re.compile(
    r'\s*(?:(?P<quoted>"(?:[^"\\]|\\["\\])*")|(?P<bare>[A-Za-z0-9._:/@+-]+)|(?P<sign>!=|[=(),]))'
)


@dataclass(frozen=True, slots=True)
class Everything:
    """Every device."""

    def matches(self, labels: Labels) -> bool:
        """Say yes."""
        return True

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True, slots=True)
class Is:
    """A key has one of some values.

    Args:
        key: Of the labels.
        values: At least one; sorted, each once.
    """

    key: str
    values: tuple[str, ...]

    def matches(self, labels: Labels) -> bool:
        """Say whether a device has one of them."""
        has = labels.get(self.key, ())
        return has in self.values if isinstance(has, str) else any(each in self.values for each in has)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.key}={_written(self.values[0])}"
        return f"{self.key} in ({', '.join(map(_written, self.values))})"


@dataclass(frozen=True, slots=True)
class Not:
    """What another selector does not match."""

    of: "Selector"

    def matches(self, labels: Labels) -> bool:
        """Say whether the other one does not."""
        return not self.of.matches(labels)

    def __str__(self) -> str:
        return f"not {_grouped(self.of, All, Any)}"


@dataclass(frozen=True, slots=True)
class All:
    """What each of several selectors matches."""

    of: tuple["Selector", ...]

    def matches(self, labels: Labels) -> bool:
        """Say whether all do."""
        return all(each.matches(labels) for each in self.of)

    def __str__(self) -> str:
        return " and ".join(_grouped(each, Any) for each in self.of)


@dataclass(frozen=True, slots=True)
class Any:
    """What at least one of several selectors matches."""

    of: tuple["Selector", ...]

    def matches(self, labels: Labels) -> bool:
        """Say whether one does."""
        return any(each.matches(labels) for each in self.of)

    def __str__(self) -> str:
        return " or ".join(str(each) for each in self.of)


Selector = Everything | Is | Not | All | Any
"""`str` gives its canonical text, which parses to the same selector."""


def parse(text: str) -> Selector:
    """Read a selector.

    Args:
        text: As a person writes it.

    Returns:
        Something with `matches(labels)`.

    Raises:
        ConfigError: It is not one; the message names the column, counted from 1.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError("selector", expected=f"at most {MAX_LENGTH} characters", got=str(len(text)))
    half = next((place for place, sign in enumerate(text) if 0xD800 <= ord(sign) <= 0xDFFF), None)
    if half is not None:
        raise ConfigError(f"selector, column {half + 1}", expected="a whole character", got="half of one")
    found = _Parser(text).whole()
    if len(str(found)) > MAX_LENGTH:  # `!=` is longer there; what is kept has to be readable again
        raise ConfigError(
            "selector",
            expected=f"at most {MAX_LENGTH} characters in canonical form",
            got=str(len(str(found))),
        )
    return found


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    column: int
    kind: str

    @property
    def word(self) -> str:
        """What it is where it stands for itself; a quoted `and` is a value."""
        return "" if self.kind == "quoted" else self.text


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[_Token] = []
        self._depth = 0
        self._at = 0
        place = 0
        while match := _TOKEN.match(text, place):
            kind = match.lastgroup or ""
            written = match.group(kind)
            value = re.sub(r"\\(.)", r"\1", written[1:-1]) if kind == "quoted" else written
            self._tokens.append(_Token(value, match.start(kind) + 1, kind))
            place = match.end()
        rest = text[place:].lstrip()
        self._end = _Token("", len(text) + 1, "end")
        if rest:
            expected = "a closing quote" if rest[0] == '"' else "a name, a value or a sign"
            self._fail(_Token(rest[:20], len(text) - len(rest) + 1, "rest"), expected)

    def whole(self) -> Selector:
        found = self._any()
        if self._next.kind != "end":
            self._fail(self._next, "`and`, `or` or the end")
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else self._end

    def _take(self, *words: str) -> bool:
        if self._next.word not in words or self._next.kind == "end":
            return False
        self._at += 1
        return True

    def _any(self) -> Selector:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        flat = _unique(each for part in parts for each in (part.of if isinstance(part, Any) else (part,)))
        return flat[0] if len(flat) == 1 else Any(flat)

    def _all(self) -> Selector:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        flat = _unique(each for part in parts for each in (part.of if isinstance(part, All) else (part,)))
        return flat[0] if len(flat) == 1 else All(flat)

    def _not(self) -> Selector:
        start = self._next
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(start, _TOO_DEEP)
        found = self._negated() if self._take("not") else self._test()
        self._depth -= 1
        return found

    def _negated(self) -> Selector:
        return _opposite(self._not())

    def _test(self) -> Selector:
        if self._take("("):
            found = self._any()
            self._expect(")")
            return found
        if self._take("all"):
            return Everything()
        key = self._next
        if key.kind != "bare" or key.text in _WORDS or not _KEY.fullmatch(key.text):
            self._fail(key, "a key, `not`, `all` or `(`")
        self._at += 1
        if self._take("="):
            return Is(key.text, (self._value(),))
        if self._take("!="):
            return self._other_than(key, Is(key.text, (self._value(),)))
        outside = self._take("not")
        if not self._take("in"):
            self._fail(self._next, "`in`" if outside else "`=`, `!=`, `in` or `not in`")
        inside = Is(key.text, self._values())
        return self._other_than(key, inside) if outside else inside

    def _other_than(self, start: _Token, test: Is) -> Not:
        # Its canonical text has a `not`, which counts when it is parsed again.
        if self._depth >= MAX_DEPTH:
            self._fail(start, _TOO_DEEP)
        return Not(test)

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        found = {self._value()}
        while self._take(","):
            found.add(self._value())
        self._expect(")")
        return tuple(sorted(found))

    def _value(self) -> str:
        token = self._next
        if token.kind not in {"bare", "quoted"} or token.word in _WORDS:
            self._fail(token, "a value (in double quotes where it is a word of the language)")
        self._at += 1
        return token.text

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            self._fail(self._next, f"`{sign}`")

    def _fail(self, token: _Token, expected: str) -> NoReturn:
        got = "the end" if token.kind == "end" else repr(token.text)
        raise ConfigError(f"selector, column {token.column}", expected=expected, got=got)


def _unique(parts: Iterable[Selector]) -> tuple[Selector, ...]:
    return tuple(dict.fromkeys(parts))


def _opposite(selector: Selector) -> Selector:
    return selector.of if isinstance(selector, Not) else Not(selector)


def _grouped(selector: Selector, *looser: type) -> str:
    return f"({selector})" if isinstance(selector, looser) else str(selector)


def _written(value: str) -> str:
    if _BARE.fullmatch(value) and value not in _WORDS:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
