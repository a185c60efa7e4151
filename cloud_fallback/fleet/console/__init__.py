"""The web console: pages for people, rendered here, over the same functions as the API.

`make_console` gives the routes, `attach` puts them on the manager's application. Holds no SQL and no rule of
a rollout; what it reads and does is `ports.ConsoleData`.
"""

from fastapi import APIRouter, FastAPI

from cloud_fallback.fleet.console import actions, routes
from cloud_fallback.fleet.console.manager_data import deps_for
from cloud_fallback.fleet.console.ports import ConsoleData, Deps, Person

__all__ = ["ConsoleData", "Deps", "Person", "attach", "deps_for", "make_console"]


def make_console() -> APIRouter:
    """Give the console's routes, below `/console`; the application's `state.console` has its `Deps`."""
    router = APIRouter()
    router.include_router(actions.router)
    router.include_router(routes.router)
    return router


def attach(app: FastAPI, deps: Deps) -> None:
    """Put the console on an application.

    Args:
        app: Of the manager, or of its own.
        deps: What the console stands on.
    """
    app.state.console = deps
    app.include_router(make_console())
