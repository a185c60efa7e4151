"""A YAML file as plain data that still knows which line everything stands in.

Fills in `${NAME}` from the environment and refuses duplicate keys. Knows no field of any settings.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from edge_runtime.contract.errors import ConfigError

Keys: TypeAlias = tuple[str | int, ...]
Mark: TypeAlias = tuple[str, int]
"""A file's name and a line, from 1; line 0 is outside the file."""

_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")
_MAX_BYTES = 4 * 2**20
_MAX_NODES = 100_000
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(slots=True)
class Document:
    """Plain data with its marks.

    Args:
        name: The file, as the user named it.
        data: Dicts, lists and scalars.
        marks: Where each key and list entry stands.
        written: Scalars filled in from the environment, as the file has them.
        faults: What is wrong already: duplicate keys, unset variables; as (keys, problem, what to do).
    """

    name: str
    data: Any = None
    marks: dict[Keys, Mark] = field(default_factory=dict[Keys, Mark])
    written: dict[Keys, str] = field(default_factory=dict[Keys, str])
    faults: list[tuple[Keys, str, str]] = field(default_factory=list[tuple[Keys, str, str]])

    def has(self, keys: Keys) -> bool:
        """Tell whether something stands there."""
        value = self.data
        for key in keys:
            if not (isinstance(value, dict) and key in value) and not (
                isinstance(value, list) and isinstance(key, int) and key < len(cast("list[object]", value))
            ):
                return False
            value = cast("Any", value)[key]
        return True

    def value(self, keys: Keys) -> Any:
        """Give what stands there; None where nothing does."""
        if not self.has(keys):
            return None
        value = self.data
        for key in keys:
            value = value[key]
        return value

    def mark(self, keys: Keys) -> Mark:
        """Give the mark of a place, or of the nearest place around it."""
        while keys and keys not in self.marks:
            keys = keys[:-1]
        return self.marks.get(keys, (self.name, 1))

    def line(self, keys: Keys) -> int:
        """Give the line of a place, from 1."""
        return self.mark(keys)[1]

    def place(self, keys: Keys) -> str:
        """Write a mark for a person and for an editor: `store.yaml:14`."""
        file, line = self.mark(keys)
        return f"{file}:{line}" if line else file

    def put(self, keys: Keys, other: "Document") -> None:
        """Set another document in place of what stands at `keys`, with its own marks."""
        parent = self.value(keys[:-1])
        parent[keys[-1]] = other.data
        self.marks[keys] = other.mark(())
        self.marks |= {keys + inner: mark for inner, mark in other.marks.items()}
        self.written |= {keys + inner: text for inner, text in other.written.items()}
        self.faults += [(keys + inner, problem, do) for inner, problem, do in other.faults]

    def under(self, other: "Document", own: Collection[str]) -> "Document":
        """Give another document with some blocks of this one, each with its own marks.

        Args:
            other: Both are mappings.
            own: Keys of this one's blocks that stay; what else this one has is left out.
        """
        both = Document(
            other.name, dict(other.data), dict(other.marks), dict(other.written), list(other.faults)
        )
        kept = [key for key in own if key in self.data]
        both.data |= {key: self.data[key] for key in kept}
        both.marks |= {keys: mark for keys, mark in self.marks.items() if keys and keys[0] in kept}
        both.written |= {keys: text for keys, text in self.written.items() if keys and keys[0] in kept}
        both.faults += [fault for fault in self.faults if fault[0] and fault[0][0] in kept]
        return both


def read_document(path: Path, environment: Mapping[str, str], name: str | None = None) -> Document:
    """Read a YAML file.

    Args:
        path: The file.
        environment: Where `${NAME}` and `${NAME:-default}` come from; `$$` stands for one `$`.
        name: What a person knows the file by; None: its path.

    Returns:
        The data with its marks, and its faults.

    Raises:
        ConfigError: The file cannot be read or is not YAML.
    """
    shown = name or str(path)
    text = _read(path, shown)
    # ruamel.yaml types none of this.
    yaml: Any = YAML(typ="safe", pure=True)
    try:
        root = cast("Node | None", yaml.compose(text))
    except MarkedYAMLError as error:
        raise _syntax_error(shown, text, error) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown}: not YAML: {error}", do="Correct the file.") from error
    document = Document(shown)
    if root is None:
        return document
    document.data = _Reader(document, yaml.constructor, environment).read(root, ())
    return document


