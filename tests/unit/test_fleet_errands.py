"""What a report means for a rollout: the whole table, and ids of errands."""

import pytest

from cloud_fallback.fleet import errands
from cloud_fallback.fleet.errands import Errand
from cloud_fallback.fleet.standing import Outcome, Standing
from edge_runtime.contract.fleet import Have, Health
from edge_runtime.contract.update import State

NEW, OLD, OTHER = "1" * 64, "0" * 64, "2" * 64


def have(state: State, deployment: str | None, sha256: str | None) -> Have:
    return Have(name="detector", sha256=sha256, state=state, deployment=deployment)


FORWARD = [
    # state, about, runs, taken -> outcome
    (State.COMMITTED, "d", NEW, True, Outcome.SUCCEEDED),
    (State.COMMITTED, "d", NEW, False, Outcome.SUCCEEDED),
    (State.COMMITTED, "d", OLD, True, Outcome.FAILED),  # it has gone back by itself since
    (State.ROLLED_BACK, "d", OLD, True, Outcome.FAILED),
    (State.FAILED, "d", OLD, True, Outcome.FAILED),
    (State.REJECTED, "d", None, True, Outcome.FAILED),
    (State.CANCELLED, "d", OLD, True, Outcome.WITHDRAWN),
    (State.WAITING_WINDOW, "d", OLD, True, Outcome.HELD),
    (State.DOWNLOADING, "d", OLD, True, None),
    (State.TRIAL, "d", OLD, True, None),
    (State.SWITCHING, "d", NEW, True, None),  # not committed yet
    (State.IDLE, None, NEW, True, Outcome.SUCCEEDED),  # it had the version before it was offered
    (State.IDLE, None, NEW, False, None),  # it may not know of the offer
    (State.DOWNLOADING, "e", NEW, True, None),  # on its way to something else
    (State.COMMITTED, "e", OLD, True, None),
    (State.FAILED, "d--2", OLD, True, None),  # an attempt that is not the present one
    (State.COMMITTED, "d--2", NEW, False, Outcome.SUCCEEDED),
]


@pytest.mark.parametrize(("state", "about", "runs", "taken", "expected"), FORWARD)
def test_an_offer(
    state: State, about: str | None, runs: str | None, taken: bool, expected: Outcome | None
) -> None:
    errand = Errand("d", "model", "detector", NEW)
    said = have(state, about, runs)
    assert errands.outcome(errand, Standing.OFFERED, said, taken=taken) == expected


@pytest.mark.parametrize(
    ("said", "taken", "expected"),
    [
        (have(State.COMMITTED, "a", OLD), True, Outcome.WITHDRAWN),  # it had not begun
        (have(State.COMMITTED, "a", OLD), False, None),
        (None, True, Outcome.WITHDRAWN),
        (have(State.COMMITTED, "d", NEW), True, Outcome.SUCCEEDED),  # it was through
        (have(State.CANCELLED, "d", OLD), True, Outcome.WITHDRAWN),
    ],
)
def test_a_withdrawal(said: Have | None, taken: bool, expected: Outcome | None) -> None:
    errand = Errand("d", "model", "detector", NEW)
    assert errands.outcome(errand, Standing.WITHDRAWING, said, taken=taken) == expected


@pytest.mark.parametrize(
    ("back", "said", "taken", "expected"),
    [
        (OLD, have(State.COMMITTED, "d--back", OLD), True, Outcome.REVERTED),
        (OLD, have(State.FAILED, "d--back", NEW), True, Outcome.FAILED),
        (OLD, have(State.DOWNLOADING, "d--back", NEW), True, None),
        (OLD, have(State.COMMITTED, "d", NEW), True, None),
        (OLD, have(State.COMMITTED, "a", OLD), True, Outcome.REVERTED),  # it never took it
        (OLD, have(State.COMMITTED, "a", OLD), False, None),
        (None, None, True, Outcome.REVERTED),
        (None, have(State.IDLE, None, None), True, Outcome.REVERTED),
        (None, have(State.COMMITTED, "d", NEW), True, None),
        (None, have(State.IDLE, None, None), False, None),
    ],
)
def test_a_way_back(back: str | None, said: Have | None, taken: bool, expected: Outcome | None) -> None:
    errand = Errand("d", "model", "detector", NEW, back_sha256=back)
    assert errands.outcome(errand, Standing.REVERTING, said, taken=taken) == expected


def test_a_second_attempt_is_an_errand_of_its_own() -> None:
    errand = Errand("d", "model", "detector", NEW, attempts=2)
    assert errands.outcome(errand, Standing.OFFERED, have(State.FAILED, "d", OLD), taken=True) is None
    failed = have(State.FAILED, "d--2", OLD)
    assert errands.outcome(errand, Standing.OFFERED, failed, taken=True) is Outcome.FAILED


def test_ids_say_whose_they_are() -> None:
    assert errands.forward("d", 1) == "d"
    for errand in ("d", errands.forward("d", 3), errands.back("d")):
        assert errands.owner(errand) == "d"
        assert Have(name="x", deployment=errand).deployment == errand  # a device takes them
    assert errands.is_back(errands.back("d")) and not errands.is_back(errands.forward("d", 2))


WELL = Health(cameras=4, cameras_online=4, fps=40, errors_per_s=0.01, latency_p95_ms=50)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({}, None),
        ({"cameras_online": 3}, "3 cameras online, 4 before"),
        ({"cameras": 3, "cameras_online": 3}, None),  # one was taken away on purpose
        ({"fps": 27.9}, "27.9 pictures a second, 40.0 before"),
        ({"fps": 28.1}, None),
        ({"errors_per_s": 0.09}, None),
        ({"errors_per_s": 0.2}, "0.20 errors a second, 0.01 before"),
        ({"latency_p95_ms": 99}, None),
        ({"latency_p95_ms": 101}, "p95 101 ms, 50 ms before"),
        ({"latency_p95_ms": None}, None),
        ({"trouble": ("disk",)}, "new trouble: disk"),
    ],
)
def test_health(after: dict[str, object], expected: str | None) -> None:
    from cloud_fallback.fleet import wellness

    assert wellness.worse(WELL, WELL.model_copy(update=after)) == expected
