"""The JSON schema of `store.yaml`: for editors, and to know which keys a block may have.

Validates nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from edge_runtime.settings.model import AgentSettings

Schema = Mapping[str, Any]


def store_schema() -> dict[str, Any]:
    """Make the schema that `examples/store.schema.json` holds."""
    schema = AgentSettings.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "store.yaml of edge-runtime",
    }


def known_keys(schema: Schema, keys: tuple[str | int, ...], data: object) -> list[str]:
    """List the keys that a block of a document may have.

    Args:
        schema: What the document should be.
        keys: Where the block stands.
        data: The document; where a block may be one of several kinds, its own `type` or `kind` decides.

    Returns:
        The names, without doubles.
    """
    here = list(_members(schema, schema, data))
    value: Any = data
    for key in keys:
        value = value[key]
        here = [
            found
            for outer in here
            for inner in _below(outer, key)
            for found in _members(schema, inner, value)
        ]
    return list(dict.fromkeys(name for found in here for name in found.get("properties", {})))


def _below(schema: Schema, key: str | int) -> Iterator[Schema]:
    if isinstance(key, int):
        inner = schema.get("items")
    else:
        # Names have a pattern, so pydantic writes a mapping by name as patternProperties.
        named = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
        inner = schema.get("properties", {}).get(key, named)
    if isinstance(inner, dict):
        yield cast("Schema", inner)


def _members(root: Schema, schema: Schema, value: object) -> Iterator[Schema]:
    """Follow references and unions down to plain schemas that do not contradict the value's kind."""
    if "$ref" in schema:
        yield from _members(root, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value)
        return
    unions = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    for member in unions:
        yield from _members(root, member, value)
    if unions:
        return
    given: Mapping[str, object] = cast("Mapping[str, object]", value) if isinstance(value, dict) else {}
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if all(
        "const" not in rule or given.get(name, rule["const"]) == rule["const"]
        for name, rule in properties.items()
    ):
        yield schema
