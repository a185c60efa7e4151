"""A model's trial on scripted models and scripted time: what it sees, and when it ends."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle import ModelBundle, open_bundle
from edge_runtime.contract.errors import EngineError, InputError
from edge_runtime.contract.fleet import Trial
from edge_runtime.contract.result import Detections
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.contract.update import Failure
from edge_runtime.update.health import judge
from edge_runtime.update.trial_golden import compare
from edge_runtime.update.trial_likeness import found_again, same_objects
from edge_runtime.update.trial_run import PAIRS, ROUNDS, Mirror, ModelTrial
from edge_runtime.update.trial_side import Side, side_of
from edge_runtime.update.trial_tally import Tally, p95
from tests.simulators.served_bundles import WIDTH, bundle, scaling

X = np.arange(1, 1 + 3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)


@dataclass
class World:
    """Time, and inputs that come at moments of it."""

    now_s: float = 0.0
    inputs: list[Any] = field(default_factory=list[Any])

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def take(self, timeout_s: float) -> Any:
        if self.inputs:
            return self.inputs.pop(0)
        self.now_s += timeout_s
        return None


@dataclass
class Scripted:
    """A session that takes its time."""

    world: World
    answer: Callable[[Any], Any] = lambda x: 2 * x
    cost_s: float = 0.01
    calls: int = 0
    provider: str = "script"
    inputs: Sequence[TensorSpec] = (TensorSpec("x", "float32", (None, WIDTH)),)
    outputs: Sequence[TensorSpec] = (TensorSpec("y", "float32", (None, WIDTH)),)

    def run(self, inputs: Tensors) -> Tensors:
        if inputs["x"].shape[1] != WIDTH:
            raise InputError("inputs", expected=f"{WIDTH} columns", got=str(inputs["x"].shape[1]))
        self.calls += 1
        self.world.now_s += self.cost_s
        return {"y": np.asarray(self.answer(inputs["x"]), np.float32)}

    def close(self) -> None: ...


def opened(folder: Path, golden: bool = True) -> ModelBundle:
    return open_bundle(bundle(folder / "bundle", scaling(2), golden=(X, 2 * X) if golden else None))


def side(made: ModelBundle, session: Scripted) -> Side:
    return side_of(made, "onnx-fp32", session)


def tried(
    new: Side,
    old: Side | None,
    world: World,
    needs: Trial,
    stop: Callable[[], bool] = lambda: False,
    same: Callable[[Any, Any], bool] = lambda one, other: bool(
        np.allclose(one.tensors["y"], other.tensors["y"])
    ),
) -> Tally:
    trial = ModelTrial(
        new, old, world, needs=needs, same=same, stop=stop, clock=world.clock, sleep=world.sleep
    )
    trial.run()
    return trial.tally


def live(count: int) -> list[Any]:
    return [{"x": X[:1] + at} for at in range(count)]


Answer = Callable[[Any], Any]
doubles: Answer = lambda x: 2 * x  # noqa: E731
is_no_number: Answer = lambda x: x * np.float32("nan")  # noqa: E731
says_something_else: Answer = lambda x: x[:, ::-1] - 7  # noqa: E731
is_too_large: Answer = lambda x: 20 * x  # noqa: E731
fails_later: Answer = lambda x: 2 * x if x[0, 0] < 10 else fails(x)  # noqa: E731
differs_later: Answer = lambda x: 2 * x + (x[0, 0] > 10)  # noqa: E731
is_once_infinite: Answer = lambda x: 2 * x / (x[0, 0] != 14)  # noqa: E731


def fails(x: Any) -> Any:
    raise EngineError("no")


def test_a_good_version_is_compared_in_turns_and_on_live_inputs(tmp_path: Path) -> None:
    world = World(inputs=live(50))
    made, needs = opened(tmp_path), Trial(shadow_s=2.0, min_agreement=1.0)
    old = Scripted(world)
    tally = tried(side(made, Scripted(world)), side(made, old), world, needs)
    evidence = tally.evidence()
    assert judge(evidence, needs) is None
    assert (evidence.golden, evidence.golden_wrong, evidence.not_finite, evidence.errors) == (3, 0, 0, 0)
    assert evidence.compared == evidence.agreed == evidence.calls > 10
    assert len(tally.new_ms) == len(tally.old_ms) == PAIRS + evidence.compared
    assert evidence.latency_p95_ms == pytest.approx(10.0)
    assert evidence.compared * 0.02 < 0.3 * needs.shadow_s, "it rests three times as long as it works"


@pytest.mark.parametrize(
    ("answer", "cost_s", "code"),
    [
        (is_no_number, 0.01, Failure.NOT_A_NUMBER),
        (says_something_else, 0.01, Failure.GOLDEN_MISMATCH),
        (is_too_large, 0.01, Failure.GOLDEN_MISMATCH),
        (fails, 0.01, Failure.GOLDEN_MISMATCH),
        (doubles, 0.02, Failure.TOO_SLOW),
    ],
    ids=["nan", "others", "too large", "fails", "slow"],
)  # fmt: skip
def test_what_is_wrong_ends_it_before_live_inputs(
    answer: Callable[[Any], Any], cost_s: float, code: Failure, tmp_path: Path
) -> None:
    world, needs = World(inputs=live(3)), Trial(shadow_s=1e6)
    made = opened(tmp_path)
    new, old = Scripted(world, answer, cost_s), Scripted(world)
    tally = tried(side(made, new), side(made, old), world, needs)
    unhealthy = judge(tally.evidence(), needs)
    assert unhealthy is not None
    assert unhealthy.code is code
    assert len(world.inputs) == 3
    assert old.calls == (0 if code is not Failure.TOO_SLOW else ROUNDS * PAIRS + 3)


@pytest.mark.parametrize(
    ("answer", "needs", "code"),
    [
        (fails_later, Trial(shadow_s=9), Failure.TOO_MANY_ERRORS),
        (differs_later, Trial(shadow_s=9, min_agreement=0.9), Failure.SHADOW_DISAGREES),
        (is_once_infinite, Trial(shadow_s=9), Failure.NOT_A_NUMBER),
    ],
    ids=["errors", "disagrees", "nan on one"],
)  # fmt: skip
def test_what_only_live_inputs_show(
    answer: Callable[[Any], Any], needs: Trial, code: Failure, tmp_path: Path
) -> None:
    world, made = World(inputs=live(20)), opened(tmp_path, golden=False)
    with np.errstate(divide="ignore"):
        tally = tried(side(made, Scripted(world, answer)), side(made, Scripted(world)), world, needs)
    unhealthy = judge(tally.evidence(), needs)
    assert unhealthy is not None
    assert unhealthy.code is code


def test_an_input_that_both_refuse_is_nobodys_error(tmp_path: Path) -> None:
    world = World(inputs=[{"x": X[:1]}, {"x": X[:1, :2]}, {"x": X[:1]}])
    made = opened(tmp_path)
    evidence = tried(
        side(made, Scripted(world)), side(made, Scripted(world)), world, Trial(shadow_s=5)
    ).evidence()
    assert (evidence.calls, evidence.errors, evidence.compared) == (2, 0, 2)


def test_a_first_version_has_nobody_to_be_compared_with(tmp_path: Path) -> None:
    world, made = World(inputs=live(4)), opened(tmp_path)
    evidence = tried(side(made, Scripted(world)), None, world, Trial(shadow_s=5)).evidence()
    assert (evidence.calls, evidence.compared, evidence.old_latency_p95_ms) == (4, 0, None)


@pytest.mark.parametrize("after", [0, 1, 5, 30, 95])
def test_it_stops_between_any_two_runs(after: int, tmp_path: Path) -> None:
    made, world = opened(tmp_path), World(inputs=live(20))
    new, old = Scripted(world), Scripted(world)
    needs = Trial(shadow_s=9)
    tried(side(made, new), side(made, old), world, needs, lambda: new.calls + old.calls > after)
    assert new.calls + old.calls <= after + 2 * 4, "at most the warm-up goes on"


def test_the_mirror_keeps_the_newest_and_never_waits() -> None:
    mirror = Mirror()
    assert mirror.take(0.0) is None
    for number in range(5):
        mirror.put(number)
    assert mirror.take(0.0) == 4
    assert mirror.take(0.0) is None
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(mirror.take(30)))
    reader.start()
    mirror.put("late")
    reader.join(30)
    assert found == ["late"]


def test_golden_answers_are_held_against_the_receipt(tmp_path: Path) -> None:
    world = World()
    near = 2 * X + np.array([0.5, -0.5, 0.5, -0.5], np.float32)
    made = open_bundle(bundle(tmp_path / "exact", scaling(2), golden=(X, 2 * X), cosine=0.99999))
    loose = open_bundle(bundle(tmp_path / "loose", scaling(2), golden=(X, 2 * X), cosine=0.99))
    raws = [{"x": row[None]} for row in X]
    wanted = {"y": [2 * row[None] for row in X]}
    answers: list[Tensors] = [{"y": row[None]} for row in near + np.array([2, 0, 0, -2], np.float32)]
    same = compare(side(loose, Scripted(world)), raws, answers, wanted)
    assert same.difference is None
    assert same.likeness is not None
    assert 0.96 < same.likeness < 0.999
    strict = compare(side(made, Scripted(world)), raws, answers, wanted).difference
    assert strict is not None
    assert "at least 0.9990 expected" in strict.said
    far: list[Tensors] = [{"y": row[None, ::-1]} for row in X]
    worse = compare(side(made, Scripted(world)), raws, far, wanted).difference
    assert worse is not None
    assert worse.rows >= 2
    assert "output 'y': cosine" in worse.said


def objects(*found: tuple[str, float, float]) -> Detections:
    """Each a label, a score, and where it is."""
    labels = ("person", "car")
    return Detections(
        np.array([[at, 0, at + 10, 10] for _, _, at in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array([labels.index(label) for label, _, _ in found], np.int32),
        labels,
    )


def test_objects_are_the_same_where_nearly_all_sure_ones_are() -> None:
    one = objects(("person", 0.9, 0), ("car", 0.8, 50), ("person", 0.2, 90))
    moved = objects(("person", 0.6, 2), ("car", 0.3, 51))
    assert found_again(one, moved, 0.5) == (2, 2)
    assert same_objects(one, moved, 0.5)
    assert not same_objects(one, objects(("car", 0.9, 0), ("car", 0.8, 50)), 0.5), "another label"
    assert not same_objects(one, objects(("person", 0.9, 30), ("car", 0.8, 50)), 0.5), "another place"
    assert not same_objects(objects(), one, 0.5)
    assert same_objects(objects(), objects(("car", 0.3, 1)), 0.5), "nobody is sure of anything"


def test_p95_is_what_one_in_twenty_exceeds() -> None:
    assert p95([]) is None
    assert p95([5.0]) == 5.0
    assert p95([float(at) for at in range(1, 101)]) == 95.0
