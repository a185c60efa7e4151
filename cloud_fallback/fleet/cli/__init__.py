"""`edge-runtime fleet`: what the manager of a fleet types. Each command imports what it needs when called."""

import typer

from cloud_fallback.fleet.cli.deployments import (
    approve,
    cancel,
    deploy,
    halt,
    pause,
    releases,
    resume,
    revert,
    status,
)
from cloud_fallback.fleet.cli.devices import change, command, devices, enrol_token, revoke
from cloud_fallback.fleet.cli.events import audit, events
from cloud_fallback.fleet.cli.init import init
from cloud_fallback.fleet.cli.keys import keys
from cloud_fallback.fleet.cli.login import login
from cloud_fallback.fleet.cli.manager import manager
from cloud_fallback.fleet.cli.publish import publish
from cloud_fallback.fleet.cli.tokens import tokens
from cloud_fallback.fleet.cli.watch import watch
from cloud_fallback.fleet.cli.withdraw import withdraw

app = typer.Typer(
    help="Manage a fleet: enrol devices, publish versions, roll them out.", no_args_is_help=True
)

_GROUPS = {
    "Devices": {
        "devices": devices,
        "enrol-token": enrol_token,
        "change": change,
        "command": command,
        "revoke": revoke,
    },
    "Versions and rollouts": {
        "publish": publish,
        "withdraw": withdraw,
        "releases": releases,
        "deploy": deploy,
        "status": status,
        "watch": watch,
        "approve": approve,
        "pause": pause,
        "resume": resume,
        "halt": halt,
        "revert": revert,
        "cancel": cancel,
    },
    "The manager": {"init": init, "manager": manager, "login": login, "events": events, "audit": audit},
}
for _panel, _commands in _GROUPS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(keys, name="keys", rich_help_panel="Versions and rollouts")
app.add_typer(tokens, name="tokens", rich_help_panel="The manager")
