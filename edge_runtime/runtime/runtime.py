"""Runtime: a store's models for requests, as its settings want them: `Runtime("assistant.yaml").predict(…)`.

The composition root of requests. Decides nothing about routes and serves no HTTP; `runtime.door` does.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from edge_runtime.contract.errors import (
    ConfigError,
    EngineError,
    RefusedError,
    UnknownAnswerError,
    UnknownModelError,
)
from edge_runtime.contract.request import Prompt
from edge_runtime.contract.result import Answer
from edge_runtime.contract.route import DataClass, Reason, Route
from edge_runtime.local_model import LocalModel, this_device
from edge_runtime.protocol.backend import Piece
from edge_runtime.routing.local import Local
from edge_runtime.routing.outgoing import event
from edge_runtime.routing.parcel import Kind
from edge_runtime.routing.policy import Mode, Policy
from edge_runtime.routing.privacy import Gate
from edge_runtime.routing.routed import Redaction, Routed
from edge_runtime.routing.router import Router
from edge_runtime.routing.sending import SendingOptions
from edge_runtime.routing.threshold_file import ThresholdFile
from edge_runtime.runtime.asked import Asked, ask
from edge_runtime.runtime.bundles import bundles_of
from edge_runtime.runtime.cloud import Cloud, CloudStatus
from edge_runtime.runtime.late import LateAnswer
from edge_runtime.runtime.models import open_local, share_local, workers_of
from edge_runtime.runtime.policies import policy_of
from edge_runtime.settings import AgentSettings, ModelSettings, load_settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """The runtime, now.

    Args:
        routes: Answers since the start, by model, route and reason.
        models: By name: the variant that is open, or why none is.
        cloud: The cloud's side; None: there is none.
    """

    routes: Mapping[tuple[str, Route, Reason], int]
    models: Mapping[str, str]
    cloud: CloudStatus | None


class Runtime:
    """Answers requests from the moment it is made. Safe to share between threads; also a context manager.

    Args:
        settings: A store's file, or its settings.
        redaction: What is removed from a request before it leaves; None: nothing is.
        on_late: Called with each late answer of the cloud, from another thread, at least once each; again
            after a StorageError.
        shared: Models that are open for cameras already, by the name that the settings give them.
        sending: How fast what failed to reach the cloud is sent again.

    Raises:
        ConfigError: The settings are wrong.
        StorageError: The outbox cannot be opened.
    """

    def __init__(
        self,
        settings: AgentSettings | Path | str,
        *,
        redaction: Redaction | None = None,
        on_late: Callable[[LateAnswer], None] | None = None,
        shared: Mapping[str, LocalModel] | None = None,
        sending: SendingOptions | None = None,
    ) -> None:
        self.settings = settings if isinstance(settings, AgentSettings) else load_settings(Path(settings))
        self._profile = this_device(self.settings.profile)
        self._workers = workers_of(self.settings, self._profile)
        self._bundles = bundles_of(self.settings)
        self._local: dict[str, Local] = {}
        self._redaction = redaction
        self._routes_before: Counter[tuple[str, Route, Reason]] = Counter()
        """Answers under earlier policies."""
        policies = _policies(self.settings)
        self._never_leave = {name: policy.never_leave for name, (policy, _) in policies.items()}
        self._local_only = _local_only(policies)
        self._gate = Gate(self._never_leave, self._local_only)
        with ExitStack() as opened:
            for name, model in self.settings.models.items():
                if model.here:
                    camera = (shared or {}).get(name)
                    self._local[name] = self._open(name, model, camera)
                    opened.callback(self._local[name].close)
            self.cloud = None
            if self.settings.cloud is not None:
                self.cloud = Cloud(
                    self.settings.cloud,
                    self.settings.outbox,
                    self.settings.state_dir,
                    gate=self._gate,
                    on_late=on_late,
                    disagreements={
                        _cloud_name(name, self.settings.models[name]): file.disagreement
                        for name, (_, file) in policies.items()
                        if file is not None
                    },
                    sending=sending,
                )
                opened.callback(self.cloud.close)
            self.router = self._router(policies)
            self._opened = opened.pop_all()

    def predict(
        self,
        model: str,
        value: Asked,
        *,
        timeout_s: float | None = None,
        data: Collection[DataClass | str] = (),
        request_id: str = "",
    ) -> Answer[Any]:
        """Answer one question.

        Args:
            model: As the settings call it.
            value: A text, a prompt, a picture, or the model's own tensors.
            timeout_s: Time that an answer is worth anything; None: the route's.
            data: What it holds, for the rule of what may never leave; empty: all that it may.
            request_id: By which a late answer is found; empty: a new one.

        Returns:
            `.value` is the result, `.decision` says who answered and why.

        Raises:
            EdgeRuntimeError: As `Router.predict`.
        """
        return self.router.predict(ask(model, value, timeout_s=timeout_s, data=data, request_id=request_id))

    def generate(
        self, model: str, prompt: Prompt | str, *, timeout_s: float | None = None
    ) -> Generator[Piece, None, None]:
        """Generate a text piece by piece; closing the generator ends the work.

        Raises:
            EdgeRuntimeError: As `Router.generate`.
        """
        return self.router.generate(ask(model, prompt, timeout_s=timeout_s))

    def late(self, request_id: str) -> Answer[Any] | None:
        """Give the cloud's late answer to a request; None: it is awaited still.

        Raises:
            UnknownAnswerError: Nothing is known of the request.
            RefusedError: It may no longer leave, so that no answer comes.
            RemoteError: The cloud refused it for good, or what it answered cannot be read.
            StorageError: The outbox cannot be read.
        """
        found = False if self.cloud is None else self.cloud.desk.find(request_id)
        if found is False:
            raise UnknownAnswerError(
                f"answer '{request_id}'",
                expected="the id of a request that went to the cloud later",
                got="none",
            )
        return found if isinstance(found, Answer) else None

    def tell(
        self,
        path: str,
        document: object,
        *,
        stream: str = "events",
        data: Collection[DataClass | str] | None = None,
        event_id: str = "",
    ) -> bool:
        """Send your own endpoint something that happened: now, or when it is back. Its answer is not kept.

        `edge-runtime serve` has no such endpoint: it answers 404, and the event is put aside.

        Args:
            path: Of the endpoint, under the cloud's `url`: `/v1/events`.
            document: JSON.
            stream: What it is in order with.
            data: What it holds: nothing that any model's `never_leave` keeps here. Empty: none of the
                classes; None: not said, so it counts as `text`.
            event_id: For the endpoint to apply it once; empty: a new one.

        Returns:
            Whether the outbox had room for it; then it survives `kill -9`.

        Raises:
            ConfigError: There is no cloud.
            RefusedError: It holds what may not leave.
            InputError: The id is that of another event.
            StorageError: The disk did not take it.
        """
        if self.cloud is None:
            raise ConfigError(
                "an event for the cloud", expected="the block `cloud` in the settings", got="none"
            )
        held = frozenset({DataClass.TEXT} if data is None else (DataClass(one) for one in data))
        if why := self._gate.stops(None, held):
            raise RefusedError("an event for the cloud", expected="data that may leave", got=why)
        what = event(event_id or uuid4().hex, path, document, held)
        return self.cloud.far.owe(what, Kind.EVENT, stream, None)

    def local(self, model: str) -> Local | None:
        """Give the device's side of a model; None: it has no bundle of it."""
        return self._local.get(model)

    def load(self, model: str) -> None:
        """Open a model that is closed, if it fits now.

        Raises:
            UnknownModelError: There is none of that name, or the device has no bundle of it.
            EdgeRuntimeError: It does not open.
        """
        local = self._known(model)
        if local.opened is None:
            local.adopt(self._open(model, self.settings.models[model], None))

    def adopt(self, model: str, camera: LocalModel | None, left: Callable[[], None]) -> None:
        """Answer with the version of a model that is in use by now; not one request is lost.

        Args:
            model: Which.
            camera: The version as it is open for cameras; None: no camera uses the model.
            left: Called once nobody is answered by the old version any more.

        Raises:
            UnknownModelError: There is none of that name, or the device has no bundle of it.
            EngineError: It does not open; the old version goes on.
        """
        local = self._known(model)
        fresh = self._open(model, self.settings.models[model], camera)
        if fresh.opened is None:
            facts = fresh.facts(None, 0.0)
            raise EngineError(
                f"model '{model}'", expected="a version that opens", got=facts.why_not or "too little memory"
            )
        old = local.opened

        def close() -> None:
            if old is not None:
                old.predictor.close()
            left()

        local.swap(fresh, close)

    def reroute(self, settings: AgentSettings) -> None:
        """Decide by other `route` blocks from now on; requests under way are decided by those before.

        Args:
            settings: The same models, with other routes.

        Raises:
            ConfigError: A threshold's file is wrong; nothing has changed.
        """
        policies = _policies(settings)
        routes = self.router.routes()
        self.settings = settings
        # What is owed is asked about at any moment: first what forbids, then what allows.
        self._local_only |= _local_only(policies)
        self._never_leave |= {name: policy.never_leave for name, (policy, _) in policies.items()}
        self._local_only &= _local_only(policies)
        self._routes_before.update(routes)
        self.router = self._router(policies)

    def unload(self, model: str) -> None:
        """Close a model; its memory is free for others. Requests go to the cloud where the policy lets them.

        Raises:
            UnknownModelError: There is none of that name, or the device has no bundle of it.
        """
        self._known(model).close()

    def status(self) -> RuntimeStatus:
        """Say how everything is doing.

        Raises:
            StorageError: The outbox cannot be read.
        """
        models = {
            name: local.opened.variant if local.opened else local.facts(None, 0.0).why_not or "does not fit"
            for name, local in self._local.items()
        }
        routes = self._routes_before + Counter(self.router.routes())
        return RuntimeStatus(routes, models, None if self.cloud is None else self.cloud.status())

    def close(self) -> None:
        """Close models and the cloud's side; what is owed to the cloud stays on disk. Idempotent."""
        self._opened.close()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _router(self, policies: Mapping[str, tuple[Policy, ThresholdFile | None]]) -> Router:
        return Router(
            [
                Routed(
                    name=name,
                    policy=policies[name][0],
                    local=self._local.get(name),
                    cloud_model=_cloud_name(name, model),
                    timeout_s=model.route.timeout_s,
                    retries=model.route.retry,
                )
                for name, model in self.settings.models.items()
            ],
            None if self.cloud is None else self.cloud.far,
            redaction=self._redaction,
        )

    def _known(self, model: str) -> Local:
        local = self._local.get(model)
        if local is None:
            known = ", ".join(sorted(self._local)) or "none"
            raise UnknownModelError(f"model '{model}'", expected=f"one of {known}", got=model)
        return local

    def _open(self, name: str, model: ModelSettings, camera: LocalModel | None) -> Local:
        if camera is not None:
            return share_local(name, model, camera, self._workers)
        left_bytes = self._budget_bytes() - sum(
            one.opened.peak_bytes for key, one in self._local.items() if one.opened and key != name
        )
        local = open_local(
            name, model, self._profile, self._bundles, left_bytes=left_bytes, workers=self._workers
        )
        if local.opened is not None:
            log.info("model '%s': %s answers requests", name, local.opened.variant)
        else:
            facts = local.facts(None, 0.0)
            why = facts.why_not or f"needs {facts.peak_bytes} bytes, {facts.budget_bytes} are left for it"
            log.warning("model '%s' is not open here: %s", name, why)
        return local

    def _budget_bytes(self) -> int:
        wanted = self.settings.memory_budget_mb
        return self._profile.memory_budget_bytes if wanted is None else wanted * 2**20


def _policies(settings: AgentSettings) -> dict[str, tuple[Policy, ThresholdFile | None]]:
    has_cloud = settings.cloud is not None
    return {
        name: policy_of(name, model.route, has_cloud=has_cloud) for name, model in settings.models.items()
    }


def _local_only(policies: Mapping[str, tuple[Policy, ThresholdFile | None]]) -> set[str]:
    return {name for name, (policy, _) in policies.items() if policy.mode is Mode.LOCAL_ONLY}


def _cloud_name(name: str, model: ModelSettings) -> str:
    return model.route.cloud_model or name