def _read(path: Path, shown: str) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{shown}: too large", expected=f"at most {_MAX_BYTES} bytes")
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{shown}: not text", expected="UTF-8", got=f"byte {error.object[error.start]:#04x}"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", do="Give the path of a readable YAML file."
        ) from error


def _syntax_error(shown: str, text: str, error: MarkedYAMLError) -> ConfigError:
    marks: list[Any] = [error.problem_mark, error.context_mark]
    line = next((int(mark.line) + 1 for mark in marks if mark), 1)
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    if "${" in here:
        do = 'Inside { } or [ ], put "${NAME}" in double quotes.'
    elif "\t" in here[: len(here) - len(here.lstrip())]:
        do = "Indent with spaces, not tabs."
    else:
        do = "Correct the line, or one just above it."
    return ConfigError(f"{shown}:{line}: not YAML: {error.problem or error.context}", do=do)


class _Reader:
    """Makes plain data of nodes; one reader a document."""

    def __init__(self, document: Document, constructor: Any, environment: Mapping[str, str]) -> None:
        self._document = document
        self._constructor = constructor
        self._environment = environment
        self._nodes = 0
        self._open: list[Node] = []

    def read(self, node: Node, keys: Keys) -> Any:
        self._document.marks.setdefault(keys, (self._document.name, _line(node)))
        self._enter(node)
        if isinstance(node, MappingNode):
            value: Any = self._mapping(node, keys)
        elif isinstance(node, SequenceNode):
            value = [
                self.read(item, (*keys, index)) for index, item in enumerate(cast("list[Node]", node.value))
            ]
        else:
            value = self._scalar(cast("ScalarNode", node), keys)
        self._open.pop()
        return value

    def _enter(self, node: Node) -> None:
        """Refuse an alias that stands inside its own anchor, and aliases that unfold without end."""
        self._nodes += 1
        if any(node is outer for outer in self._open) or self._nodes > _MAX_NODES:
            raise ConfigError(
                f"{self._document.name}:{_line(node)}: an alias that never ends", do="Write the values out."
            )
        self._open.append(node)

    def _mapping(self, node: MappingNode, keys: Keys) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: list[Node] = []
        for key_node, value_node in _pairs(node):
            if _tag(key_node) == _MERGE:
                merged += cast("list[Node]", value_node.value) if _is_list(value_node) else [value_node]
                continue
            place = (*keys, str(key_node.value))
            if place[-1] in data:
                problem = f"twice in this block, first in line {self._document.line(place)}"
                self._document.faults.append((place, problem, "Keep one."))
            self._document.marks[place] = (self._document.name, _line(key_node))
            data[place[-1]] = self.read(value_node, place)
        for source in merged:
            self._merge(source, keys, data)
        return data

    def _merge(self, node: Node, keys: Keys, data: dict[str, Any]) -> None:
        """Add what stands behind `<<`; the block's own keys win."""
        if not isinstance(node, MappingNode):
            raise ConfigError(
                f"{self._document.name}:{_line(node)}: '<<' takes a mapping", do="Give it an alias: <<: *name"
            )
        self._enter(node)
        for key_node, value_node in _pairs(node):
            if _tag(key_node) == _MERGE:
                for source in cast("list[Node]", value_node.value) if _is_list(value_node) else [value_node]:
                    self._merge(source, keys, data)
            elif (key := str(key_node.value)) not in data:
                data[key] = self.read(value_node, (*keys, key))
        self._open.pop()

    def _scalar(self, node: ScalarNode, keys: Keys) -> Any:
        value = self._constructor.construct_object(node, deep=True)
        if not isinstance(value, str) or "$" not in value:
            return value
        filled = _VARIABLE.sub(lambda match: self._fill(match, keys), value)
        if filled != value:
            self._document.written[keys] = value
        return filled

    def _fill(self, match: re.Match[str], keys: Keys) -> str:
        if match[1]:
            return "$"
        name, default = match[2], cast("str | None", match[3])
        value = self._environment.get(name, default)
        if value is None:
            self._document.faults.append(
                (
                    keys,
                    f"the environment variable {name} is not set",
                    f"Set it, or write ${{{name}:-default}}.",
                )
            )
            return match.group()
        return value


# ruamel.yaml leaves its nodes untyped; these four say what this module relies on.
def _line(node: Any) -> int:
    return cast("int", node.start_mark.line) + 1


def _tag(node: Any) -> str:
    return str(node.tag)


def _pairs(node: MappingNode) -> list[tuple[Any, Any]]:
    return cast("list[tuple[Any, Any]]", node.value)


def _is_list(node: object) -> bool:
    return isinstance(node, SequenceNode)
