"""What a caller sent becomes a request: which word counts, how much time is left, what it may hold."""

import time
from typing import Any

import pytest

from edge_runtime.contract.errors import DeadlineError
from edge_runtime.contract.route import DataClass
from edge_runtime.web.asking import request_for
from edge_runtime.web.exchange import Exchange
from edge_runtime.web.watch import Lookout


def exchange(**headers: str) -> Exchange:
    async def never(*_: Any) -> Any:
        raise NotImplementedError

    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    made = Exchange({"method": "POST", "path": "/", "headers": told}, never, never, Lookout())
    made.read_metadata()
    return made


def test_a_request_without_headers() -> None:
    made = exchange()
    request = request_for(made, "m", "hello")
    assert request.id == made.id
    assert len(made.id) == 32
    assert (request.timeout_s, request.trace, request.parameters) == (None, "", {})


def test_headers_win_over_the_body() -> None:
    made = exchange(x_request_id="r", x_edge_priority="0", x_edge_sticky="s", x_deadline_ms="60000")
    request = request_for(made, "m", "hello", index=2, timeout_s=90, priority=4, parameters={"priority": 9})
    assert request.id == "r-2"
    assert request.parameters == {"priority": 0, "sticky": "s"}
    assert request.timeout_s is not None
    assert 50 < request.timeout_s < 60


def test_the_body_may_say_it_too() -> None:
    request = request_for(exchange(x_deadline_ms="90000"), "m", "hello", timeout_s=60, priority=4)
    assert request.parameters == {"priority": 4}
    assert request.timeout_s is not None
    assert request.timeout_s < 60


def test_a_deadline_that_passed_while_the_body_came() -> None:
    made = exchange(x_deadline_ms="1")
    end_s = time.monotonic() + 0.002
    while time.monotonic() < end_s:
        pass
    with pytest.raises(DeadlineError, match="spent on the body"):
        request_for(made, "m", "hello")


def test_a_request_tells_what_its_caller_says_it_holds() -> None:
    said = exchange(x_edge_data="faces")
    assert request_for(said, "m", "a text").data == {DataClass.FACES}
    assert request_for(exchange(), "m", "a text").data == frozenset()
