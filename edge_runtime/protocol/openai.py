"""OpenAI-style requests and answers: embeddings, chat completions, completions, the list of models.

What would change an answer and is not done here is refused by name unless it is set to its neutral value;
everything else that is not known is ignored (`REFUSED` is the list). Source: OpenAI, "API Reference". Runs
no model and sends nothing.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from edge_runtime.contract.errors import InputError, TooLargeError
from edge_runtime.contract.request import Message, Prompt, Sampling
from edge_runtime.contract.result import Answer, Embedding, Generation
from edge_runtime.protocol import json_document
from edge_runtime.protocol.backend import ModelState
from edge_runtime.protocol.json_document import Document, is_array, is_object, kind_of
from edge_runtime.protocol.limits import Limits

DONE = b"data: [DONE]\n\n"
"""The end of a stream."""

REFUSED: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "dimensions": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "web_search_options": (),
}
"""What is not done here, and the values, beside null, that ask for nothing."""

ROLES = ("system", "user", "assistant")
_ROLES = {**{role: role for role in ROLES}, "developer": "system"}
_STOPS = 16


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """Texts to embed.

    Args:
        model: Which model.
        texts: At least one.
        base64: Whether vectors are wanted as base64 of little-endian float32.
    """

    model: str
    texts: tuple[str, ...]
    base64: bool


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A text to generate, from a conversation or from a prompt.

    Args:
        model: Which model.
        prompts: One, or several of `/v1/completions`.
        chat: Whether it was asked of `/v1/chat/completions`.
        stream: Whether the text is wanted piece by piece.
        usage: Whether the stream ends with the numbers of tokens.
    """

    model: str
    prompts: tuple[Prompt, ...]
    chat: bool
    stream: bool
    usage: bool


def read_embeddings(document: Document, limits: Limits) -> EmbeddingsRequest:
    """Read the body of `/v1/embeddings`.

    Raises:
        InputError: It is wrong, or asks for what is not done here.
        TooLargeError: Too many texts, or too long.
    """
    _refuse(document)
    form = document.get("encoding_format")
    if form is not None and (not isinstance(form, str) or form not in {"float", "base64"}):
        raise InputError("'encoding_format'", expected="float or base64", got=kind_of(form))
    return EmbeddingsRequest(
        _model(document), _texts(document.get("input"), "input", limits), form == "base64"
    )


def read_chat(document: Document, limits: Limits) -> CompletionRequest:
    """Read the body of `/v1/chat/completions`.

    Raises:
        InputError: It is wrong, or asks for what is not done here.
        TooLargeError: The conversation is too long.
    """
    _refuse(document)
    given = document.get("messages")
    if not is_array(given) or not given:
        raise InputError("'messages'", expected="an array of at least one message", got=kind_of(given))
    messages = tuple(_message(entry, index) for index, entry in enumerate(given))
    _check_length("messages", sum(len(message.content) for message in messages), limits)
    prompt = Prompt(messages=messages, sampling=read_sampling(document))
    return _completion(document, (prompt,), chat=True)


def read_completion(document: Document, limits: Limits) -> CompletionRequest:
    """Read the body of `/v1/completions`.

    Raises:
        InputError: It is wrong, or asks for what is not done here.
        TooLargeError: Too many prompts, or too long.
    """
    _refuse(document)
    sampling = read_sampling(document)
    prompts = tuple(
        Prompt(text, sampling=sampling) for text in _texts(document.get("prompt"), "prompt", limits)
    )
    request = _completion(document, prompts, chat=False)
    if request.stream and len(prompts) > 1:
        raise InputError("'prompt'", expected="one prompt for a stream", got=str(len(prompts)))
    return request


