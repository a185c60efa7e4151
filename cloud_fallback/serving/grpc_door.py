"""The gRPC door: the Open Inference Protocol as Triton's and KServe's clients speak it.

A request is brought into the REST form and read by the same code, so that both refuse the same things with
the same words. Stateful sequences, shared memory, statistics and Triton's own model configuration are not
served. Knows no model; a `Backend` does.
"""

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version as package_version
from typing import Any

import grpc
import grpc.aio

from cloud_fallback.serving.call import Call
from cloud_fallback.serving.gate import Gate
from cloud_fallback.serving.grpc_form import infer_response, metadata_specs, rest_form
from cloud_fallback.serving.open_inference_pb import SERVICE, message_class
from edge_runtime.contract.errors import EdgeRuntimeError, UnknownModelError
from edge_runtime.contract.request import Request
from edge_runtime.protocol import headers, json_document, v2
from edge_runtime.protocol.backend import Backend
from edge_runtime.protocol.limits import DEFAULT_LIMITS, Limits
from edge_runtime.protocol.problems import problem_of, retry_after, v2_document
from edge_runtime.web.asking import PRIORITY, STICKY
from edge_runtime.web.tensor_routes import load_version

log = logging.getLogger(__name__)

PROBLEM = "edge-problem-bin"
"""Trailing metadata: the error as REST would have given it."""

_ROOM_BYTES = 1 << 20
"""What a message may have beside its tensors."""
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_OPEN = frozenset({"ServerLive", "ServerReady"})
_CONTROL = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
_ROUTES = {"ModelInfer": "grpc-infer", "ModelStreamInfer": "grpc-stream"}
_LOUD = 500

Answering = Callable[[Any, Call, headers.Metadata], Awaitable[Any]]


