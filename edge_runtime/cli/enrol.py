"""`edge-runtime enrol`: makes this machine a device of a fleet. Starts nothing."""

from importlib.metadata import version
from pathlib import Path

from rich.markup import escape

from device_profiles.loader import load_profile
from edge_runtime.cli.shell import console, print_json
from edge_runtime.contract.errors import ConfigError
from edge_runtime.counts.timezone import is_zone, local_timezone
from edge_runtime.engines.machine import detect_profile


def enrol_here(
    manager: str,
    *,
    token: str,
    name: str | None,
    ca_file: Path | None,
    folder: Path,
    profile: str | None,
    timezone: str | None,
    as_json: bool,
) -> None:
    """Enrol and say what came of it.

    Raises:
        ConfigError: An option is wrong, or the extra `fleet` is not installed.
        EdgeRuntimeError: As `enrolling.enrol`.
    """
    try:
        from edge_runtime.fleet.enrolling import Wish, enrol
    except ModuleNotFoundError as error:
        raise ConfigError(
            "a fleet needs more packages", got=str(error), do="pip install 'edge-runtime[fleet]'"
        ) from error
    screen = console(as_json=as_json)
    wish = Wish(
        token=token,
        name=name,
        profile=(load_profile(profile) if profile else detect_profile(try_engines=False)).name,
        agent=version("edge-runtime"),
        timezone=_checked(timezone) if timezone else local_timezone(),
    )
    with screen.status("Enrolling …"):
        found, new = enrol(manager, wish, folder, ca_file=ca_file)
    if as_json:
        print_json(
            {
                "tenant": found.tenant,
                "device": found.device,
                "profile": found.profile,
                "manager": found.manager_url,
                "broker": f"{found.broker_host}:{found.broker_port}",
                "folder": str(folder),
                "new": new,
            }
        )
        return
    said = "is enrolled" if new else "was enrolled already: nothing was asked and nothing changed"
    screen.print(f"[bold]{escape(found.device)}[/] of {escape(found.tenant)} {said}.")
    screen.print(f"Name it in store.yaml: [bold]fleet: {{folder: {escape(str(folder))}}}[/]", soft_wrap=True)


def _checked(timezone: str) -> str:
    if not is_zone(timezone):
        raise ConfigError("--timezone", expected="a name as Europe/Berlin", got=timezone)
    return timezone
