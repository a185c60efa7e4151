"""A generated text as OpenAI-style servers stream it: server-sent events to pieces. Opens no connection.

Sources: WHATWG HTML, "Server-sent events", of which only `data` fields matter here; OpenAI's API reference,
"Streaming".
"""

import json
import time
from collections.abc import Generator, Iterable
from typing import Any, cast

from edge_runtime.contract.errors import RemoteError
from edge_runtime.contract.result import Answer, Finish, Generation
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.protocol.backend import Piece

_END = "[DONE]"


def pieces_of(body: Iterable[bytes], model: str) -> Generator[Piece, None, None]:
    """Give the pieces of a text, the last with the whole.

    Args:
        body: The answer as it comes, cut anywhere.
        model: Who was asked.

    Raises:
        RemoteError: The server ended the text with an error, or sent what is no such stream.
    """
    began_s = time.monotonic()
    parts: list[str] = []
    finish, prompt_tokens, tokens, version = Finish.STOP, 0, 0, ""
    for document in _events(body):
        if not isinstance(document, dict):
            continue
        chunk = cast("dict[str, Any]", document)
        if "error" in chunk:
            raise RemoteError("the cloud ended a text", retryable=False, got=str(chunk["error"])[:300])
        usage: dict[str, Any] = chunk.get("usage") or {}
        prompt_tokens = int(usage.get("prompt_tokens", prompt_tokens))
        tokens = int(usage.get("completion_tokens", tokens))
        version = str(chunk.get("system_fingerprint") or version)
        for choice in cast("list[dict[str, Any]]", chunk.get("choices") or []):
            delta: dict[str, Any] = choice.get("delta") or {}
            text = str(choice.get("text") or delta.get("content") or "")
            if choice.get("finish_reason"):
                finish = Finish.LENGTH if choice["finish_reason"] == "length" else Finish.STOP
            if text:
                parts.append(text)
                yield Piece(text)
    whole = Generation("".join(parts), finish, prompt_tokens, tokens)
    took_ms = (time.monotonic() - began_s) * 1000
    decision = Decision(Route.CLOUD, Reason.POLICY)
    yield Piece("", Answer(whole, decision, model, version, "", took_ms, 1.0))


def _events(pieces: Iterable[bytes]) -> Generator[Any, None, None]:
    """Give the document of each event until `[DONE]`, or the end.

    Args:
        pieces: The body as it comes, cut anywhere.

    Raises:
        RemoteError: An event is no JSON, or the stream ended in the middle of one.
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            name, _, value = line.strip().partition(b":")
            if name != b"data":
                continue
            text = value.strip().decode("utf-8", "replace")
            if text == _END:
                return
            try:
                yield json.loads(text)
            except (ValueError, RecursionError) as error:
                raise RemoteError(
                    "the cloud's stream", retryable=False, expected="JSON", got=text[:80]
                ) from error
    raise RemoteError("the cloud's stream", retryable=False, expected=_END, got="its end before that")
