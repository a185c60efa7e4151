"""OpenAI's routes, so that programs written for them work here by another base URL.

Documents are read and written by `protocol.openai`; a text that is generated is streamed as it comes.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from edge_runtime.contract.errors import EngineError, InputError
from edge_runtime.contract.request import Request
from edge_runtime.contract.result import Embedding, Generation
from edge_runtime.protocol import headers, json_document, openai, problems
from edge_runtime.protocol.backend import Backend, Piece
from edge_runtime.protocol.limits import Limits
from edge_runtime.protocol.openai import CompletionRequest
from edge_runtime.web import schemas
from edge_runtime.web.asking import request_for
from edge_runtime.web.exchange import Exchange, Reply, Stream
from edge_runtime.web.failures import shown
from edge_runtime.web.predict_routes import all_of
from edge_runtime.web.routing_table import Way
from edge_runtime.web.tensor_routes import ready_state

_TAG = "OpenAI"


class OpenAIRoutes:
    """Handlers of `/v1/embeddings`, `/v1/chat/completions`, `/v1/completions` and `/v1/models`.

    Args:
        backend: Who answers.
        limits: What is taken.
    """

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._backend = backend
        self._limits = limits

    def ways(self) -> list[Way]:
        """List the routes."""
        return [
            Way(
                "POST",
                "/v1/embeddings",
                self.embeddings,
                "Embed texts",
                _TAG,
                schemas.EMBEDDINGS,
                schemas.ANY,
                openai=True,
            ),
            Way(
                "POST",
                "/v1/chat/completions",
                self.chat,
                "Continue a conversation",
                _TAG,
                schemas.CHAT,
                schemas.ANY,
                openai=True,
            ),
            Way(
                "POST",
                "/v1/completions",
                self.completions,
                "Continue a text",
                _TAG,
                schemas.COMPLETION,
                schemas.ANY,
                openai=True,
            ),
            Way("GET", "/v1/models", self.models, "List models", _TAG, answer=schemas.ANY, openai=True),
            Way(
                "GET",
                "/v1/models/{model}",
                self.model,
                "Tell of a model",
                _TAG,
                answer=schemas.ANY,
                openai=True,
            ),
        ]

    async def embeddings(self, exchange: Exchange) -> Reply:
        """Embed texts."""
        body = await exchange.body(self._limits.body_bytes)
        asked = openai.read_embeddings(json_document.read_object(body), self._limits)
        alone = len(asked.texts) == 1
        requests = [
            request_for(exchange, asked.model, text, index=None if alone else index)
            for index, text in enumerate(asked.texts)
        ]
        with exchange.watch():
            answers = await all_of(self._backend, requests)
        self._check(asked.model, answers[0].value, Embedding, "embeddings")
        document = openai.embeddings_document(asked, answers)
        return Reply(json_document.write(document), headers=headers.of_answer(answers[-1]))

    async def chat(self, exchange: Exchange) -> Reply | Stream:
        """Continue a conversation."""
        body = await exchange.body(self._limits.body_bytes)
        return await self._generate(exchange, openai.read_chat(json_document.read_object(body), self._limits))

    async def completions(self, exchange: Exchange) -> Reply | Stream:
        """Continue a text, or several."""
        body = await exchange.body(self._limits.body_bytes)
        return await self._generate(
            exchange, openai.read_completion(json_document.read_object(body), self._limits)
        )

    async def models(self, _: Exchange) -> Reply:
        """List the models that are ready."""
        return Reply(json_document.write(openai.models_document(self._backend.index())))

    async def model(self, _: Exchange, model: str) -> Reply:
        """Tell of a model."""
        return Reply(json_document.write(openai.model_document(ready_state(self._backend, model, None).name)))

    async def _generate(self, exchange: Exchange, asked: CompletionRequest) -> Reply | Stream:
        alone = len(asked.prompts) == 1
        requests = [
            request_for(exchange, asked.model, prompt, index=None if alone else index)
            for index, prompt in enumerate(asked.prompts)
        ]
        if asked.stream:
            return await self._stream(exchange, asked, requests[0])
        with exchange.watch():
            answers = await all_of(self._backend, requests)
        self._check(asked.model, answers[0].value, Generation, "generated text")
        document = openai.completion_document(
            asked, answers, request_id=exchange.id, created_s=int(time.time())
        )
        return Reply(json_document.write(document), headers=headers.of_answer(answers[-1]))

    async def _stream(self, exchange: Exchange, asked: CompletionRequest, request: Request) -> Stream:
        # The first piece is awaited before anything is sent, so that what is wrong has a status of its own.
        pieces = cast(AsyncGenerator[Piece], self._backend.generate(request))
        with exchange.watch():
            try:
                first = await anext(pieces)
            except StopAsyncIteration:
                raise EngineError(f"model '{asked.model}'", expected="a text", got="nothing") from None
            except BaseException:
                await pieces.aclose()
                raise
        return Stream(_events(asked, first, pieces, exchange.id))

    @staticmethod
    def _check(model: str, value: Any, wanted: type, what: str) -> None:
        if not isinstance(value, wanted):
            raise InputError(
                f"model '{model}'", expected=f"a model that gives {what}", got=type(value).__name__
            )


async def _events(
    asked: CompletionRequest, first: Piece, pieces: AsyncGenerator[Piece], request_id: str
) -> AsyncGenerator[bytes]:
    created_s = int(time.time())
    async with aclosing(pieces):
        try:
            yield openai.chunk(
                asked, first.text, first.end, first=True, request_id=request_id, created_s=created_s
            )
            async for piece in pieces:
                yield openai.chunk(
                    asked, piece.text, piece.end, first=False, request_id=request_id, created_s=created_s
                )
        except Exception as error:  # noqa: BLE001 - the status is sent already; the stream says it instead
            yield openai.event(problems.openai_document(shown(error)))
            return
    yield openai.DONE
