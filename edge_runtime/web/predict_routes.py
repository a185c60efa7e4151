"""The routes for people: `/v1/predict/{model}` with a text, texts, a prompt or a picture, and late answers.

Knows no task: the model's own says what a value becomes, and `protocol.answers` how its answer is written.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge_runtime.contract.errors import InputError, TooLargeError, UnknownAnswerError
from edge_runtime.contract.request import Prompt, Request
from edge_runtime.contract.result import Answer
from edge_runtime.protocol import answers, headers, json_document, openai
from edge_runtime.protocol.backend import Backend
from edge_runtime.protocol.json_document import Document, is_array, kind_of
from edge_runtime.protocol.limits import Limits
from edge_runtime.web import picture, schemas
from edge_runtime.web.asking import request_for
from edge_runtime.web.exchange import Exchange, Reply
from edge_runtime.web.routing_table import Way

_KEYS = ("text", "texts", "prompt", "messages")


@dataclass(frozen=True, slots=True)
class Late:
    """What is known of a request whose answer comes later.

    Args:
        answer: None: not yet.
    """

    answer: Answer[Any] | None


class LateAnswers(Protocol):
    """Where late answers are found."""

    async def find(self, request_id: str) -> Late | None:
        """Look a request up.

        Args:
            request_id: As its answer told it.

        Returns:
            None: nothing is known of it.
        """
        ...


class NoLateAnswers:
    """For a door whose answers are never late."""

    async def find(self, request_id: str) -> Late | None:
        """Know nothing of any request."""
        del request_id
        return None


class PredictRoutes:
    """Handlers of `/v1/predict` and `/v1/answers`.

    Args:
        backend: Who answers.
        limits: What is taken.
        late: Where late answers are found.
    """

    def __init__(self, backend: Backend, limits: Limits, late: LateAnswers) -> None:
        self._backend = backend
        self._limits = limits
        self._late = late

    def ways(self) -> list[Way]:
        """List the routes."""
        return [
            Way(
                "POST",
                "/v1/predict/{model}",
                self.predict,
                "Ask a model a text, texts, a prompt or a picture",
                "Predictions",
                schemas.PREDICT,
                schemas.PREDICTION,
            ),
            Way(
                "GET",
                "/v1/answers/{request_id}",
                self.late,
                "Fetch an answer that came later: 202 while it is awaited",
                "Predictions",
                answer=schemas.ANY,
            ),
        ]

    async def predict(self, exchange: Exchange, model: str) -> Reply:
        """Ask a model; several texts are asked at once and give `answers`."""
        body = await exchange.body(self._limits.body_bytes)
        kind = exchange.headers.get("content-type", "")
        version = exchange.query.get("version")
        if kind.startswith("image/") or picture.is_picture(body):
            seen = await asyncio.to_thread(picture.decode, body, self._limits.pixels)
            return await self._one(exchange, request_for(exchange, model, seen, version=version))
        if kind.startswith("multipart/"):
            raise InputError(
                "header Content-Type",
                expected="application/json with a text or a prompt, or image/jpeg (png, …) with the picture's"
                " bytes as the body",
                got=headers.safe(kind)[:80],
                do="Send the file's bytes alone: curl -H 'Content-Type: image/jpeg' --data-binary @x.jpg",
            )
        document = json_document.read_object(body)
        given = [key for key in _KEYS if document.get(key) is not None]
        if len(given) != 1:
            raise InputError(
                "body",
                expected=f"one of {', '.join(_KEYS)}, or a picture",
                got=" and ".join(given) or ", ".join(list(document)[:8])[:200] or "an empty object",
            )
        if given[0] == "texts":
            return await self._many(exchange, model, document["texts"], version)
        if given[0] == "text":
            value: str | Prompt = self._text(document["text"], "'text'")
        else:
            value = self._prompt(document)
        return await self._one(exchange, request_for(exchange, model, value, version=version))

    async def late(self, _: Exchange, request_id: str) -> Reply:
        """Fetch a late answer."""
        found = await self._late.find(request_id)
        if found is None:
            raise UnknownAnswerError(
                f"answer '{headers.safe(request_id)[:128]}'",
                expected="the id of a request whose answer comes later",
                got="an id nothing is known of",
            )
        if found.answer is None:
            return Reply(json_document.write({"id": request_id, "state": "awaited"}), 202)
        document = answers.document_of(found.answer, request_id)
        return Reply(json_document.write(document), headers=headers.of_answer(found.answer))

    async def _one(self, exchange: Exchange, request: Request) -> Reply:
        with exchange.watch():
            answer = await self._backend.predict(request)
        document = answers.document_of(answer, exchange.id)
        return Reply(json_document.write(document), headers=headers.of_answer(answer))

    async def _many(self, exchange: Exchange, model: str, given: object, version: str | None) -> Reply:
        if not is_array(given) or not given:
            raise InputError("'texts'", expected="an array of at least one text", got=kind_of(given))
        if len(given) > self._limits.texts:
            raise TooLargeError("'texts'", expected=f"at most {self._limits.texts}", got=str(len(given)))
        texts = [self._text(text, f"text {index}") for index, text in enumerate(given)]
        requests = [
            request_for(exchange, model, text, version=version, index=index)
            for index, text in enumerate(texts)
        ]
        with exchange.watch():
            found = await all_of(self._backend, requests)
        documents = [
            answers.document_of(answer, request.id) for answer, request in zip(found, requests, strict=True)
        ]
        return Reply(json_document.write({"id": exchange.id, "answers": documents}))

    def _text(self, given: object, what: str) -> str:
        if not isinstance(given, str):
            raise InputError(what, expected="a text", got=kind_of(given))
        if len(given) > self._limits.characters:
            raise TooLargeError(
                what, expected=f"at most {self._limits.characters} characters", got=str(len(given))
            )
        return given

    def _prompt(self, document: Document) -> Prompt:
        if document.get("prompt") is not None:
            text = self._text(document["prompt"], "'prompt'")
            return Prompt(text, sampling=openai.read_sampling(document))
        return openai.read_chat({**document, "model": "-"}, self._limits).prompts[0]


async def all_of(backend: Backend, requests: Sequence[Request]) -> list[Answer[Any]]:
    """Ask several requests at once; when one fails, the others are cancelled.

    Args:
        backend: Who answers.
        requests: Each with an id of its own.

    Raises:
        EdgeRuntimeError: The first failure.
    """
    if len(requests) == 1:
        return [await backend.predict(requests[0])]
    tasks = [asyncio.ensure_future(backend.predict(request)) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