def read_sampling(document: Document) -> Sampling:
    """Read how a text is to be generated.

    Raises:
        InputError: A value is out of its range.
    """
    longest = document.get("max_completion_tokens")
    return Sampling(
        max_tokens=_whole(document if longest is None else {"max_tokens": longest}, "max_tokens", low=1),
        temperature=_number(document, "temperature", 0, 2),
        top_p=_number(document, "top_p", 1e-9, 1),
        seed=_whole(document, "seed"),
        stop=_stops(document.get("stop")),
    )


def embeddings_document(request: EmbeddingsRequest, answers: Sequence[Answer[Embedding]]) -> Document:
    """Write the answer of `/v1/embeddings`.

    Args:
        request: What was asked.
        answers: One a text, in their order.
    """
    vectors = [np.ascontiguousarray(answer.value.vector, "<f4") for answer in answers]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if request.base64 else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(answer.value.tokens for answer in answers)
    return {
        "object": "list",
        "model": request.model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "edge": edge(answers[-1]) | {"truncated": any(answer.value.truncated for answer in answers)},
    }


def completion_document(
    request: CompletionRequest, answers: Sequence[Answer[Generation]], *, request_id: str, created_s: int
) -> Document:
    """Write the answer of `/v1/chat/completions` or `/v1/completions` that is not streamed.

    Args:
        request: What was asked.
        answers: One a prompt, in their order.
        request_id: Of the request.
        created_s: Unix time.
    """
    choices: list[Document] = []
    for index, answer in enumerate(answers):
        text = answer.value.text
        said: Document = (
            {"message": {"role": "assistant", "content": text}} if request.chat else {"text": text}
        )
        choices.append({"index": index, **said, "logprobs": None, "finish_reason": answer.value.finish.value})
    return {
        **_head(request, request_id, created_s, "chat.completion" if request.chat else "text_completion"),
        "choices": choices,
        "usage": _usage([answer.value for answer in answers]),
        "edge": edge(answers[-1]),
    }


def chunk(
    request: CompletionRequest,
    text: str,
    end: Answer[Generation] | None,
    *,
    first: bool,
    request_id: str,
    created_s: int,
) -> bytes:
    """Write a piece of a stream as server-sent events.

    Args:
        request: What was asked.
        text: New characters.
        end: The whole, with the last piece only.
        first: Whether this is the first piece.
        request_id: Of the request.
        created_s: Unix time.

    Returns:
        One event; with the last piece two if usage was asked for.
    """
    finish = end.value.finish.value if end is not None else None
    head = _head(
        request, request_id, created_s, "chat.completion.chunk" if request.chat else "text_completion"
    )
    delta: Document = {"text": text}
    if request.chat:
        spoken: Document = {"role": "assistant"} if first else {}
        delta = {"delta": spoken | ({"content": text} if text or first else {})}
    document: Document = {
        **head,
        "choices": [{"index": 0, **delta, "logprobs": None, "finish_reason": finish}],
    }
    if request.usage:
        document["usage"] = None
    if end is None:
        return event(document)
    document["edge"] = edge(end)
    if not request.usage:
        return event(document)
    return event(document) + event({**head, "choices": [], "usage": _usage([end.value])})


def event(document: Document) -> bytes:
    """Write a document as one server-sent event."""
    return b"data: " + json_document.write(document) + b"\n\n"


def models_document(states: Sequence[ModelState]) -> Document:
    """Write the answer of `/v1/models`: those that are ready, by name."""
    names = sorted({state.name for state in states if state.state == "READY"})
    return {"object": "list", "data": [model_document(name) for name in names]}


def model_document(name: str) -> Document:
    """Write a model as `/v1/models` lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "edge-runtime"}


def edge(answer: Answer[Any]) -> Document:
    """Write where an answer came from, which stands beside OpenAI's own fields as `edge`."""
    return {
        "route": answer.decision.route.value,
        "reason": answer.decision.reason.value,
        "version": answer.version,
        "variant": answer.variant,
        "latency_ms": round(answer.latency_ms, 3),
        "confidence": round(float(answer.confidence), 6),
    }


