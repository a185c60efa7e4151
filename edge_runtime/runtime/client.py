"""Client: asks a door, ours or any server that speaks its routes: `connect("http://127.0.0.1:8008").predict(…)`.

Chooses no route and tries nothing again: the door does both. Needs the extra `web`.
"""

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any
from urllib.parse import quote

from edge_runtime.contract.request import Prompt
from edge_runtime.contract.result import Answer, Values
from edge_runtime.contract.route import DataClass, Decision, Reason, Route
from edge_runtime.contract.tensors import Tensors
from edge_runtime.protocol import answers, json_document
from edge_runtime.routing.call import Call, Reply
from edge_runtime.routing.channel import Channel, ChannelOptions
from edge_runtime.routing.openai_stream import pieces_of
from edge_runtime.routing.outgoing import check, prepare, read_tensors
from edge_runtime.runtime.asked import Asked, ask

_USUAL_S = 30.0


class Client:
    """Asks one door. Safe to share between threads; also a context manager. Make one with `connect`.

    Args:
        channel: To the door.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def predict(
        self,
        model: str,
        value: Asked,
        *,
        timeout_s: float = _USUAL_S,
        data: Collection[DataClass | str] = (),
        request_id: str = "",
    ) -> Answer[Any]:
        """Answer one question; as `Runtime.predict`.

        Raises:
            EdgeRuntimeError: In the class that the door named; a `DeadlineError` where none came in time.
        """
        request = ask(model, value, timeout_s=timeout_s, data=data, request_id=request_id)
        reply = self._post(prepare(request, model).call(), timeout_s)
        if isinstance(request.value, Mapping):
            return _tensors(reply, model)
        return answers.parse(json_document.read_object(reply.body, "the door's answer"))

    def generate(
        self, model: str, prompt: Prompt | str, *, timeout_s: float = 10 * _USUAL_S
    ) -> Generator[str, None, None]:
        """Generate a text piece by piece; closing the generator ends the work.

        Raises:
            EdgeRuntimeError: As `predict`.
        """
        asked = Prompt(prompt) if isinstance(prompt, str) else prompt
        call = prepare(ask(model, asked, timeout_s=timeout_s), model, stream=True).call()
        with self._channel.stream(call, time.monotonic() + timeout_s) as stream:
            if stream.reply.status >= 300:
                check(replace(stream.reply, body=b"".join(stream.pieces())))
            for piece in pieces_of(stream.pieces(), model):
                if piece.text:
                    yield piece.text

    def late(self, request_id: str, *, timeout_s: float = _USUAL_S) -> Answer[Any] | None:
        """Give the cloud's late answer to a request; None: it is awaited still.

        Raises:
            UnknownAnswerError: Nothing is known of the request.
            EdgeRuntimeError: As `predict`.
        """
        call = Call("GET", f"/v1/answers/{quote(request_id, safe='')}")
        reply = self._post(call, timeout_s)
        if reply.status == 202:
            return None
        return answers.parse(json_document.read_object(reply.body, "the door's answer"))

    def models(self, *, timeout_s: float = _USUAL_S) -> Sequence[str]:
        """List the models that can be asked.

        Raises:
            EdgeRuntimeError: As `predict`.
        """
        reply = self._post(Call("GET", "/v1/models"), timeout_s)
        document = json_document.read_object(reply.body, "the door's answer")
        return [str(model["id"]) for model in document["data"]]

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, call: Call, timeout_s: float) -> Reply:
        reply = self._channel.exchange(call, time.monotonic() + timeout_s)
        check(reply)
        return reply


def connect(url: str = "http://127.0.0.1:8008", *, token: str | None = None) -> Client:
    """Make a client of a door.

    Args:
        url: Of the door.
        token: That the door wants; None: none.

    Returns:
        A client; nothing is sent yet.

    Raises:
        ConfigError: The extra `web` is not installed.
    """
    return Client(Channel(ChannelOptions(url.rstrip("/"), token)))


def _tensors(reply: Reply, model: str) -> Answer[Tensors]:
    response = read_tensors(reply)
    said = response.parameters
    decision = Decision(Route(str(said.get("route", "local"))), Reason(str(said.get("reason", "policy"))))
    value: Any = Values(response.tensors, ())
    return Answer(
        *(value, decision, response.model or model, response.version, str(said.get("variant", ""))),
        float(said.get("latency_ms", 0.0)),
        1.0,
    )
