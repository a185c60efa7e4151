"""What the cloud's client makes of a sick model, and of servers that take no binary tensors."""

import json
import time
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.errors import EdgeRuntimeError, EngineError, InputError, OverloadedError
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import TextClassification
from edge_runtime.protocol import v2
from edge_runtime.routing.breaker import BreakerState
from edge_runtime.routing.channel import Channel, ChannelOptions
from edge_runtime.routing.cloud_client import CloudClient
from edge_runtime.routing.gauge import CloudGauge
from edge_runtime.routing.outgoing import prepare
from tests.simulators.cloud import Cloud, Does, Seen, cloud_of, sentiment


class Side:
    """A client of a cloud, closed at its end."""

    def __init__(self, url: str) -> None:
        self.gauge = CloudGauge()
        self.client = CloudClient(Channel(ChannelOptions(url)), self.gauge, lambda what, how, to: None)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, value: Any = "rude staff", **more: Any) -> Any:
        request = Request("id-1", "m", value)
        return self.client.predict(request, prepare(request, "m"), time.monotonic() + 10, **more)


def test_a_sick_model_is_left_alone_and_the_others_go_on() -> None:
    def sick(cloud: Cloud, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        said = {"content-type": "application/json"}
        return (500, said, b'{"error": "broken"}') if seen.path.endswith("/m") else (200, said, sentiment())

    with cloud_of(sick) as cloud, Side(cloud.url) as one:
        for _ in range(5):
            with pytest.raises(EngineError, match="broken"):
                one.ask(retries=0)
        with pytest.raises(OverloadedError, match="breaker of model 'm' alone"):
            one.ask()
        other = Request("id-2", "other", "a text")
        answer = one.client.predict(other, prepare(other, "other"), time.monotonic() + 10)
        assert isinstance(answer.value, TextClassification)
        assert one.gauge.status().breaker is BreakerState.CLOSED
        assert one.gauge.status().model_breakers == {"m": BreakerState.OPEN}


def _bad_tensors(body: bytes, status: int) -> Does:
    return lambda cloud, seen: (status, {"content-type": "application/json"}, body)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "input-error"), (500, "engine-error"), (404, "unknown-model-error")]
)
def test_what_our_own_server_refuses_is_sent_once(status: int, code: str) -> None:
    said = json.dumps({"error": "input 'x': expected FP32", "code": code}).encode()
    with cloud_of(_bad_tensors(said, status)) as cloud, Side(cloud.url) as one:
        with pytest.raises(EdgeRuntimeError, match="expected FP32"):
            one.ask({"x": np.zeros(1, np.float32)}, retries=0)
        assert len(cloud.seen) == 1
        assert v2.HEADER_LENGTH in cloud.seen[0].headers


def test_a_server_that_took_binary_tensors_once_is_not_sent_json() -> None:
    def picky(cloud: Cloud, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        asked = v2.decode_request(seen.body, int(seen.headers[v2.HEADER_LENGTH]))
        if asked.tensors["x"].size > 1:
            return 400, {"content-type": "application/json"}, b'{"error": "too many"}'
        body, _ = v2.encode_response(asked.tensors, model="m", version="1")
        return 200, {"content-type": "application/json"}, body

    with cloud_of(picky) as cloud, Side(cloud.url) as one:
        one.ask({"x": np.zeros(1, np.float32)})
        with pytest.raises(InputError, match="too many"):
            one.ask({"x": np.zeros(2, np.float32)})
        assert len(cloud.seen) == 2
