"""Generation with a real decoder, MiniMind2-Small, where `make` has fetched it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.contract.request import Message, Prompt, Sampling
from edge_runtime.contract.result import Finish, Generation
from edge_runtime.local_model import find_bundle, open_any_model, this_device
from edge_runtime.predict import GenerationPredictor
from edge_runtime.settings import load_task

HELLO = Prompt(messages=(Message("user", "你好"),), sampling=Sampling(max_tokens=24))


@pytest.fixture(scope="module")
def minimind(repository: Path) -> Iterator[GenerationPredictor]:
    file = repository / os.environ.get("EDGE_RUNTIME_MINIMIND", "absent")
    if not file.is_file():
        pytest.skip("EDGE_RUNTIME_MINIMIND does not name the MiniMind2 decoder; it is not shipped")
    task = load_task(repository / "examples/minimind.task.yaml")
    model = open_any_model(find_bundle(str(file), task), this_device("auto"))
    assert isinstance(model.predictor, GenerationPredictor)
    yield model.predictor
    model.predictor.close()


def test_an_answer_comes_in_whole_characters(minimind: GenerationPredictor) -> None:
    *pieces, whole = minimind.stream(HELLO)
    assert isinstance(whole, Generation)
    assert whole.finish is Finish.STOP
    assert "".join(str(piece) for piece in pieces) == whole.text
    assert "帮助你" in whole.text
    assert "\ufffd" not in whole.text


def test_a_stop_sequence_in_a_real_answer(minimind: GenerationPredictor) -> None:
    stopped = minimind.predict(Prompt(messages=HELLO.messages, sampling=Sampling(stop=("帮助",))))
    whole = minimind.predict(HELLO)
    assert stopped.text == whole.text.split("帮助")[0]


def test_a_sensible_answer(minimind: GenerationPredictor) -> None:
    """Why is the sky blue? Because air scatters (散射) the sun's blue light (蓝色光)."""
    prompt = Prompt(messages=(Message("user", "为什么天空是蓝色的？"),), sampling=Sampling(max_tokens=48))
    text = minimind.predict(prompt).text
    assert "散射" in text
    assert "蓝色光" in text
