"""The audit as a page: the policy that holds, and what was done with pictures, newest first.

Writes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from edge_runtime.protocol import json_document
from edge_runtime.sinks.audit import Audit
from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.page.extension import Sheet, text
from edge_runtime.web.routing_table import Way

_SHOWN = 200
_WORDS = {
    "blur": "Hidden in pictures",
    "labels": "Classes that are people",
    "sinks": "Where pictures go",
    "never_look": "Regions never looked at, by camera",
    "fleet_snapshots": "Pictures for the fleet's manager",
    "cloud": "Cloud",
    "never_leave": "Data that never leaves, by model",
}


class AuditPage:
    """The page extension; its entry is `Privacy`.

    Args:
        audit: The list.
        left: Gives the newest entries of what left for the cloud, the newest first.
        policy: Gives what `policy_of` says of the settings that hold now.
    """

    title = "Privacy"
    path = "/privacy"

    def __init__(
        self,
        audit: Audit,
        left: Callable[[], Sequence[Mapping[str, Any]]],
        policy: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._audit = audit
        self._left = left
        self._policy = policy

    def ways(self) -> Sequence[Way]:
        """Give the page, and the same as JSON."""
        return (
            Way("GET", self.path, self.show, "What is hidden, kept and sent", "Page"),
            Way("GET", f"{self.path}/entries", self.entries, "The same as JSON", "Page"),
        )

    async def show(self, _: Exchange) -> Sheet:
        """Show the policy and the newest entries."""
        policy = "".join(
            f"<tr><th scope=row>{text(_WORDS.get(key, key))}</th><td>{_value(value)}</td></tr>"
            for key, value in self._policy().items()
        )
        entries = "".join(_row(entry) for entry in self._audit.newest(_SHOWN))
        body = (
            f"<h1>Privacy</h1><table>{policy}</table><h2>What was done</h2>"
            "<table class=stack><thead><tr><th>Time (UTC)</th><th>What</th><th>By</th><th>Details</th></tr>"
            "</thead>"
            f"<tbody>{entries}</tbody></table>"
        )
        left = "".join(_departure(entry) for entry in self._left())
        if left:
            body += (
                "<h2>What left for the cloud</h2><table class=stack><thead><tr><th>Time (UTC)</th>"
                "<th>Model</th><th>How</th><th>What it held</th><th>Why</th></tr></thead>"
                f"<tbody>{left}</tbody></table>"
            )
        return Sheet(body.encode(), title=self.title)

    async def entries(self, _: Exchange) -> Reply:
        """Give the policy and the newest entries as JSON."""
        found = {
            "policy": dict(self._policy()),
            "entries": list(self._audit.newest(_SHOWN)),
            "left": list(self._left()),
        }
        return Reply(json_document.write(found))


def _departure(entry: Mapping[str, Any]) -> str:
    held = f"{', '.join(entry.get('data', ()))} · {entry.get('bytes', 0)} bytes"
    cells = (
        ("Time (UTC)", _moment(entry)),
        ("Model", entry.get("model", "")),
        ("How", entry.get("how", "")),
        ("What it held", held),
        ("Why", entry.get("why", "")),
    )
    plain = "".join(f'<td data-label="{label}">{text(cell)}</td>' for label, cell in cells)
    return f"<tr>{plain}</tr>"


def _moment(entry: Mapping[str, Any]) -> str:
    return str(entry.get("time", ""))[:19].replace("T", " ")


def _row(entry: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in entry.items() if key not in {"v", "time", "act", "who"}}
    act = str(entry.get("act", "")).replace("_", " ")
    cells = (("Time (UTC)", _moment(entry)), ("What", act), ("By", entry.get("who", "")))
    plain = "".join(f'<td class=tight data-label="{label}">{text(cell)}</td>' for label, cell in cells)
    details = "; ".join(f"{text(key.replace('_', ' '))}: {_value(value)}" for key, value in rest.items())
    return f"<tr>{plain}<td data-label=Details>{details or '–'}</td></tr>"


def _value(value: object) -> str:
    return text(_words(value)) or "none"


def _words(value: object) -> str:
    """Write a JSON value for a person: `person, child`; `door 2, till none`."""
    if isinstance(value, dict):
        pairs = cast("Mapping[str, object]", value).items()
        return ", ".join(f"{key.replace('_', ' ')} {_words(each) or 'none'}" for key, each in pairs)
    if isinstance(value, list):
        return "; ".join(_words(each) for each in cast("Sequence[object]", value))
    return str(value)
