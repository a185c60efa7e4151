"""Generating text: tokens, stop sequences, limits, templates, and the loop over a decoder."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.errors import BundleError, EngineError, InputError, TooLargeError
from edge_runtime.contract.request import Message, Prompt, Sampling
from edge_runtime.contract.result import Finish, Generation
from edge_runtime.local_model import open_any_model, this_device
from edge_runtime.predict import GenerationPredictor
from edge_runtime.tasks.generation.sampling import next_token
from edge_runtime.tasks.generation.task import GenerationTask
from tests.simulators.scripted_decoder import ScriptedDecoder
from tests.simulators.tiny_decoder import BYTES, VOCABULARY, spec, write_bundle, write_tokenizer

END = BYTES


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("text") / "tokenizer.json")


@pytest.fixture
def task(tokenizer: Path) -> GenerationTask:
    return GenerationTask(spec(), tokenizer)


def tokens(task: GenerationTask, text: str) -> list[int]:
    """A token for each byte."""
    return list(task.plan(Prompt(text=text)).prompt)


def saying(task: GenerationTask, text: str, *, end: bool = True) -> GenerationPredictor:
    """A predictor whose model says a text."""
    script = [*tokens(task, text), *([END] if end else [])]
    return GenerationPredictor(task, ScriptedDecoder(script, VOCABULARY), Prompt(text="x"))


def asked(text: str = "go", **sampling: Any) -> Prompt:
    return Prompt(text=text, sampling=Sampling(**sampling))


def test_the_model_ends_its_answer(task: GenerationTask) -> None:
    *pieces, whole = saying(task, "hello").stream(asked())
    assert pieces == ["h", "e", "l", "l", "o", ""]
    assert isinstance(whole, Generation)
    assert (whole.text, whole.finish, whole.prompt_tokens, whole.tokens) == ("hello", Finish.STOP, 2, 5)
    assert whole.probability == pytest.approx(1.0)


def test_the_number_of_tokens_is_kept(task: GenerationTask) -> None:
    predictor = saying(task, "hello", end=False)
    found = predictor.predict(asked(max_tokens=3))
    assert (found.text, found.finish, found.tokens) == ("hel", Finish.LENGTH, 3)
    # The prompt, then each token but the last one, which nobody needs the logits after.
    decoder: Any = predictor.session
    assert [len(call) for call in decoder.readings[0].calls] == [2, 1, 1]


def test_the_declared_number_counts_where_nobody_asks(tokenizer: Path) -> None:
    found = saying(GenerationTask(spec(max_tokens=2), tokenizer), "hello").predict("go")
    assert (found.text, found.finish) == ("he", Finish.LENGTH)


def test_the_context_ends_an_answer(tokenizer: Path) -> None:
    short = GenerationTask(spec(context_length=6), tokenizer)
    predictor = saying(short, "hello", end=False)
    found = predictor.predict(asked("go", max_tokens=99))
    assert (found.text, found.finish, found.prompt_tokens) == ("hell", Finish.LENGTH, 2)


@pytest.mark.parametrize("length", [6, 7, 60])
def test_a_prompt_without_room_for_an_answer(tokenizer: Path, length: int) -> None:
    short = GenerationTask(spec(context_length=6), tokenizer)
    with pytest.raises(TooLargeError, match=rf"prompt: expected at most 5 tokens, got {length} tokens"):
        short.plan(Prompt(text="x" * length))


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("lo",), "hel"),
        (("xyz", "ll"), "he"),
        (("hello",), ""),
        (("lo w", "o"), "hell"),  # the one that is complete first
        (("world!",), "hello world"),  # a beginning of it is no stop
        ((), "hello world"),
    ],
)
def test_stop_sequences_cross_tokens(task: GenerationTask, stop: tuple[str, ...], text: str) -> None:
    *pieces, whole = saying(task, "hello world").stream(asked(stop=stop))
    assert isinstance(whole, Generation)
    assert whole.text == text
    assert whole.finish is Finish.STOP
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == text


def test_what_may_become_a_stop_is_held_back(task: GenerationTask) -> None:
    *pieces, _ = saying(task, "abcabd").stream(asked(stop=("abd",)))
    assert pieces == ["", "", "abc", "", "", ""]


def test_half_a_character_is_held_back(task: GenerationTask) -> None:
    *pieces, whole = saying(task, "é€😀").stream(asked())
    assert pieces == ["", "é", "", "", "€", "", "", "", "😀", ""]
    assert isinstance(whole, Generation)
    assert (whole.text, whole.tokens) == ("é€😀", 9)


def test_a_text_that_ends_in_half_a_character(task: GenerationTask) -> None:
    found = saying(task, "a€", end=False).predict(asked(max_tokens=3))
    assert found.text == "a\ufffd"
    assert found.finish is Finish.LENGTH


def test_a_stop_sequence_in_what_was_held_back(task: GenerationTask) -> None:
    found = saying(task, "a€", end=False).predict(asked(max_tokens=3, stop=("\ufffd",)))
    assert (found.text, found.finish) == ("a", Finish.STOP)


def test_closing_the_stream_stops_the_work(task: GenerationTask) -> None:
    predictor = saying(task, "hello")
    stream = predictor.stream(asked())
    assert [next(stream), next(stream)] == ["h", "e"]
    decoder: Any = predictor.session
    assert not decoder.readings[0].closed
    stream.close()
    assert decoder.readings[0].closed
    assert len(decoder.readings[0].calls) == 2


def test_a_failing_model_frees_the_past(task: GenerationTask) -> None:
    predictor = GenerationPredictor(task, ScriptedDecoder([END], VOCABULARY), Prompt(text="x"))
    decoder: Any = predictor.session
    stream = predictor.stream(asked())
    decoder.start = _Failing
    with pytest.raises(EngineError, match="out of memory"):
        next(stream)
    assert _Failing.closed


class _Failing:
    closed = False

    def read(self, tokens: Sequence[int]) -> Any:
        raise EngineError(f"out of memory after {len(tokens)} tokens")

    def close(self) -> None:
        _Failing.closed = True


def test_a_long_prompt_is_read_in_parts(tokenizer: Path) -> None:
    long = GenerationTask(spec(context_length=4000, prompt_at_once=512), tokenizer)
    decoder = ScriptedDecoder([1, 1, *tokens(long, "ok"), END], VOCABULARY)
    *pieces, whole = GenerationPredictor(long, decoder, Prompt(text="x")).stream(asked("y" * 1100))
    assert [len(call) for call in decoder.readings[0].calls] == [512, 512, 76, 1, 1]
    assert pieces == ["", "", "o", "k", ""]
    assert isinstance(whole, Generation)
    assert whole.prompt_tokens == 1100


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(), "expected a text or messages, got neither"),
        (Prompt(text="a", messages=(Message("user", "b"),)), "got both"),
        (Prompt(text=""), "at least one token"),
        (Prompt(text="\ud800"), "characters that UTF-8 has"),
        (Prompt(messages=(Message("root", "b"),)), "system, user, assistant, got root"),
        (asked(max_tokens=0), "max_tokens: expected at least 1, got 0"),
        (asked(temperature=-1), "temperature: expected between 0 and 2, got -1"),
        (asked(temperature=float("nan")), "temperature.*got nan"),
        (asked(top_p=0), "top_p: expected above 0"),
        (asked(top_p=1.5), "at most 1, got 1.5"),
        (asked(seed=-1), "seed: expected 0 or more"),
        (asked(stop=("a", "")), "at least one character, got an empty one"),
        (b"bytes", "expected a prompt, got bytes"),
    ],
)
def test_wrong_prompts(task: GenerationTask, prompt: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        saying(task, "hello").stream(prompt)


def test_a_conversation_goes_through_the_template(task: GenerationTask) -> None:
    talk = (Message("system", "Be brief."), Message("user", "Hi"))
    plan = task.plan(Prompt(messages=talk))
    assert task.decode(plan.prompt) == "[system] Be brief.\n[user] Hi\n[assistant] "


def test_a_model_without_a_template_takes_no_messages(tokenizer: Path) -> None:
    bare = GenerationTask(spec(chat_template=None), tokenizer)
    with pytest.raises(InputError, match="no chat template"):
        bare.plan(Prompt(messages=(Message("user", "Hi"),)))


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{% for m in messages %}", BundleError, "expected a Jinja template"),
        ("{{ messages[0].content.nothing.there }}", BundleError, "chat_template: .*nothing"),
        ("{{ 1 / 0 }}", BundleError, "division"),
        ("{{ ''.__class__.__mro__ }}", BundleError, "unsafe"),
        ("{{ messages.append(1) }}", BundleError, "'append' of 'list' object is unsafe"),
        ("{{ raise_exception('no system turns') }}", InputError, "no system turns"),
        ("{% for i in range(999999999) %}x{% endfor %}", BundleError, "Range too big"),
    ],
)
def test_templates_are_kept_in_a_sandbox(
    tokenizer: Path, template: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        GenerationTask(spec(chat_template=template), tokenizer).plan(
            Prompt(messages=(Message("user", "Hi"),))
        )


def test_a_tokenizer_that_does_not_know_the_end(tokenizer: Path) -> None:
    with pytest.raises(BundleError, match=r"end_tokens: .*got </s>"):
        GenerationTask(spec(end_tokens=("<|end|>", "</s>")), tokenizer)


def logits(*chances: float) -> Any:
    with np.errstate(divide="ignore"):
        return np.log(np.array(chances)).astype(np.float32)


def test_the_likeliest_token() -> None:
    for top_p in (0.1, 1.0):
        found = next_token(logits(0.1, 0.6, 0.3), np.random.default_rng(0), temperature=0, top_p=top_p)
        assert found == (1, pytest.approx(0.6, abs=1e-6))


def test_only_the_nucleus_is_drawn_from() -> None:
    dice = np.random.default_rng(0)
    drawn = [next_token(logits(0.05, 0.5, 0.3, 0.15), dice, temperature=1, top_p=0.7)[0] for _ in range(200)]
    assert set(drawn) == {1, 2}
    alone = [next_token(logits(0.05, 0.5, 0.3, 0.15), dice, temperature=1, top_p=0.5)[0] for _ in range(50)]
    assert set(alone) == {1}


def test_the_probability_is_the_models_own() -> None:
    token, chance = next_token(logits(0.2, 0.8), np.random.default_rng(0), temperature=2, top_p=1)
    assert chance == pytest.approx((0.2, 0.8)[token], abs=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_no_numbers(wrong: float) -> None:
    with pytest.raises(EngineError, match="NaN or infinity"):
        next_token(np.array([0, wrong], np.float32), np.random.default_rng(0), temperature=0, top_p=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = open_any_model(write_bundle(tmp_path_factory.mktemp("tiny")), this_device("auto"))
    yield model.predictor
    model.predictor.close()


def test_a_seed_gives_the_same_text(tiny: GenerationPredictor) -> None:
    def draw(seed: int | None) -> str:
        return tiny.predict(asked("once", temperature=1.0, seed=seed, max_tokens=20)).text

    assert draw(3) == draw(3)
    assert len({draw(seed) for seed in range(5)}) > 1
    assert len({draw(None) for _ in range(5)}) > 1


def test_several_texts_at_once(tiny: GenerationPredictor) -> None:
    prompts = [f"prompt {number}" for number in range(6)]
    alone = [tiny.predict(asked(prompt, max_tokens=30)) for prompt in prompts]
    together: dict[str, Generation] = {}

    def generate(prompt: str) -> None:
        together[prompt] = tiny.predict(asked(prompt, max_tokens=30))

    threads = [threading.Thread(target=generate, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[prompt] for prompt in prompts] == alone


def test_texts_in_turns_of_one_thread(tiny: GenerationPredictor) -> None:
    alone = [tiny.predict(asked(prompt, max_tokens=10)).text for prompt in ("ab", "yz")]
    streams = [tiny.stream(asked(prompt, max_tokens=10)) for prompt in ("ab", "yz")]
    last: dict[int, Any] = {}
    for _ in range(12):
        for at, stream in enumerate(streams):
            last[at] = next(stream, last.get(at))
    assert [last[at].text for at in (0, 1)] == alone
