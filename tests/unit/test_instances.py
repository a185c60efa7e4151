"""How cores are shared out among runs, and the threads that make them."""

import threading
import weakref

import pytest

from cloud_fallback.serving.instances import Crew, Instances, plan_instances, usable_cores


@pytest.mark.parametrize(
    ("cores", "count", "threads", "planned"),
    [
        (2, None, None, Instances(1, 2)),
        (8, None, None, Instances(2, 4)),
        (8, None, 1, Instances(8, 1)),
        (8, 2, None, Instances(2, 4)),
        (1, None, None, Instances(1, 1)),
        (1, 4, None, Instances(4, 1)),
        (4, 3, 2, Instances(3, 2)),
    ],
)
def test_cores_are_shared_out(cores: int, count: int | None, threads: int | None, planned: Instances) -> None:
    assert plan_instances(cores, count, threads) == planned


def test_cores_are_counted() -> None:
    assert usable_cores() >= 1


def test_an_idle_thread_keeps_nothing_of_its_last_job() -> None:
    class Job:
        """Holds the tensors of a batch, and so the memory of an engine."""

        def __call__(self) -> None:
            pass

    crew, gone = Crew(1), threading.Event()
    job = Job()
    weakref.finalize(job, gone.set)
    crew.start(job)
    del job
    assert gone.wait(10)
    crew.close()