def _head(request: CompletionRequest, request_id: str, created_s: int, kind: str) -> Document:
    prefix = "chatcmpl" if request.chat else "cmpl"
    return {"id": f"{prefix}-{request_id}", "object": kind, "created": created_s, "model": request.model}


def _usage(values: Sequence[Generation]) -> Document:
    asked, answered = sum(v.prompt_tokens for v in values), sum(v.tokens for v in values)
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def _refuse(document: Document) -> None:
    for name, neutral in REFUSED.items():
        value = document.get(name)
        if value is not None and not any(value == plain for plain in neutral):
            raise InputError(f"'{name}' is not done here", expected="it absent", got=kind_of(value))


def _model(document: Document) -> str:
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise InputError("'model'", expected="a model's name", got=kind_of(model))
    return model


def _texts(given: object, key: str, limits: Limits) -> tuple[str, ...]:
    texts = given if is_array(given) else [given]
    if len(texts) > limits.texts:
        raise TooLargeError(f"'{key}'", expected=f"at most {limits.texts} texts", got=str(len(texts)))
    for text in texts:
        if not isinstance(text, str):
            raise InputError(
                f"'{key}'",
                expected="a text, or an array of texts",
                got=kind_of(text),
                do="Send text, not tokens",
            )
        _check_length(key, len(text), limits)
    if not texts or not all(texts):
        raise InputError(f"'{key}'", expected="at least one text, and none empty", got=kind_of(given))
    return tuple(map(str, texts))


def _check_length(key: str, characters: int, limits: Limits) -> None:
    if characters > limits.characters:
        raise TooLargeError(
            f"'{key}'", expected=f"at most {limits.characters} characters", got=str(characters)
        )


def _message(entry: object, index: int) -> Message:
    where = f"message {index}"
    if not is_object(entry):
        raise InputError(where, expected="an object", got=kind_of(entry))
    message = entry
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InputError(f"role of {where}", expected=f"one of {', '.join(_ROLES)}", got=kind_of(role))
    content = message.get("content")
    if is_array(content):
        content = "".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise InputError(f"content of {where}", expected="a text", got=kind_of(content))
    return Message(_ROLES[role], content)


def _part(part: object, where: str) -> str:
    if is_object(part):
        said = part
        if said.get("type") == "text" and isinstance(said.get("text"), str):
            return cast(str, said["text"])
        raise InputError(f"content of {where}", expected="parts of type text", got=kind_of(said.get("type")))
    raise InputError(f"content of {where}", expected="parts of type text", got=kind_of(part))


def _completion(document: Document, prompts: tuple[Prompt, ...], *, chat: bool) -> CompletionRequest:
    options = document.get("stream_options")
    if options is not None and not is_object(options):
        raise InputError("'stream_options'", expected="an object", got=kind_of(options))
    return CompletionRequest(
        _model(document),
        prompts,
        chat,
        stream=_flag(document, "stream"),
        usage=_flag(options or {}, "include_usage"),
    )


def _flag(document: Document, key: str) -> bool:
    value = document.get(key)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"'{key}'", expected="true or false", got=kind_of(value))
    return bool(value)


def _whole(document: Document, key: str, *, low: int = -(2**63)) -> int | None:
    value = document.get(key)
    if value is not None and (type(value) is not int or not low <= value < 2**63):
        raise InputError(f"'{key}'", expected=f"a whole number from {low} on", got=kind_of(value))
    return value


def _number(document: Document, key: str, low: float, high: float) -> float | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"'{key}'", expected=f"a number from {low:g} to {high:g}", got=kind_of(value))
    return float(value)


def _stops(given: object) -> tuple[str, ...]:
    stops = [] if given is None else given if is_array(given) else [given]
    if len(stops) > _STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise InputError(
            "'stop'", expected=f"a text, or up to {_STOPS} texts, none empty", got=kind_of(given)
        )
    return tuple(map(str, stops))
