"""Whom a second model looks at, what it says of them, and who is who across cameras."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.analytics.identities import Identities, IdentityOptions
from edge_runtime.analytics.looks import LookOptions, Looks, Said
from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.contract.result import Tracks

S = 1_000_000_000
LABELS = ("person", "car")


def tracks(*ids: int, side: float = 100, kind: int = 0) -> Tracks:
    count = len(ids)
    return Tracks(
        np.array(ids, np.int64),
        np.tile(np.array([[0, 0, side, side]], np.float32), (count, 1)),
        np.ones(count, np.float32),
        np.full(count, kind, np.int32),
        LABELS,
    )


@pytest.mark.parametrize(
    ("options", "seen", "expected"),
    [
        (LookOptions(per_s=5), tracks(1, 2, 3), 1),
        (LookOptions(labels=("car",)), tracks(1), 0),
        (LookOptions(labels=("car",)), tracks(1, kind=1), 1),
        (LookOptions(min_px=101), tracks(1), 0),
        (LookOptions(), tracks(), 0),
    ],
)
def test_who_is_looked_at_in_the_first_frame(options: LookOptions, seen: Tracks, expected: int) -> None:
    assert len(Looks(options).due(seen, 0)) == expected


def test_the_least_known_come_first_and_everybody_in_time() -> None:
    looks = Looks(LookOptions(per_s=10, every_s=0.1))
    order: list[int] = []
    for frame in range(9):
        seen = tracks(1, 2, 3)
        for row in looks.due(seen, frame * S // 10):
            order.append(int(seen.ids[row]))
            looks.learn(order[-1], [Said("staff", 0.9)], frame * S // 10)
    assert sorted(order[:3]) == sorted(order[3:6]) == [1, 2, 3]


@given(
    st.lists(
        st.tuples(st.integers(0, S), st.lists(st.integers(1, 50), unique=True, max_size=20)), max_size=60
    ),
    st.floats(0.1, 20),
)
def test_the_budget_is_kept_whoever_comes(steps: list[tuple[int, list[int]]], per_s: float) -> None:
    looks = Looks(LookOptions(per_s=per_s, every_s=0.01))
    now = looked = 0
    for step, ids in steps:
        now += step
        rows = looks.due(tracks(*ids), now)
        looked += len(rows)
        for row in rows:
            looks.learn(ids[row], [Said("a", 0.5)], now)
    assert looked <= 1 + max(1.0, per_s) + per_s * now / S + 1e-6


def test_one_bad_crop_does_not_change_what_is_said() -> None:
    looks = Looks(LookOptions())
    looks.due(tracks(7), 0)
    for _ in range(3):
        looks.learn(7, [Said("staff", 0.9), Said("customer", 0.1)], 0)
    looks.learn(7, [Said("staff", 0.2), Said("customer", 0.8)], 0)
    assert looks.said[7].label == "staff"
    assert looks.said[7].score == pytest.approx(0.725)


def test_what_is_unsure_is_not_said_and_who_is_gone_is_forgotten() -> None:
    looks = Looks(LookOptions(min_score=0.5), forget_after_s=1)
    looks.due(tracks(7), 0)
    looks.learn(7, [Said("staff", 0.4)], 0)
    assert looks.said == {}
    looks.learn(7, [Said("staff", 0.9)], 0)
    assert set(looks.said) == {7}
    looks.due(tracks(), 2 * S)
    assert looks.said == {}


def test_a_known_object_is_looked_at_less() -> None:
    looks = Looks(LookOptions(per_s=100, every_s=1, looks=2))
    times = []
    for frame in range(100):
        now = frame * S // 10
        if looks.due(tracks(1), now):
            times.append(frame / 10)
            looks.learn(1, [Said("staff", 1)], now)
    assert times == [0, 1, 3, 5, 7, 9]


def direction(degrees: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def test_the_same_look_is_the_same_identity_on_any_camera() -> None:
    who = Identities(IdentityOptions(similarity=0.9))
    assert [who.match(direction(d), 0) for d in (0, 90, 5, 85, 180)] == [1, 2, 1, 2, 3]
    assert who.match(7 * direction(2), 1) == 1, "the length says nothing"


def test_identities_are_forgotten_and_never_given_again() -> None:
    who = Identities(IdentityOptions(similarity=0.9, keep_s=10, most=2))
    assert [who.match(direction(d), t) for d, t in ((0, 0), (90, 5), (180, 6))] == [1, 2, 3]
    assert len(who) == 2
    assert who.match(direction(0), 6) == 4, "the one not seen for the longest gave way"
    assert who.match(direction(0), 20) == 5


@pytest.mark.parametrize(
    "vector", [np.zeros(2, np.float32), np.full(2, np.nan, np.float32), np.ones(3, np.float32)]
)
def test_what_is_no_vector_is_refused(vector: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> None:
    who = Identities()
    who.match(direction(0), 0)
    with pytest.raises(InputError):
        who.match(vector, 0)
    with pytest.raises(ConfigError):
        IdentityOptions(similarity=2)
