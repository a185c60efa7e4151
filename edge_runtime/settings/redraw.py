"""Puts a drawing into the text of a `store.yaml`: what changed changes, comments and all else stay.

Writes no file and validates nothing; the loader does, before the text becomes the file.
"""

import copy
import io
from collections import Counter
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.tokens import CommentToken
from ruamel.yaml.util import load_yaml_guess_indent  # pyright: ignore[reportUnknownVariableType]

from edge_runtime.contract.errors import ConfigError
from edge_runtime.protocol.drawing import Drawing, DrawnLine, DrawnZone

_DRAWN = ("zones", "lines", "never_look")
_DIGITS = 4
# ruamel.yaml types none of its round trip: what a comment is attached to is known here alone.
_AFTER_KEY, _AFTER_ITEM = 2, 0


def redraw(text: str, camera: str, drawing: Drawing) -> str:
    """Put a drawing into a settings file.

    Args:
        text: Of the file.
        camera: Whose picture it was drawn over.
        drawing: What is to be in it.

    Returns:
        The new text.

    Raises:
        ConfigError: The file is not YAML, has no such camera, or shares the block with others.
    """
    yaml = _yaml(text)
    root: Any = yaml.load(text)
    cameras: Any = cast("Any", root).get("cameras") if isinstance(root, dict) else None
    found: Any = cast("Any", cameras).get(camera) if isinstance(cameras, dict) else None
    if not isinstance(found, CommentedMap):
        raise ConfigError(f"camera '{camera}'", expected="one that stands in the file", got="none")
    block: Any = found
    before = _plain(root)
    _named(block, "zones", {zone.was or "": zone for zone in drawing.zones if zone.was}, drawing.zones)
    _named(block, "lines", {line.was or "": line for line in drawing.lines if line.was}, drawing.lines)
    _polygons(block, "never_look", drawing.never_look)
    motion: Any = block.get("motion")
    if motion is None and drawing.masks:
        motion = _flow(CommentedMap())
        _put(block, "motion", motion)
    if motion is not None:
        _polygons(motion, "masks", drawing.masks)
    stream = io.StringIO()
    yaml.dump(root, stream)
    made = stream.getvalue()
    if _others(_plain(_yaml(made).load(made)), camera) != _others(before, camera):
        raise ConfigError(
            f"camera '{camera}' shares its block with others in the file",
            expected="values of its own",
            got="an alias (*name) or a merge (<<)",
            do="Write the camera's values out",
        )
    return made


def _yaml(text: str) -> Any:
    yaml: Any = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    try:
        _, indent, offset = cast("Any", load_yaml_guess_indent)(text)
    except YAMLError as error:
        raise ConfigError(f"the settings file is not YAML: {error}", do="Correct the file.") from error
    yaml.indent(mapping=2, sequence=indent or 4, offset=2 if offset is None else offset)
    return yaml


def _named(block: Any, key: str, known: dict[str, Any], drawn: list[Any]) -> None:
    """Bring zones or lines up to date."""
    found: Any = block.get(key)
    if found is None:
        if not drawn:
            return
        found = CommentedMap()
        _put(block, key, found)
    twice = [name for name, count in Counter(shape.name for shape in drawn).items() if count > 1]
    if twice:
        raise ConfigError(f"two {key} are called '{twice[0]}'", do="Give each its own name.")
    if not drawn:
        _remove(block, key)
        return
    for name in [name for name in found if name not in known]:
        _remove(found, name)
    moving = [(was, shape.name) for was, shape in known.items() if was in found and was != shape.name]
    for number, (was, _) in enumerate(moving):  # two may change places
        _rename(found, was, f"\0{number}")
    for number, (_, name) in enumerate(moving):
        _rename(found, f"\0{number}", name)
    for shape in drawn:
        if shape.name not in found:
            _put(found, shape.name, _flow(CommentedMap()))
        _shape(found[shape.name], shape)


def _shape(entry: Any, shape: DrawnZone | DrawnLine) -> None:
    if isinstance(shape, DrawnZone):
        _set(entry, "polygon", [list(point) for point in shape.polygon])
        if shape.dwell_s is not None:
            _set(entry, "dwell_s", shape.dwell_s)
        elif "dwell_s" in entry:
            _remove(entry, "dwell_s")
        return
    _set(entry, "from", list(shape.start))
    _set(entry, "to", list(shape.end))
    for key, word in (("a_to_b", shape.a_to_b), ("b_to_a", shape.b_to_a)):
        if entry.get(key, key) != word:
            _set(entry, key, word)


