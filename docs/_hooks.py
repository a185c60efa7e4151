"""Fills the generated parts of the reference when the documentation is built: commands, settings, decisions.

Writes no file; what is generated cannot get old.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from typer.testing import CliRunner

from edge_runtime.cli.app import app
from edge_runtime.routing.table import choose_table, judge_table, retry_table
from edge_runtime.settings.schema import store_schema

COMMANDS = (
    "run", "check", "predict", "bench", "convert", "demo", "schema", "profile list",
    "profile show", "profile detect",
    "bundle show", "bundle verify", "bundle diff", "bundle extract", "bundle pack",
    "bundle sign", "bundle keygen",
    "route explain", "route calibrate",
)  # fmt: skip
BLOCKS = {
    "AgentSettings": "The file",
    "ModelSettings": "models.NAME",
    "EngineSettings": "models.NAME.engine",
    "RouteSettings": "models.NAME.route",
    "CameraSettings": "cameras.NAME",
    "MotionSettings": "cameras.NAME.motion",
    "TrackerSettings": "cameras.NAME.tracker",
    "HealthSettings": "cameras.NAME.health",
    "ZoneSettings": "cameras.NAME.zones.NAME",
    "LineSettings": "cameras.NAME.lines.NAME",
    "JsonlSinkSettings": "sinks: type jsonl",
    "MqttSinkSettings": "sinks: type mqtt",
    "VideoSinkSettings": "sinks: type video",
    "ReportSinkSettings": "sinks: type report",
    "DegradeSettings": "degrade",
    "DoorSettings": "door",
    "CloudSettings": "cloud",
    "OutboxSettings": "outbox",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the marks of generated parts; called by mkdocs for every page."""
    for mark, write in (
        ("<!-- every command -->", _commands),
        ("<!-- every setting -->", _settings),
        ("<!-- decision table -->", choose_table),
        ("<!-- cascade table -->", judge_table),
        ("<!-- retry table -->", retry_table),
    ):
        if mark in markdown:
            markdown = markdown.replace(mark, "\n".join(write()))
    return markdown


def _commands() -> Iterator[str]:
    runner = CliRunner(env={"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "100"})
    for command in COMMANDS:
        text = runner.invoke(app, [*command.split(), "--help"]).stdout
        yield f"\n## {command}\n\n```text\n{text.strip()}\n```"


def _settings() -> Iterator[str]:
    schema = store_schema()
    for name, title in BLOCKS.items():
        block = schema if name == "AgentSettings" else schema["$defs"][name]
        yield f"\n## {title}\n\n{block['description']}\n"
        yield "| key | type | default | what it is |\n|---|---|---|---|"
        for key, rule in block["properties"].items():
            default = "**needed**" if key in block.get("required", ()) else f"`{rule.get('default', '')}`"
            says = rule.get("description", "").replace("|", "\\|")
            yield f"| `{key}` | {_type(rule)} | {default.replace('``', '')} | {says} |"


def _type(rule: Mapping[str, Any]) -> str:
    if "const" in rule:
        return f"`{rule['const']}`"
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    members = [member for member in rule.get("anyOf", ()) if member.get("type") != "null"]
    if members:
        return " or ".join(_type(member) for member in members)
    return {"object": "mapping", "array": "list", None: "mapping"}.get(
        rule.get("type"), str(rule.get("type"))
    )
