"""The same endpoint on a Ray cluster: replicas that come and go with the load, models where there is room.

    serve run cloud_fallback.serving.ray_app:app bundles=/models keys=/etc/keys.json max_replicas=8

Every replica is the whole endpoint of `app`, its own batchers included. With `models_per_replica`, a replica
loads models when they are asked for and lets the least used one go; a caller that names its model in the
header `serve_multiplexed_model_id` is sent to a replica that has it. Ray is an extra, and starts, counts and
stops the replicas: there is no cluster of our own.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import Field

from cloud_fallback.serving.app import App, Event
from cloud_fallback.serving.backend import ServedModels
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.models import Models, models_for
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.contract.errors import ConfigError, EdgeRuntimeError
from edge_runtime.contract.task import Declared

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - Ray's proxies listen, and whether keys are needed is checked by this
_MODEL_ROUTES = (("v2", "models"), ("v1", "predict"))


class Arguments(Declared):
    """What `serve run …:app` is told, as `name=value`."""

    bundles: str = Field(description="folder, archive or URL of bundles that every node can read")
    keys: str | None = Field(default=None, description="file of API keys, on every node")
    no_auth: bool = Field(default=False, description="let everybody in who reaches Ray's proxies")
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=4, ge=1)
    requests_per_replica: int = Field(default=32, ge=1, description="under way, that a replica is given")
    cpus_per_replica: float = Field(default=2.0, gt=0)
    models_per_replica: int | None = Field(default=None, ge=1, description="absent: every replica has all")


class OnDemand(ServedModels):
    """Models of which none is loaded before it is asked for."""

    async def start(self) -> None:
        """Look what there is."""
        await self.rescan()

    def ready(self) -> bool:
        """Say that models can be asked for."""
        return True


class Loading:
    """Loads a model before its request is answered, as often as Ray says it has to go.

    Args:
        app: The endpoint.
        serve: `ray.serve`.
        most: Models that may be loaded at the same time.
    """

    def __init__(self, app: App, serve: Any, most: int) -> None:
        self._app = app
        self._serve = serve

        async def load(model: str) -> Held:
            await app.models.load(model)
            return Held(app.models, model)

        # Ray keeps what this gives, lets the least used one go, and tells its proxies what is where.
        self._hold: Callable[[str], Awaitable[Held]] = serve.multiplexed(max_num_models_per_replica=most)(
            load
        )

    async def __call__(
        self,
        scope: Event,
        receive: Callable[[], Awaitable[Event]],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        """Answer one connection's event as ASGI says."""
        if scope["type"] == "http":
            model = model_of(scope["path"]) or self._serve.get_multiplexed_model_id()
            # A name that nobody knows must not cost a model its place.
            if any(known.name == model for known in self._app.models.index()):
                with suppress(EdgeRuntimeError):  # what is wrong with the model, its request is told
                    await self._hold(model)
        await self._app(scope, receive, send)


class Held:
    """A model that is loaded until Ray lets it go: Ray awaits its `__del__` then.

    An attribute of the object, not a method of the class, which Python itself would call once more.
    """

    def __init__(self, models: Models, model: str) -> None:
        self.__del__ = partial(models.unload, model)


def app(arguments: Arguments) -> Any:
    """Make the application for Ray Serve.

    Args:
        arguments: Of the command line.

    Returns:
        `ray.serve.Application`.

    Raises:
        ConfigError: Ray is not installed, or everybody would be let in by mistake.
    """
    serve = ray_serve()
    settings = ServeSettings(
        bundles=arguments.bundles,
        host=_EVERYWHERE,
        keys=Path(arguments.keys) if arguments.keys else None,
        no_auth=arguments.no_auth,
        instances=max(1, int(arguments.cpus_per_replica)),
        threads=1,
    )
    settings.check()
    most = arguments.models_per_replica

    def endpoint() -> Any:
        return replica(settings, most)

    @serve.ingress(endpoint)
    class Endpoint:
        """One replica."""

    deployment = serve.deployment(
        Endpoint,
        name="edge-runtime",
        max_ongoing_requests=4 * arguments.requests_per_replica,
        ray_actor_options={"num_cpus": arguments.cpus_per_replica},
        autoscaling_config={
            "min_replicas": arguments.min_replicas,
            "max_replicas": arguments.max_replicas,
            "target_ongoing_requests": arguments.requests_per_replica,
        },
    )
    return deployment.bind()


def replica(settings: ServeSettings, most: int | None) -> Any:
    """Make what a replica runs: an ASGI application, in the replica's own process.

    Args:
        settings: Checked.
        most: Models loaded at the same time; None: all, from the start.
    """
    metrics = Metrics()
    if most is None:
        return App(settings, models_for(settings, metrics), metrics)
    endpoint = App(settings, models_for(settings, metrics, OnDemand), metrics)
    return Loading(endpoint, ray_serve(), most)


def model_of(path: str) -> str:
    """Name the model that a path asks for; empty where it names none."""
    parts = path.split("/")[1:]
    return parts[2] if len(parts) > 2 and tuple(parts[:2]) in _MODEL_ROUTES else ""


def ray_serve() -> Any:
    """Import Ray Serve.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module("ray.serve")
    except ImportError as error:
        raise ConfigError(
            "Ray is not installed", do="Install it: pip install 'edge-runtime[cloud,ray]'"
        ) from error