def _polygons(block: Any, key: str, polygons: list[Any]) -> None:
    if polygons or block.get(key):
        _set(block, key, [[list(point) for point in polygon] for polygon in polygons])


def _set(entry: Any, key: str, value: Any) -> None:
    value = _rounded(value)
    if key not in entry or _plain(entry[key]) != value:
        _put(entry, key, _flowing(value))


def _put(mapping: Any, key: str, value: Any) -> None:
    """Set a value; comments that follow what stood there, or what stood last, stay behind it."""
    tail = ""
    if key in mapping:
        tail = _cut_tail(mapping[key])
    elif mapping and not mapping.fa.flow_style():
        tail = _cut_after(mapping)
    mapping[key] = value
    _append(mapping, key, tail)


def _remove(mapping: Any, key: str) -> None:
    """Remove a key; comments below it, which are about what follows, stay."""
    keys = list(mapping)
    tail = _cut_tail(mapping[key]) or _cut(mapping.ca.items.get(key), _AFTER_KEY)
    del mapping[key]
    mapping.ca.items.pop(key, None)
    place = keys.index(key)
    if place > 0:
        before = keys[place - 1]
        if not _extend_tail(mapping[before], tail):
            _append(mapping, before, tail)


def _rename(mapping: Any, old: str, new: str) -> None:
    place = list(mapping).index(old)
    comment = mapping.ca.items.pop(old, None)
    value = mapping.pop(old)
    mapping.insert(place, new, value)
    if comment is not None:
        mapping.ca.items[new] = comment


def _cut_after(mapping: Any) -> str:
    """Cut off what stands behind the line of a mapping's last entry."""
    key = list(mapping)[-1]
    return _cut_tail(mapping[key]) or _cut(mapping.ca.items.get(key), _AFTER_KEY)


def _cut_tail(value: Any) -> str:
    """Cut off what stands behind a block; nothing is attached inside of a flow or a scalar."""
    if isinstance(value, CommentedMap) and value and not value.fa.flow_style():
        return _cut_after(value)
    if isinstance(value, CommentedSeq) and value and not value.fa.flow_style():
        return _cut_tail(value[-1]) or _cut(value.ca.items.get(len(value) - 1), _AFTER_ITEM)
    return ""


def _cut(comments: Any, place: int) -> str:
    token: Any = comments[place] if comments else None
    if token is None:
        return ""
    line, mark, rest = token.value.partition("\n")
    token.value = line + mark
    return rest


def _extend_tail(value: Any, tail: str) -> bool:
    """Add comments behind a block; says whether it is one."""
    if not isinstance(value, CommentedMap | CommentedSeq) or not value or cast("Any", value).fa.flow_style():
        return False
    block: Any = value
    key, place = (
        (list(block)[-1], _AFTER_KEY) if isinstance(value, CommentedMap) else (len(block) - 1, _AFTER_ITEM)
    )
    if not _extend_tail(block[key], tail):
        _append(block, key, tail, place)
    return True


def _append(mapping: Any, key: str | int, tail: str, place: int = _AFTER_KEY) -> None:
    if not tail:
        return
    comments = mapping.ca.items.setdefault(key, [None, None, None, None])
    if comments[place] is None:
        comments[place] = CommentToken("\n" + tail, CommentMark(0), None)
    else:
        comments[place].value += tail


def _flow(value: Any) -> Any:
    value.fa.set_flow_style()
    return value


def _flowing(value: Any) -> Any:
    if isinstance(value, list):
        return _flow(CommentedSeq(_flowing(each) for each in cast("list[Any]", value)))
    return value


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in cast("list[Any]", value)]
    if isinstance(value, float):
        short = round(value, _DIGITS)
        return int(short) if short == int(short) else short
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[Any]", value)]
    return copy.copy(value)


def _others(root: Any, camera: str) -> Any:
    """Give a file's data without what is drawn over one camera."""
    block: dict[str, Any] = dict(root["cameras"][camera])
    for key in _DRAWN:
        block.pop(key, None)
    block["motion"] = dict(block.get("motion") or {})
    block["motion"].pop("masks", None)
    cameras: dict[str, Any] = {**root["cameras"], camera: block}
    return {**cast("dict[str, Any]", root), "cameras": cameras}
