"""A device's model and a cloud that do as they are told, for tests of the router: no network, no engine."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer, Finish, Generation, TextClassification
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.protocol.backend import Piece
from edge_runtime.routing.far import Far
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.local import Local, Opened
from edge_runtime.routing.outbox import Outbox
from edge_runtime.routing.outgoing import Outgoing
from edge_runtime.routing.policy import Policy
from edge_runtime.routing.routed import Redaction, Routed
from edge_runtime.routing.router import Router

LABELS = ("negative", "positive")


def classified(score: float, label: int = 1) -> TextClassification:
    """A text's class, and the other one."""
    classes = np.array([label, 1 - label], np.int32)
    return TextClassification(classes, np.array([score, 1 - score], np.float32), LABELS, 3, False)


@dataclass
class Model:
    """The device's: answers with `score`, or fails with `error`."""

    score: float = 0.95
    error: EdgeRuntimeError | None = None
    asked: list[Any] = field(default_factory=list[Any])

    def predict(self, value: Any) -> Any:
        self.asked.append(value)
        if self.error is not None:
            raise self.error
        return classified(self.score)

    def stream(self, value: Prompt | str) -> Generator[str | Generation, None, None]:
        self.asked.append(value)
        if self.error is not None:
            raise self.error
        yield from ("here", "!")
        yield Generation("here!", Finish.STOP, 1, 2)

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass


class Tensorial:
    """A session that doubles."""

    inputs: Sequence[TensorSpec] = (TensorSpec("x", "float32", (None,)),)
    outputs: Sequence[TensorSpec] = (TensorSpec("y", "float32", (None,)), TensorSpec("z", "float32", (None,)))

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": 2 * inputs["x"], "z": 3 * inputs["x"]}


@dataclass
class Asked:
    """The cloud's client: keeps what left, and answers, or fails with `error`."""

    error: EdgeRuntimeError | None = None
    binary: bool = True
    left: list[Outgoing] = field(default_factory=list[Outgoing])
    deadlines_s: list[float] = field(default_factory=list[float])
    hedges: list[float | None] = field(default_factory=list[float | None])

    def predict(
        self,
        request: Request,
        outgoing: Outgoing,
        deadline_s: float,
        *,
        retries: int,
        hedge_after_s: float | None,
    ) -> Answer[Any]:
        self.left.append(outgoing)
        self.deadlines_s.append(deadline_s)
        self.hedges.append(hedge_after_s)
        if self.error is not None:
            raise self.error
        decision = Decision(Route.CLOUD, Reason.POLICY)
        return Answer(classified(0.99, 0), decision, "large", "2", "v", 1.0, 0.99)

    def generate(
        self, request: Request, outgoing: Outgoing, deadline_s: float
    ) -> Generator[Piece, None, None]:
        self.left.append(outgoing)
        if self.error is not None:
            raise self.error
        yield Piece("there")
        whole = Generation("there", Finish.STOP, 1, 1)
        yield Piece("", Answer(whole, Decision(Route.CLOUD, Reason.POLICY), "large", "2", "v", 1.0, 1.0))


@dataclass
class World:
    """One model on a device, a cloud, and everything that can be turned about them."""

    outbox: Outbox
    policy: Policy = field(default_factory=Policy)
    model: Model = field(default_factory=Model)
    client: Asked = field(default_factory=Asked)
    gauge: CloudGauge = field(default_factory=CloudGauge)
    kind: str = "text-classification"
    fits: bool = True
    has_cloud: bool = True
    redaction: Redaction | None = None
    dice: float = 0.5
    clock_s: float = 1000.0
    router: Router = field(init=False)

    def __post_init__(self) -> None:
        opened = Opened("small", "1", "int8", self.kind, "onnx_onnxruntime", self.model, Tensorial(), 10)
        local = Local(
            "m", opened if self.fits else None, needs_bytes=10 if self.fits else 100, budget_bytes=50
        )
        far = Far(self.client, self.gauge, self.outbox, lambda: None) if self.has_cloud else None
        self.router = Router(
            [Routed("m", self.policy, local, "large")],
            far,
            redaction=self.redaction,
            clock=lambda: self.clock_s,
            dice=lambda: self.dice,
        )

    def ask(self, value: Any = "a text", **more: Any) -> Answer[Any]:
        return self.router.predict(Request(more.pop("id", f"id-{time.monotonic_ns()}"), "m", value, **more))

    def off(self) -> None:
        """The cloud cannot be reached."""
        while self.gauge.online:
            self.gauge.probed(reached=False)
