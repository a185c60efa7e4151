"""`edge-runtime demo --live`: the shipped clip at its own pace, again and again, with the page, until Ctrl-C.

Runs what `edge-runtime run` runs, on a live.yaml that the user finds in the folder and may change.
"""

from pathlib import Path

from edge_runtime.agent import Agent
from edge_runtime.cli.demo import prepare
from edge_runtime.cli.logs import log_to
from edge_runtime.cli.shell import ExitCode, console, print_json
from edge_runtime.cli.status_table import status_table
from edge_runtime.cli.stopping import stop_on_signals
from edge_runtime.settings import load_settings

SETTINGS = "live.yaml"


def run_live(folder: Path, *, port: int | None, as_json: bool) -> ExitCode:
    """Run the demo until somebody stops it.

    Args:
        folder: Where settings and results go; a live.yaml that is there already is kept and used.
        port: Of the page; None: as the settings say.
        as_json: Print the last status as JSON.

    Raises:
        EdgeRuntimeError: The extra `web` is not installed, the port is taken, …
    """
    screen = console(as_json=as_json)
    log_to(screen, quiet=True)
    store = prepare(folder, SETTINGS)
    settings = load_settings(store)
    if port is not None and settings.page is not None:
        settings = settings.model_copy(update={"page": settings.page.model_copy(update={"port": port})})
    with stop_on_signals() as stop:
        agent = Agent(settings, store)
        if agent.page is not None:
            screen.print(f"The page: [bold]{agent.page.url}[/]   Ctrl-C ends it.", soft_wrap=True)
        status = agent.run(stop)
    if as_json:
        print_json(status)
    else:
        screen.print(status_table(status))
    return ExitCode.OK
