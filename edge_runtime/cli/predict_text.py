"""`edge-runtime predict` for models of text: answers as a table or as JSON, generated text as it comes."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_runtime.bundle import ModelBundle
from edge_runtime.contract.errors import ConfigError, InputError
from edge_runtime.contract.request import Message, Prompt, Sampling
from edge_runtime.contract.result import Embedding, Entities, Generation, TextClassification
from edge_runtime.contract.task import GenerationSpec
from edge_runtime.local_model import AnyModel, open_any_model, this_device
from edge_runtime.predict import GenerationPredictor
from edge_runtime.protocol.answers import result_of
from edge_runtime.tasks.confidence import confidence_of

STANDARD_INPUT = "-"
"""An argument that stands for what comes through the pipe."""
_SHOWN = 6
"""Numbers of a vector that a person sees."""


@dataclass(frozen=True, slots=True)
class Said:
    """The answer for one text.

    Args:
        text: What was asked.
        latency_ms: Of the whole answer.
        confidence: See `confidence_of`.
        result: As `POST /v1/predict` writes it.
    """

    text: str
    latency_ms: float
    confidence: float
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextReport:
    """The answers, and what gave them."""

    model: str
    version: str
    variant: str
    engine: str
    provider: str
    texts: tuple[Said, ...]


def predict_texts(
    bundle: ModelBundle,
    inputs: Sequence[str],
    *,
    prompt: str | None = None,
    sampling: Sampling,
    engine: str | None = None,
    as_json: bool = False,
) -> TextReport:
    """Ask a model of text, and show each answer when it is there.

    Args:
        bundle: The model.
        inputs: Texts; `-` is standard input. For a model that generates: messages to it, or prompts where it
            has no chat template.
        prompt: For a model that generates: a prompt that is continued as it is.
        sampling: How a model generates.
        engine: Only this engine; None: the best one.
        as_json: Show nothing.

    Raises:
        ConfigError: There is no text, or an option is for another kind of model.
        EdgeRuntimeError: The model does not open or does not answer.
    """
    spec = bundle.manifest.task
    generates = isinstance(spec, GenerationSpec)
    if not generates and (prompt is not None or sampling != Sampling()):
        raise ConfigError(
            "--prompt, --max-tokens, --temperature, --top-p, --seed and --stop",
            expected="a model that generates",
            got=f"a model of kind '{spec.kind}'",
        )
    texts = [_read() if text == STANDARD_INPUT else text for text in inputs]
    chat = generates and spec.chat_template is not None
    asked: list[tuple[str, str | Prompt]] = [
        (text, _prompt(text, sampling, chat=chat) if generates else text) for text in texts
    ]
    if prompt is not None:
        asked.append((prompt, _prompt(prompt, sampling, chat=False)))
    if not asked:
        raise ConfigError("what to predict", expected="a text", got="none", do="Give it after the model")
    model = open_any_model(bundle, this_device("auto"), engine=engine)
    try:
        model.predictor.warm_up()
        said = tuple(_ask(model, *one, as_json=as_json) for one in asked)
    finally:
        model.predictor.close()
    return replace(_header(model), texts=said)


def _header(model: AnyModel) -> TextReport:
    manifest, choice = model.bundle.manifest, model.choice
    return TextReport(
        manifest.name, manifest.version, choice.variant, choice.engine, model.session.provider, ()
    )


def _prompt(text: str, sampling: Sampling, *, chat: bool) -> Prompt:
    if chat:
        return Prompt(messages=(Message("user", text),), sampling=sampling)
    return Prompt(text=text, sampling=sampling)


def _read() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InputError("standard input", expected="UTF-8", got=f"other bytes at {error.start}") from error


def _ask(model: AnyModel, text: str, value: str | Prompt, *, as_json: bool) -> Said:
    began = time.perf_counter()
    if isinstance(model.predictor, GenerationPredictor) and not as_json:
        answer = _stream(model.predictor, value)
    else:
        answer = model.predictor.predict(value)
    latency_ms = (time.perf_counter() - began) * 1e3
    if not as_json:
        _show(model, text, answer, latency_ms)
    result = result_of(answer)
    if isinstance(answer, Embedding):
        result["vector"] = answer.vector.tolist()
    return Said(text, latency_ms, confidence_of(answer), result)


def _stream(predictor: GenerationPredictor, prompt: str | Prompt) -> Generation:
    """Write a text while it is made."""
    for piece in predictor.stream(prompt):
        if isinstance(piece, Generation):
            sys.stdout.write("\n")
            return piece
        sys.stdout.write(piece)
        sys.stdout.flush()
    raise AssertionError("a stream ends with the whole text")


def _show(model: AnyModel, text: str, answer: Any, latency_ms: float) -> None:
    screen, header = Console(highlight=False), _header(model)
    what = f"{header.model} {header.version}, {header.variant} on {header.engine} ({header.provider})"
    if isinstance(answer, Generation):
        # Beside the text, so that a pipe gets the text alone.
        notes = Console(stderr=True, highlight=False)
        rate = answer.tokens / latency_ms * 1e3
        notes.print(
            f"{what}: {answer.prompt_tokens} tokens in, {answer.tokens} out, {rate:.1f} tokens/s,"
            f" ended by {answer.finish.value}",
            style="dim",
            markup=False,
            soft_wrap=True,
        )
        return
    screen.print(f"{what}, {latency_ms:.1f} ms", markup=False, soft_wrap=True)
    screen.print(text if len(text) <= 200 else f"{text[:200]}…", markup=False, style="bold", soft_wrap=True)
    _show_answer(screen, answer)


def _show_answer(screen: Console, answer: Any) -> None:
    match answer:
        case TextClassification():
            table = Table("what", "score", box=None, pad_edge=False)
            for index, score in zip(answer.classes, answer.scores, strict=True):
                table.add_row(answer.labels[int(index)], f"{score:.2f}")
            screen.print(table)
        case Entities():
            table = Table("what", "score", "characters", "text", box=None, pad_edge=False)
            for one in answer.entities:
                table.add_row(one.label, f"{one.score:.2f}", f"{one.start}–{one.end}", one.text)
            screen.print(table if answer.entities else "nothing found")
        case Embedding():
            shown = ", ".join(f"{number:.3f}" for number in answer.vector[:_SHOWN])
            screen.print(f"{len(answer.vector)} numbers: {shown}, …")
        case _:
            raise TypeError(f"no answer of a text: {type(answer).__name__}")
    if answer.truncated:
        screen.print(f"Only the first {answer.tokens} tokens were looked at.", style="yellow")
