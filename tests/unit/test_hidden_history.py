"""What is hidden in a picture between two looks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.analytics.hidden import LONGEST_GAP_S, HiddenHistory
from edge_runtime.analytics.veil import Blur
from edge_runtime.contract.result import Boxes

SECOND = 1_000_000_000
HEIGHT, WIDTH = 100, 200


def boxes(*sides: tuple[float, float, float, float]) -> Boxes:
    return np.array(sides, np.float32).reshape(-1, 4)


def history(*looks: tuple[float, Boxes], blur: Blur = Blur.PERSONS, keep_s: float = 100) -> HiddenHistory:
    made = HiddenHistory(blur, keep_s)
    for at_s, hidden in looks:
        made.look(round(at_s * SECOND), hidden, height=HEIGHT, width=WIDTH)
    return made


def inside(box: Boxes, others: Boxes) -> bool:
    return bool(np.any(np.all((others[:, :2] <= box[:2] + 1e-6) & (others[:, 2:] >= box[2:] - 1e-6), axis=1)))


def test_a_picture_that_was_looked_at_hides_what_was_hidden_there() -> None:
    made = history((1, boxes((20, 10, 40, 60))), (1.2, boxes()), (1.4, boxes()))
    hidden = made.at(SECOND)
    assert hidden is not None
    assert hidden == pytest.approx(boxes((0.1, 0.1, 0.2, 0.6)))
    after = made.at(round(1.3 * SECOND))
    assert after is not None
    assert not len(after)


def test_between_two_looks_both_count_and_somebody_who_walks_stays_inside() -> None:
    made = history((1, boxes((20, 10, 40, 60))), (2, boxes((60, 10, 80, 60))))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        left = 20 + 40 * share
        walker = boxes((left, 10, left + 20, 60))[0] / (WIDTH, HEIGHT, WIDTH, HEIGHT)
        hidden = made.at(round((1 + share) * SECOND))
        assert hidden is not None
        assert inside(walker, hidden)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=12, unique=True), st.floats(-5, 25), st.floats(0, 1))
def test_there_is_an_answer_only_where_somebody_looked_around_that_time(
    times: list[float], asked_s: float, off_s: float
) -> None:
    looks = sorted(round(time * SECOND) for time in times)
    made = HiddenHistory(Blur.PERSONS, 1000)
    for at_ns in looks:
        made.look(at_ns, boxes((20, 10, 40, 60)), height=HEIGHT, width=WIDTH)
    at_ns = round(asked_s * SECOND)
    hidden = made.at(at_ns, off_ns=round(off_s * SECOND))
    if hidden is None:
        before = [look for look in looks if look <= at_ns]
        after = [look for look in looks if look >= at_ns]
        gap = (after[0] if after else at_ns) - (before[-1] if before else at_ns)
        assert gap > LONGEST_GAP_S * SECOND
    else:
        assert inside(boxes((0.1, 0.1, 0.2, 0.6))[0], hidden), "whoever stands still is hidden at any time"


def test_where_nothing_moved_the_looks_before_and_after_hold() -> None:
    made = history((1, boxes((20, 10, 40, 60))), (31, boxes((20, 10, 40, 60))))
    assert made.at(15 * SECOND) is None
    calm = [(round(1.1 * SECOND), round(30.9 * SECOND))]
    hidden = made.at(15 * SECOND, calm=calm)
    assert hidden is not None
    assert inside(boxes((0.1, 0.1, 0.2, 0.6))[0], hidden)
    broken = [(round(1.1 * SECOND), 10 * SECOND), (20 * SECOND, 30 * SECOND)]
    assert made.at(15 * SECOND, calm=broken) is None


def test_faces_walk_further_than_persons_for_their_size_and_nothing_leaves_the_picture() -> None:
    face, person = (
        history((1, boxes((20, 10, 30, 20))), blur=blur).at(round(1.5 * SECOND))
        for blur in (Blur.FACES, Blur.PERSONS)
    )
    assert face is not None
    assert person is not None
    assert np.ptp(face[0, [0, 2]]) > np.ptp(person[0, [0, 2]])
    assert face.min() >= 0
    assert face.max() <= 1


def test_it_forgets_what_is_old_and_begins_anew_with_a_camera_that_does() -> None:
    made = history(*((float(second), boxes()) for second in range(100)), keep_s=10)
    assert made.at(2 * SECOND) is None
    assert made.at(95 * SECOND) is not None
    copy = made.copy()
    made.look(0, boxes((0, 0, 10, 10)), height=HEIGHT, width=WIDTH)
    assert made.newest_ns == 0
    assert made.at(95 * SECOND) is None
    assert copy.newest_ns == 99 * SECOND, "a copy stays as it is"


def test_nobody_has_looked_yet() -> None:
    made = history()
    assert made.at(0) is None
    assert (made.newest_ns, made.aspect) == (None, None)
