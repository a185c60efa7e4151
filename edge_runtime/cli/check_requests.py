"""What `edge-runtime check` says of requests: models that only they use, the door, the cloud."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from edge_runtime.cli.shell import ExitCode, exit_code
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import ConfigError, EdgeRuntimeError, RemoteError
from edge_runtime.routing.channel import Channel
from edge_runtime.routing.cloud_client import CloudClient
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.local import Local
from edge_runtime.routing.outgoing import Outgoing
from edge_runtime.runtime.bundles import bundles_of
from edge_runtime.runtime.cloud import channel_options
from edge_runtime.runtime.models import open_local
from edge_runtime.runtime.policies import policy_of
from edge_runtime.settings import AgentSettings, CloudSettings, DoorSettings

_CLOUD_S = 5.0
_MODEL_S = 2.0
"""A person waits for this."""


@dataclass(frozen=True, slots=True)
class PlaceCheck:
    """The door, or the cloud.

    Args:
        name: `door` or `cloud`.
        address: Where.
        took_ms: To an answer; None: none was waited for, or none came.
        note: What to know although it is there: the models that the cloud does not answer for.
        problem: What is wrong; empty: nothing.
        code: Of the problem.
    """

    name: str
    address: str
    took_ms: float | None = None
    note: str = ""
    problem: str = ""
    code: ExitCode = ExitCode.OK


@dataclass(frozen=True, slots=True)
class RouteCheck:
    """A model as requests find it.

    Args:
        name: As the settings call it.
        bundle: Name and version; empty: it is in the cloud only, or not open.
        variant: That is open.
        runs_on: The platform.
        run_ms: Of one answer, the second; None: it did not run.
        note: What to know although it works: that the cloud answers, and why.
        problem: What is wrong; empty: nothing.
        code: Of the problem.
    """

    name: str
    bundle: str = ""
    variant: str = ""
    runs_on: str = ""
    run_ms: float | None = None
    note: str = ""
    problem: str = ""
    code: ExitCode = ExitCode.OK


def check_requests(
    settings: AgentSettings, profile: DeviceProfile
) -> tuple[tuple[RouteCheck, ...], tuple[PlaceCheck, ...]]:
    """Try models, the door's address and the cloud.

    Args:
        settings: The store's.
        profile: This device.

    Returns:
        The models that no camera uses, where there is a door; and the door and the cloud, where there are.
    """
    watched = {camera.model for camera in settings.cameras.values()}
    names = [name for name in settings.models if name not in watched] if settings.door is not None else []
    places: list[PlaceCheck] = []
    if settings.door is not None:
        door = settings.door
        places.append(_guarded("door", _address(door), lambda: _check_door(door)))
    if settings.cloud is not None:
        cloud, wanted = settings.cloud, _cloud_models(settings)
        places.append(_guarded("cloud", cloud.url, lambda: _check_cloud(cloud, wanted)))
    return tuple(_check_models(settings, names, profile)), tuple(places)


def _check_models(settings: AgentSettings, names: list[str], profile: DeviceProfile) -> list[RouteCheck]:
    """Open all together, as the runtime does: what fits alone may not fit beside the others."""
    checks: list[RouteCheck] = []
    opened: list[Local] = []
    bundles = bundles_of(settings)
    budget = settings.memory_budget_mb
    left_bytes = profile.memory_budget_bytes if budget is None else budget * 2**20
    try:
        for name in names:
            model = settings.models[name]
            try:
                policy_of(name, model.route, has_cloud=settings.cloud is not None)
            except ConfigError as error:
                checks.append(RouteCheck(name, problem=f"models.{name}: {error}", code=exit_code(error)))
                continue
            if not model.here:
                checks.append(RouteCheck(name, note="in the cloud only"))
                continue
            local = open_local(name, model, profile, bundles, left_bytes=left_bytes, workers=1)
            checks.append(_check_model(local, has_cloud=_may_ask(settings, name)))
            if local.opened is not None:
                opened.append(local)
                left_bytes -= local.opened.peak_bytes
    finally:
        for local in opened:
            local.close()
    return checks


def _check_model(local: Local, *, has_cloud: bool) -> RouteCheck:
    opened = local.opened
    if opened is None:
        facts = local.facts(None, 0.0)
        why = facts.why_not or f"needs {facts.peak_bytes} bytes, {max(0, facts.budget_bytes)} are left for it"
        if has_cloud:
            return RouteCheck(local.name, note=f"not open here, the cloud answers: {why}")
        return RouteCheck(local.name, problem=f"models.{local.name}: {why}", code=ExitCode.ENGINE)
    began_s = time.perf_counter()
    try:
        opened.predictor.warm_up()
    except EdgeRuntimeError as error:
        return RouteCheck(local.name, problem=f"models.{local.name}: {error}", code=exit_code(error))
    run_ms = (time.perf_counter() - began_s) * 1000
    title = f"{opened.bundle} {opened.version}"
    return RouteCheck(local.name, title, opened.variant, opened.platform, run_ms)


def _may_ask(settings: AgentSettings, name: str) -> bool:
    return settings.cloud is not None and settings.models[name].route.policy != "local_only"


def _cloud_models(settings: AgentSettings) -> list[str]:
    """List the models that the cloud may be asked for, as it calls them."""
    names = [name for name in settings.models if _may_ask(settings, name)]
    return sorted({settings.models[name].route.cloud_model or name for name in names})


def _guarded(name: str, address: str, look: Callable[[], tuple[float | None, str]]) -> PlaceCheck:
    try:
        return PlaceCheck(name, address, *look())
    except EdgeRuntimeError as error:
        return PlaceCheck(name, address, problem=f"{name}: {error}", code=exit_code(error))


def _address(door: DoorSettings) -> str:
    return f"http://{door.host}:{door.port}"


def _check_door(door: DoorSettings) -> tuple[None, str]:
    """See whether the address can be listened on."""
    try:
        family = socket.getaddrinfo(door.host, door.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((door.host, door.port))
    except OSError as error:
        raise RemoteError(
            f"{door.host}:{door.port}",
            retryable=False,
            expected="an address of this machine that is free",
            got=error.strerror or str(error),
            do="Set another door.port, or stop what listens there: is the agent running already?",
        ) from error
    if find_spec("uvicorn") is None:
        raise ConfigError("the HTTP door needs uvicorn", do="Install it: pip install 'edge-runtime[web]'")
    return None, ""


def _nothing_leaves(what: Outgoing, how: str, to: str) -> None:
    """Write nothing down: a probe holds nothing."""
    del what, how, to


def _check_cloud(cloud: CloudSettings, models: Sequence[str]) -> tuple[float, str]:
    """Ask whether it is there, with these models; give the milliseconds to its answer, and what it lacks."""
    client = CloudClient(Channel(channel_options(cloud)), CloudGauge(), _nothing_leaves)
    try:
        began_s = time.perf_counter()
        if not client.probe(_CLOUD_S):
            raise RemoteError(
                cloud.url,
                retryable=True,
                expected=f"an answer of a model server in {_CLOUD_S:g} s",
                got="none, or somebody else's",
                do="Look at the address and the network; until then the device answers alone",
            )
        took_ms = (time.perf_counter() - began_s) * 1000
        return took_ms, "; ".join(_lacking(client, models))
    finally:
        client.close()


def _lacking(client: CloudClient, models: Sequence[str]) -> Iterator[str]:
    """Say which models the cloud does not answer for. It may load them later: that fails no check."""
    for model in models:
        try:
            why = client.standing(model, _MODEL_S)
        except RemoteError as error:
            yield f"whether it has '{model}' and what comes after is not known: {error}"
            return
        if why:
            yield f"it does not answer for '{model}' now: {why}"
