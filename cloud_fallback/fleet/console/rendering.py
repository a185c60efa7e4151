"""Templates to HTML: everything is escaped, and times, sizes and durations are written for people."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cloud_fallback.fleet import moments, quantities
from cloud_fallback.fleet.console import figures
from edge_runtime.web.assets import KINDS as SHARED
from edge_runtime.web.assets import asset

STATIC = {
    "console.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    **SHARED,
}


@cache
def static(name: str) -> bytes:
    """Read a file that pages name; only those of `STATIC` are asked for."""
    if name in SHARED:
        return asset(name)
    return (files("cloud_fallback.fleet.console") / "static" / name).read_bytes()


@cache
def _versioned(name: str) -> str:
    return f"/console/static/{name}?v={hashlib.sha256(static(name)).hexdigest()[:12]}"


def ago(moment: str | None, now_s: float) -> str:
    """Write how long ago something was."""
    if moment is None:
        return "never"
    past_s = now_s - moments.seconds(moment)
    return "just now" if past_s < 5 else f"{quantities.in_words(past_s).partition(' ')[0]} ago"


def day(moment: str) -> str:
    """Write when something was, to the minute."""
    return f"{moment[:16].replace('T', ' ')} UTC"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("cloud_fallback.fleet.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own: dict[str, Any] = {
        "ago": ago,
        "percent": quantities.percent,
        "duration": quantities.in_words,
        "size": quantities.size_in_words,
        "window": quantities.window_in_words,
        "bar": figures.bar,
        "day": day,
    }
    made.filters.update(own)
    functions: dict[str, Any] = {"static": _versioned}
    made.globals.update(functions)
    return made


def render(template: str, **values: Any) -> str:
    """Render a page.

    Args:
        template: Its name.
        values: What it shows.
    """
    return _environment().get_template(template).render(**values)
