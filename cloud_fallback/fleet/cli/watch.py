"""`fleet watch`: rollouts as they go on, until they have ended. Changes nothing.

The manager says over server-sent events that something changed; how it stands now is asked for. Where there
are no such events, it is asked every two seconds.
"""

import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live

from cloud_fallback.fleet.cli.deployments import deployment_table
from cloud_fallback.fleet.cli.options import Ca, Json, Token, Url, asking, quoted
from cloud_fallback.fleet.cli.screen import console
from edge_runtime.cli.shell import ExitCode, print_json
from edge_runtime.contract.errors import EdgeRuntimeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cloud_fallback.fleet.cli.client import Manager
    from cloud_fallback.fleet.views import DeploymentView

POLL_S = 2.0
STREAMING_POLL_S = 10.0
"""Events can be lost with a connection; so it is asked now and then all the same."""
_PAUSE_S = 0.3
ENDED_WELL = frozenset({"completed"})
ENDED_BADLY = frozenset({"halted", "reverted", "cancelled"})


def watch(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Of a deployment; absent: all live ones.")
    ] = None,
    manager: Url = None,
    token: Token = None,
    ca: Ca = None,
    as_json: Json = False,
) -> None:
    """Follow a rollout until it has ended; exit code 10 if it halted, was reverted or cancelled."""
    with asking(manager, token, ca, as_json=as_json) as fleet:
        changes = Changes(fleet)
        screen = console(as_json=as_json)
        last = follow(lambda: _fetch(fleet, id_), changes.wait, screen, ended_too=id_ is not None)
        if as_json:
            print_json({"deployments": last})
        if any(each.phase in ENDED_BADLY for each in last):
            raise typer.Exit(int(ExitCode.UPDATE))


def follow(
    fetch: "Callable[[], Sequence[DeploymentView]]",
    wait: "Callable[[], None]",
    screen: Console,
    *,
    ended_too: bool,
) -> "Sequence[DeploymentView]":
    """Show rollouts until all have ended: drawn anew on a terminal, a line for each change elsewhere.

    Args:
        fetch: Asks how they stand.
        wait: Returns when that may have changed.
        screen: Where to.
        ended_too: Whether those are shown, too, that have ended before.

    Returns:
        How they stood at the end.
    """
    seen = [each for each in fetch() if ended_too or not _ended(each)]
    names = {each.deployment.id for each in seen}
    if not names:
        screen.print("No rollout is under way.")
    if screen.is_terminal:
        with Live(_drawn(seen), console=screen, auto_refresh=False) as live:
            while not _all_ended(seen):
                wait()
                seen = [each for each in fetch() if each.deployment.id in names]
                live.update(_drawn(seen), refresh=True)
        return seen
    lines: dict[str, str] = {}
    while True:
        for each in seen:
            text = line(each)
            if lines.get(each.deployment.id) != text:
                lines[each.deployment.id] = text
                screen.print(text, markup=False, soft_wrap=True)
        if _all_ended(seen):
            return seen
        wait()
        seen = [each for each in fetch() if each.deployment.id in names]


def line(one: "DeploymentView") -> str:
    """Say in a line how a rollout stands."""
    total = sum(wave.devices for wave in one.waves)
    well = sum(wave.standings.get("succeeded", 0) for wave in one.waves)
    wave = f"wave {one.wave + 1}/{len(one.waves)}" if one.wave >= 0 else "no wave yet"
    counts = f"{one.reached}/{total} reached, {well} well, {one.failed} failed"
    if one.held:
        counts += f", {one.held} held by other rollouts"
    return f"{one.deployment.id}: {one.phase.value}, {wave}, {counts}" + (
        f" – {one.reason}" if one.reason else ""
    )


def _drawn(seen: "Sequence[DeploymentView]") -> Group:
    return Group(*map(deployment_table, seen))


def _all_ended(seen: "Sequence[DeploymentView]") -> bool:
    return all(map(_ended, seen))


def _ended(one: "DeploymentView") -> bool:
    return one.phase in ENDED_WELL | ENDED_BADLY


def _fetch(fleet: "Manager", id_: str | None) -> "Sequence[DeploymentView]":
    from cloud_fallback.fleet.cli.answers import Deployments
    from cloud_fallback.fleet.views import DeploymentView

    if id_ is not None:
        return [fleet.get(f"/v1/deployments/{quoted(id_)}", DeploymentView)]
    return fleet.get("/v1/deployments", Deployments, limit=500).deployments


class Changes:
    """Says when something may have changed at a manager.

    Args:
        manager: To listen to.
    """

    def __init__(self, manager: "Manager") -> None:
        self._manager = manager
        self._changed = threading.Event()
        self._streaming = True
        threading.Thread(target=self._listen, name="fleet-watch", daemon=True).start()

    def wait(self) -> None:
        """Return after a change, or when it is time to ask all the same."""
        self._changed.wait(STREAMING_POLL_S if self._streaming else POLL_S)
        self._changed.clear()
        time.sleep(_PAUSE_S)  # changes come in swarms: one question for all of them

    def _listen(self) -> None:
        try:
            for text in self._manager.stream("/v1/watch"):
                if text.startswith("data:"):
                    self._changed.set()
        except EdgeRuntimeError:
            pass  # the manager is asked every two seconds from now on, and its errors are shown then
        finally:
            self._streaming = False
            self._changed.set()
