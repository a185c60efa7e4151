"""Gate and Pool: who may run, how many runners there are, what closing waits for."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from edge_runtime.contract.errors import EngineError
from edge_runtime.engines.pool import Gate, Pool


def numbered() -> Pool[int]:
    numbers = count()
    return Pool("a model", lambda: next(numbers), next(numbers))


def test_one_caller_after_another_shares_one_runner() -> None:
    pool = numbered()
    for _ in range(5):
        with pool.lend() as runner:
            assert runner == 0


def test_as_many_runners_as_callers_at_once() -> None:
    pool, met = numbered(), threading.Barrier(3)
    seen: list[int] = []

    def work() -> None:
        for _ in range(20):
            with pool.lend() as runner:
                seen.append(runner)
                met.wait(timeout=30)

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(work) for _ in range(3)]:
            done.result(timeout=60)
    assert set(seen) == {0, 1, 2}


def test_a_runner_that_failed_is_not_lent_again() -> None:
    pool = numbered()
    with pytest.raises(ValueError, match="boom"), pool.lend():
        raise ValueError("boom")
    with pool.lend() as runner:
        assert runner == 1


def test_closing_waits_for_the_runs_under_way() -> None:
    gate, inside, leave, closed = Gate("a model"), threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        with gate:
            inside.set()
            assert leave.wait(timeout=30)
            assert not closed.is_set()

    def close() -> None:
        gate.close()
        closed.set()

    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(run)
        assert inside.wait(timeout=30)
        closing = threads.submit(close)
        assert not closed.wait(timeout=0.1)
        leave.set()
        running.result(timeout=30)
        closing.result(timeout=30)
    assert closed.is_set()


def test_a_closed_gate_refuses_and_names_the_model() -> None:
    gate = Gate("detector.onnx")
    gate.close()
    gate.close()
    with pytest.raises(EngineError, match=r"detector\.onnx is closed"), gate:
        pytest.fail("a closed gate let somebody in")
