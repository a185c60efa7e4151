"""OpenAI's own client against the door: embeddings, chats, completions, streams, models, refusals."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from edge_runtime.web.access import Access
from edge_runtime.web.door import Door
from edge_runtime.web.server import Server
from tests.simulators.backends import Shop, letters

KEY = "key-of-the-shop"
HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the queue was short"}]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def url(shop: Shop) -> Iterator[str]:
    with Server(Door(shop, access=Access(KEY)), host="127.0.0.1", port=0) as server:
        yield f"{server.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_embeddings(client: openai.OpenAI, form: Any) -> None:
    texts = ["the queue", "was short"]
    extra = {} if form is None else {"encoding_format": form}
    answer = client.embeddings.create(model="letters", input=texts, **extra)
    found = [entry.embedding for entry in answer.data]
    if form == "base64":
        import base64

        found = [np.frombuffer(base64.b64decode(str(text)), "<f4") for text in found]
    np.testing.assert_allclose(np.float32(found), [letters(text).vector for text in texts], rtol=1e-6)
    assert [entry.index for entry in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == 8
    assert answer.model == "letters"


def test_one_text(client: openai.OpenAI, shop: Shop) -> None:
    answer = client.embeddings.create(model="letters", input="aab", extra_headers={"x-request-id": "one"})
    assert answer.data[0].embedding[0] == pytest.approx(2 / 5**0.5)
    assert shop.asked[-1].id == "one"


def test_a_chat(client: openai.OpenAI, shop: Shop) -> None:
    answer = client.chat.completions.create(
        model="parrot", messages=HELLO, temperature=0, seed=7, max_tokens=9
    )
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", "the queue was short")
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        6,
        4,
        10,
    )
    assert answer.model_extra is not None
    assert answer.model_extra["edge"]["route"] == "local"
    sampling = shop.asked[-1].value.sampling  # type: ignore[union-attr]
    assert (sampling.temperature, sampling.seed, sampling.max_tokens) == (0.0, 7, 9)


def test_stops_and_lengths(client: openai.OpenAI) -> None:
    cut = client.chat.completions.create(model="parrot", messages=HELLO, max_completion_tokens=2)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("the queue", "length")
    stopped = client.chat.completions.create(model="parrot", messages=HELLO, stop=["queue", "short"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("the", "stop")


def test_parts_of_text_are_one_text(client: openai.OpenAI) -> None:
    parts: Any = [
        {"role": "user", "content": [{"type": "text", "text": "a b"}, {"type": "text", "text": " c"}]}
    ]
    answer = client.chat.completions.create(model="parrot", messages=parts)
    assert answer.choices[0].message.content == "a b c"


def test_a_streamed_chat(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="parrot", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == "the queue was short"
    assert said[0].delta.role == "assistant"
    assert len(said) > 3
    assert [choice.finish_reason for choice in said] == [None] * (len(said) - 1) + ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_streamed_chat_without_usage(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="parrot", messages=HELLO, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_completions(client: openai.OpenAI) -> None:
    one = client.completions.create(model="parrot", prompt="a b c")
    assert (one.choices[0].text, one.choices[0].finish_reason) == ("a b c", "stop")
    two = client.completions.create(model="parrot", prompt=["a b", "c"], max_tokens=1)
    assert [(choice.index, choice.text) for choice in two.choices] == [(0, "a"), (1, "c")]
    assert two.usage is not None
    assert two.usage.completion_tokens == 2


def test_a_streamed_completion(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model="parrot", prompt="a b c", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "a b c"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_aio_client(url: str) -> None:
    async def ask() -> tuple[str, int]:
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model="parrot", messages=HELLO, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            vectors = await client.embeddings.create(model="letters", input=["a"] * 5)
            return text, len(vectors.data)

    assert asyncio.run(ask()) == ("the queue was short", 5)


def test_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "parrot" in names
    assert "spare" not in names, "it is not loaded"
    assert client.models.retrieve("parrot").id == "parrot"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


FAILURES: dict[str, tuple[type[openai.APIStatusError], str, str]] = {
    "nobody": (openai.NotFoundError, "unknown-model-error", "invalid_request_error"),
    "broken": (openai.InternalServerError, "engine-error", "server_error"),
    "busy": (openai.InternalServerError, "overloaded-error", "server_error"),
    "late": (openai.InternalServerError, "deadline-error", "server_error"),
    "forbidden": (openai.PermissionDeniedError, "refused-error", "permission_error"),
    "buggy": (openai.InternalServerError, "internal-error", "server_error"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", FAILURES)
def test_errors(client: openai.OpenAI, model: str, stream: bool) -> None:
    kind, code, family = FAILURES[model]
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=HELLO, stream=stream)
    assert (caught.value.code, caught.value.type) == (code, family)
    assert "hunter2" not in caught.value.response.text
    if model == "busy":
        assert caught.value.response.headers["retry-after"] == "3"


def test_an_error_in_the_middle_of_a_stream(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "a b crash c"}]
    heard: list[str | None] = []
    with pytest.raises(openai.APIError, match="failed in the middle"):
        heard.extend(
            chunk.choices[0].delta.content
            for chunk in client.chat.completions.create(model="parrot", messages=messages, stream=True)
        )
    assert heard == ["a", " b"]


def test_the_wrong_key(url: str) -> None:
    for key in ("another", "é"):
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
            with pytest.raises((openai.AuthenticationError, UnicodeEncodeError)) as caught:
                client.models.list()
            assert KEY not in str(caught.value)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several choices": ({"n": 2}, "'n' is not done here"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "'tools' is not done here"),
    "json mode": ({"response_format": {"type": "json_object"}}, "'response_format' is not done here"),
    "penalties": ({"presence_penalty": 0.5}, "'presence_penalty' is not done here"),
    "logprobs": ({"logprobs": True}, "'logprobs' is not done here"),
    "too hot": ({"temperature": 2.5}, "a number from 0 to 2, got 2.5"),
    "top_p": ({"top_p": 1.5}, "to 1, got 1.5"),
    "no tokens": ({"max_tokens": 0}, "a whole number from 1 on, got 0"),
    "seed": ({"extra_body": {"seed": "x"}}, "a whole number"),
    "stops": ({"stop": ["a"] * 17}, "up to 16 texts"),
    "an empty stop": ({"stop": ""}, "none empty"),
    "streaming": ({"extra_body": {"stream": "yes"}}, "true or false, got 'yes'"),
    "no messages": ({"messages": []}, "at least one message"),
    "an odd role": (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        "role of message 0",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "parts of type text, got 'image_url'",
    ),
    "no content": ({"messages": [{"role": "assistant", "content": None}]}, "content of message 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_done_is_refused_by_name(client: openai.OpenAI, case: str) -> None:
    change, message = REFUSED[case]
    with pytest.raises(openai.BadRequestError, match=message.replace("(", r"\(")) as caught:
        client.chat.completions.create(**{"model": "parrot", "messages": HELLO, **change})
    assert caught.value.code == "input-error"


def test_what_asks_for_nothing_is_let_through(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="parrot",
        messages=HELLO,
        n=1,
        presence_penalty=0,
        tools=[],
        user="u",
        logprobs=False,
        store=False,
    )
    assert answer.choices[0].message.content == "the queue was short"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1, 2, 3]], "Send text, not tokens"),
        ([], "at least one text"),
        ("", "none empty"),
        (["a", ""], "none empty"),
        (["a"] * 257, "at most 256 texts"),
    ],
)
def test_texts_to_embed_that_are_none(client: openai.OpenAI, given: Any, message: str) -> None:
    with pytest.raises(openai.APIStatusError, match=message) as caught:
        client.embeddings.create(model="letters", input=given)
    assert caught.value.status_code in {400, 413}


def test_a_model_of_another_kind(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="a model that gives embeddings, got TextClassification"):
        client.embeddings.create(model="sentiment", input="x")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="sentiment", messages=HELLO)