class GrpcDoor:
    """Answers the calls of one server.

    Args:
        backend: Who answers.
        gate: Who may ask.
        limits: What is taken.
    """

    def __init__(self, backend: Backend, gate: Gate, limits: Limits = DEFAULT_LIMITS) -> None:
        self._backend = backend
        self._gate = gate
        self._limits = limits

    async def start(self, host: str, port: int) -> tuple[grpc.aio.Server, int]:
        """Open a port.

        Args:
            host: Address to listen at.
            port: 0: any that is free.

        Returns:
            The server, which `stop` ends, and its port.

        Raises:
            RuntimeError: The port is taken.
        """
        size = self._limits.body_bytes + _ROOM_BYTES
        options = (
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # two servers on one port would share requests out by chance
        )
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((self.handler(),))
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        bound = server.add_insecure_port(where)
        await server.start()
        return server, bound

    def handler(self) -> grpc.GenericRpcHandler:
        """Give the service, for a server of one's own."""
        calls: dict[str, Answering] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._unary(name, answer),
                request_deserializer=message_class(f"{name}Request").FromString,
                response_serializer=message_class(f"{name}Response").SerializeToString,
            )
            for name, answer in calls.items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=message_class("ModelInferRequest").FromString,
            response_serializer=message_class("ModelStreamInferResponse").SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _unary(self, name: str, answer: Answering) -> Callable[[Any, Any], Awaitable[Any]]:
        async def handle(message: Any, context: Any) -> Any:
            call = Call(_ROUTES.get(name, "grpc"), traceparent=_trace(context))
            failed: BaseException
            with self._gate.watch(call):
                try:
                    metadata = self._enter(call, context, name)
                    answered = await answer(message, call, metadata)
                    call.code = "OK"
                    return answered
                except Exception as error:  # noqa: BLE001 - told to the caller, and bugs to the log
                    failed = error
                    call.code = problem_of(error).grpc_name
                    _tell_bug(error)
            return await _abort(context, failed)

        return handle

    async def _stream(self, messages: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        answer_class = message_class("ModelStreamInferResponse")
        async for message in messages:
            call = Call(_ROUTES["ModelStreamInfer"], traceparent=_trace(context))
            with self._gate.watch(call):
                try:
                    metadata = self._enter(call, context, "ModelStreamInfer")
                    answered = answer_class(infer_response=await self._model_infer(message, call, metadata))
                    call.code = "OK"
                except Exception as error:  # noqa: BLE001 - told to the caller, and bugs to the log
                    call.code = problem_of(error).grpc_name
                    _tell_bug(error)
                    answered = answer_class(error_message=v2_document(error)["error"])
                    answered.infer_response.id = message.id
            yield answered

    def _enter(self, call: Call, context: Any, name: str) -> headers.Metadata:
        """Read what came beside the message and let the caller in."""
        said: dict[str, str] = {
            key: value for key, value in context.invocation_metadata() if isinstance(value, str)
        }
        metadata = headers.read(said)
        call.request_id = metadata.id
        if name not in _OPEN:
            call.key = self._gate.admit(metadata, control=name in _CONTROL, count=name in _ROUTES)
        return metadata

    async def _server_live(self, _message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        return message_class("ServerLiveResponse")(live=True)

    async def _server_ready(self, _message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        return message_class("ServerReadyResponse")(ready=self._backend.ready())

    async def _server_metadata(self, _message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        extensions = ("binary_tensor_data", "model_repository", "parameters")
        return message_class("ServerMetadataResponse")(
            name="edge-runtime", version=package_version("edge-runtime"), extensions=extensions
        )

    async def _model_ready(self, message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        try:
            self._backend.describe(message.name, message.version or None)
        except UnknownModelError:
            return message_class("ModelReadyResponse")(ready=False)
        return message_class("ModelReadyResponse")(ready=True)

    async def _model_metadata(self, message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        model = self._backend.describe(message.name, message.version or None)
        return message_class("ModelMetadataResponse")(
            name=model.name,
            versions=model.versions,
            platform=model.platform,
            inputs=metadata_specs(model.inputs),
            outputs=metadata_specs(model.outputs),
        )

    async def _repository_index(self, message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        kind = message_class("RepositoryIndexResponse.ModelIndex")
        models = [
            kind(name=one.name, version=one.version, state=one.state, reason=one.reason)
            for one in self._backend.index()
            if one.state == "READY" or not message.ready
        ]
        return message_class("RepositoryIndexResponse")(models=models)

    async def _load(self, message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        told = message.parameters
        if "version" in told:
            await load_version(self._backend, message.model_name, told["version"].string_param)
        else:
            await self._backend.load(message.model_name)
        return message_class("RepositoryModelLoadResponse")()

    async def _unload(self, message: Any, _call: Call, _metadata: headers.Metadata) -> Any:
        await self._backend.unload(message.model_name)
        return message_class("RepositoryModelUnloadResponse")()

    async def _model_infer(self, message: Any, call: Call, metadata: headers.Metadata) -> Any:
        version = message.model_version or None
        model = self._backend.describe(message.model_name, version)
        call.model = model.name
        body, head = rest_form(message)
        asked = v2.decode_request(body, head, inputs=model.inputs, outputs=model.outputs, limits=self._limits)
        request = Request(
            id=metadata.id or asked.id or uuid.uuid4().hex,
            model=message.model_name,
            value=asked.tensors,
            version=version,
            data=metadata.data,
            timeout_s=_least(metadata.timeout_s, asked.timeout_s),
            parameters=_how(asked, metadata),
            trace=metadata.trace,
        )
        answer = await self._backend.infer(request, asked.wanted.names)
        return infer_response(answer, message.id, typed=not message.raw_input_contents)


def _how(asked: v2.InferRequest, metadata: headers.Metadata) -> dict[str, v2.Scalar]:
    """Give the parameters of a request, with what its metadata say of how it is to be served."""
    said = dict(asked.parameters)
    priority = metadata.priority
    if asked.priority is not None and priority == headers.USUAL_PRIORITY:
        priority = asked.priority - 1  # the protocol counts from 1
    if priority != headers.USUAL_PRIORITY:
        said[PRIORITY] = priority
    if metadata.sticky:
        said[STICKY] = metadata.sticky
    return said


def _least(one: float | None, other: float | None) -> float | None:
    return min((time_s for time_s in (one, other) if time_s is not None), default=None)


def _trace(context: Any) -> str:
    """Give the caller's `traceparent`; a broken one is ignored by who reads it."""
    found = (value for key, value in context.invocation_metadata() if key == headers.TRACE)
    return next((value for value in found if isinstance(value, str)), "")


async def _abort(context: Any, error: BaseException) -> Any:
    document = json_document.write(v2_document(error))
    after = retry_after(error)
    trailing = ((PROBLEM, document), *((("retry-after", after),) if after else ()))
    await context.abort(_STATUS[problem_of(error).grpc], v2_document(error)["error"], trailing)


def _tell_bug(error: BaseException) -> None:
    if isinstance(error, EdgeRuntimeError):
        if problem_of(error).status == _LOUD:
            log.error("a request failed: %s", error)
    else:
        log.error("a request failed", exc_info=error)
