"""Values that take several runs: before each further one it is asked whether anybody waits still."""

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import DeadlineError
from edge_runtime.contract.result import TextClassification
from edge_runtime.contract.task import TextClassificationSpec, TextInput
from edge_runtime.contract.tensors import Tensors
from edge_runtime.engines.base import Session
from edge_runtime.local_model import open_any_model, this_device
from edge_runtime.predict import GenerationPredictor, ValuePredictor, run_rows
from tests.simulators.text_bundles import write_bundle
from tests.simulators.tiny_decoder import write_bundle as write_writer

ROWS = {"x": np.arange(5, dtype=np.float32).reshape(5, 1)}


class Doubles:
    """A session of any number of rows."""

    def __init__(self, session: Session) -> None:
        self.inputs, self.outputs = session.inputs, session.outputs
        self.provider, self.runs = session.provider, 0
        self._session = session

    def run(self, inputs: Tensors) -> Tensors:
        self.runs += 1
        return self._session.run(inputs)

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def predictor(tmp_path: Path) -> ValuePredictor:
    """A model of texts that takes windows of four tokens, two of them words, one window a run."""
    spec = TextClassificationSpec(
        kind="text-classification",
        labels=("bad", "good"),
        input=TextInput(max_length=4, overflow="window", overlap=0),
    )
    table = np.zeros((6, 2), np.float32)
    bundle = write_bundle(tmp_path / "m", ("bad", "good"), table, spec, batch=1)
    opened = open_any_model(bundle, this_device("auto")).predictor
    assert isinstance(opened, ValuePredictor)
    opened.session = Doubles(opened.session)
    return opened


def test_it_is_asked_between_the_runs_and_not_before_the_first(predictor: ValuePredictor) -> None:
    asked: list[int] = []
    session = predictor.session
    assert isinstance(session, Doubles)
    found = predictor.predict_while("good " * 6, lambda: asked.append(session.runs))
    assert isinstance(found, TextClassification)
    assert (asked, session.runs, found.windows) == ([1, 2], 3, 3)
    asked.clear()
    predictor.predict_while("good", lambda: asked.append(session.runs))
    assert asked == []


def test_what_nobody_waits_for_is_not_run(predictor: ValuePredictor) -> None:
    def late() -> None:
        raise DeadlineError("the time is over")

    session = predictor.session
    assert isinstance(session, Doubles)
    with pytest.raises(DeadlineError):
        predictor.predict_while("good " * 6, late)
    assert session.runs == 1
    assert len(run_rows(session, predictor.task.preprocess("good " * 6)[0])["logits"]) == 3


def test_a_text_that_nobody_waits_for_is_not_written_on(tmp_path: Path) -> None:
    write_writer(tmp_path / "w")
    asked: list[int] = []

    def late_after_two() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise DeadlineError("the time is over")

    from edge_runtime.bundle import wrap_model
    from edge_runtime.contract.task import GenerationSpec
    from tests.simulators.tiny_decoder import END

    spec = GenerationSpec(kind="generation", context_length=64, end_tokens=(END,), max_tokens=6)
    opened = open_any_model(wrap_model(tmp_path / "w" / "model.onnx", spec), this_device("auto")).predictor
    assert isinstance(opened, GenerationPredictor)
    whole = opened.predict("a b")
    with pytest.raises(DeadlineError):
        opened.predict_while("a b", late_after_two)
    assert len(asked) == 2 < whole.tokens + 1
    opened.close()
