"""Triton's own gRPC client, synchronous and asyncio, against the gRPC door."""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from cloud_fallback.serving.gate import Gate
from cloud_fallback.serving.grpc_door import PROBLEM, GrpcDoor
from cloud_fallback.serving.keys import KeyRing
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.open_inference_pb import message_class
from edge_runtime.contract.errors import DeadlineError, EngineError, OverloadedError
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.contract.wire import V2_DATATYPES
from edge_runtime.protocol.json_document import read_object
from edge_runtime.protocol.limits import DEFAULT_LIMITS, Limits
from tests.simulators.parrot import NAME, Parrot

X = np.array([[1, 2, 3]], np.float32)


@contextmanager
def served(
    backend: Parrot, keys: KeyRing | None = None, limits: Limits = DEFAULT_LIMITS
) -> Generator[str, None, None]:
    """Serve a backend on an event loop of its own thread; gives the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    server, port = run(GrpcDoor(backend, Gate(keys, Metrics()), limits).start("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        run(server.stop(None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def asked(array: np.ndarray, datatype: str, name: str = "x") -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


@pytest.fixture
def parrot() -> Parrot:
    return Parrot(versions=("1", "2"))


@pytest.fixture
def address(parrot: Parrot) -> Iterator[str]:
    with served(parrot) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def sample(dtype: str) -> np.ndarray:
    if dtype == "str":
        return np.array([[b"", "schön".encode(), b"x" * 3000]], object)
    if dtype == "bool":
        return np.array([[True, False, True]])
    if dtype.startswith("float"):
        return np.array([[-1.5, 0, 60000]], dtype)
    bounds = np.iinfo(dtype)
    return np.array([[bounds.min, 1, bounds.max]], dtype)


@pytest.mark.parametrize(("dtype", "datatype"), V2_DATATYPES.items())
def test_every_datatype_goes_and_comes_raw(dtype: str, datatype: str) -> None:
    array = sample(dtype)
    with (
        served(Parrot(TensorSpec("x", dtype, (None, 3)))) as address,
        triton.InferenceServerClient(address) as client,
    ):
        answer = client.infer(NAME, [asked(array, datatype)], request_id="7")
    assert answer.get_response().id == "7"
    assert answer.as_numpy("x").tolist() == array.tolist()
    assert answer.as_numpy("x").dtype == array.dtype


TYPED = {
    "BOOL": ("bool_contents", [True, False, True]),
    "INT8": ("int_contents", [-128, 0, 127]),
    "INT16": ("int_contents", [-(2**15), 0, 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), 0, 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 0, 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 1, 255]),
    "UINT16": ("uint_contents", [0, 1, 2**16 - 1]),
    "UINT32": ("uint_contents", [0, 1, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 1, 2**64 - 1]),
    "FP32": ("fp32_contents", [-1.5, 0.0, 2.5]),
    "FP64": ("fp64_contents", [-1e300, 0.0, 0.1]),
    "BYTES": ("bytes_contents", [b"", "schön".encode(), b"x"]),
}


def typed(datatype: str, field: str, values: list[Any], shape: tuple[int, ...] = (1, 3)) -> Any:
    request = service_pb2.ModelInferRequest(model_name=NAME)
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(tensor.contents, field).extend(values)
    return request


@pytest.mark.parametrize(("datatype", "field", "values"), [(d, f, v) for d, (f, v) in TYPED.items()])
def test_every_datatype_goes_and_comes_typed(datatype: str, field: str, values: list[Any]) -> None:
    dtype = next(name for name, v2 in V2_DATATYPES.items() if v2 == datatype)
    with (
        served(Parrot(TensorSpec("x", dtype, (None, 3)))) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(typed(datatype, field, values))
    assert not answer.raw_output_contents
    assert list(getattr(answer.outputs[0].contents, field)) == values
    assert answer.parameters["route"].string_param == "cloud"
    assert answer.parameters["run_ms"].double_param == 1.5


def test_what_a_client_asks_before_it_infers(client: triton.InferenceServerClient, parrot: Parrot) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(NAME) and client.is_model_ready(NAME, "2")
    assert not client.is_model_ready(NAME, "3") and not client.is_model_ready("other")
    server = client.get_server_metadata()
    assert server.name == "edge-runtime" and "model_repository" in server.extensions
    model = client.get_model_metadata(NAME)
    assert list(model.versions) == ["1", "2"] and model.platform == "onnx_onnxruntime"
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [("x", "FP32", [-1, 3])]


def test_models_are_loaded_and_unloaded(client: triton.InferenceServerClient, parrot: Parrot) -> None:
    client.unload_model(NAME)
    index = client.get_model_repository_index()
    assert [(one.name, one.state, one.reason) for one in index.models] == [(NAME, "UNAVAILABLE", "unloaded")]
    assert not client.is_server_ready()
    client.load_model(NAME)
    assert client.is_model_ready(NAME)


def test_a_version_is_loaded_where_there_are_several(parrot: Parrot) -> None:
    class Versions(Parrot):
        loaded = ""

        async def load_version(self, model: str, version: str) -> None:
            self.loaded = f"{model} {version}"

    def asked() -> Any:
        message = service_pb2.RepositoryModelLoadRequest(model_name=NAME)
        message.parameters["version"].string_param = "2"
        return message

    backend = Versions(versions=("1", "2"))
    with served(backend) as address, grpc.insecure_channel(address) as channel:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad(asked(), timeout=10)
    assert backend.loaded == f"{NAME} 2"
    with (
        served(parrot) as address,
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as told,
    ):
        service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad(asked(), timeout=10)
    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_version_and_outputs_are_chosen(client: triton.InferenceServerClient) -> None:
    answer = client.infer(
        NAME, [asked(X, "FP32")], model_version="1", outputs=[triton.InferRequestedOutput("who")]
    )
    assert answer.as_numpy("who").tolist() == [b"1"] and answer.as_numpy("x") is None
    assert answer.get_response().model_version == "1"


def test_parameters_priority_and_timeout_arrive(client: triton.InferenceServerClient, parrot: Parrot) -> None:
    client.infer(
        NAME,
        [asked(X, "FP32")],
        timeout=2_000_000,
        parameters={"tone": "soft"},
        headers={"x-deadline-ms": "1500", "x-request-id": "abc"},
    )
    assert parrot.asked[0].timeout_s == 1.5 and parrot.asked[0].id == "abc"
    assert parrot.asked[0].parameters["tone"] == "soft"


def test_the_asyncio_client() -> None:
    async def scene(address: str) -> None:
        client = triton_aio.InferenceServerClient(address)
        answers = await asyncio.gather(*(client.infer(NAME, [asked(X * n, "FP32")]) for n in range(20)))
        assert [answer.as_numpy("x").tolist() for answer in answers] == [(X * n).tolist() for n in range(20)]
        assert await client.is_server_live()
        await client.close()

    with served(Parrot()) as address:
        asyncio.run(scene(address))


def test_a_stream_answers_in_order_and_goes_on_after_an_error(client: triton.InferenceServerClient) -> None:
    got: list[tuple[Any, Any]] = []
    done = threading.Semaphore(0)

    def callback(result: Any, error: Any) -> None:
        got.append((result, error))
        done.release()

    client.start_stream(callback)
    for number, name in enumerate((NAME, "other", NAME)):
        client.async_stream_infer(name, [asked(X * number, "FP32")])
        assert done.acquire(timeout=20)
    client.stop_stream()
    assert got[0][0].as_numpy("x").tolist() == (X * 0).tolist()
    assert "other" in str(got[1][1])
    assert got[2][0].as_numpy("x").tolist() == (X * 2).tolist()


BAD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "dtype": (lambda: typed("FP64", "fp64_contents", [1, 2, 3]), "INVALID_ARGUMENT", "FP32 (?, 3)"),
    "shape": (lambda: typed("FP32", "fp32_contents", [1, 2], (1, 2)), "INVALID_ARGUMENT", "(1, 2)"),
    "count": (lambda: typed("FP32", "fp32_contents", [1, 2]), "INVALID_ARGUMENT", "8 bytes"),
    "nan": (lambda: typed("FP32", "fp32_contents", [1, 2, np.nan]), "INVALID_ARGUMENT", "nan"),
    "unknown datatype": (lambda: typed("FP8", "fp32_contents", [1, 2, 3]), "INVALID_ARGUMENT", "FP8"),
    "bf16": (lambda: typed("BF16", "fp32_contents", [1, 2, 3]), "INVALID_ARGUMENT", "BF16"),
    "negative shape": (lambda: typed("FP32", "fp32_contents", [1], (-1, 3)), "INVALID_ARGUMENT", "-1"),
    "huge shape": (lambda: typed("FP32", "fp32_contents", [1], (2**40, 3)), "OUT_OF_RANGE", "elements"),
    "no input": (lambda: service_pb2.ModelInferRequest(model_name=NAME), "INVALID_ARGUMENT", "x"),
    "unknown model": (lambda: service_pb2.ModelInferRequest(model_name="nobody"), "NOT_FOUND", "nobody"),
    "unknown version": (
        lambda: service_pb2.ModelInferRequest(model_name=NAME, model_version="9"),
        "NOT_FOUND",
        "9",
    ),
}


def broken(**changes: Any) -> Any:
    request = typed("FP32", "fp32_contents", [])
    request.inputs[0].ClearField("contents")
    for name, value in changes.items():
        getattr(request, name).extend(value) if isinstance(value, list) else setattr(request, name, value)
    return request


BAD |= {
    "truncated": (lambda: broken(raw_input_contents=[bytes(7)]), "INVALID_ARGUMENT", "12 bytes"),
    "too long": (lambda: broken(raw_input_contents=[bytes(13)]), "INVALID_ARGUMENT", "13 bytes"),
    "more raw than inputs": (
        lambda: broken(raw_input_contents=[bytes(12), b"x"]),
        "INVALID_ARGUMENT",
        "one for each of 1 inputs",
    ),
    "raw and typed": (
        lambda: (
            request := typed("FP32", "fp32_contents", [1, 2, 3]),
            request.raw_input_contents.append(b""),
        )[0],
        "INVALID_ARGUMENT",
        "both",
    ),
    "twice the same output": (
        lambda: (
            request := typed("FP32", "fp32_contents", [1, 2, 3]),
            request.outputs.add(name="x"),
            request.outputs.add(name="x"),
        )[0],
        "INVALID_ARGUMENT",
        "twice",
    ),
    "unknown output": (
        lambda: (request := typed("FP32", "fp32_contents", [1, 2, 3]), request.outputs.add(name="y"))[0],
        "INVALID_ARGUMENT",
        "y",
    ),
}


@pytest.mark.parametrize(("make", "code", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_and_the_server_goes_on(
    address: str, make: Callable[[], Any], code: str, said: str
) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(make())
        error: Any = caught.value
        assert error.code().name == code
        assert said in error.details()
        document = read_object(dict(error.trailing_metadata())[PROBLEM])
        assert document["error"] == error.details() and document["code"]
        assert stub.ModelInfer(typed("FP32", "fp32_contents", [1, 2, 3])).model_name == NAME


def test_a_text_that_is_not_utf8_is_refused() -> None:
    with (
        served(Parrot(TensorSpec("x", "str", (None,)))) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="UTF-8"):
            stub.ModelInfer(typed("BYTES", "bytes_contents", [b"\xff\xfe"], (1,)))


@pytest.mark.parametrize(
    ("error", "code", "trailing"),
    [
        (OverloadedError("busy", retry_after_s=1.2), "UNAVAILABLE", {"retry-after": "2"}),
        (DeadlineError("late"), "DEADLINE_EXCEEDED", {}),
        (EngineError("broken"), "INTERNAL", {}),
    ],
)
def test_errors_of_the_models(
    address: str, parrot: Parrot, error: Any, code: str, trailing: dict[str, str]
) -> None:
    parrot.failing["2"] = error
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(typed("FP32", "fp32_contents", [1, 2, 3]))
        failed: Any = caught.value
        assert failed.code().name == code and failed.details() == str(error)
        assert trailing.items() <= dict(failed.trailing_metadata()).items()


def test_the_text_of_a_bug_does_not_leave(
    address: str, parrot: Parrot, caplog: pytest.LogCaptureFixture
) -> None:
    parrot.failing["2"] = ValueError("secret path")  # type: ignore[assignment]
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(typed("FP32", "fp32_contents", [1, 2, 3]))
    failed: Any = caught.value
    assert failed.code().name == "INTERNAL" and "secret" not in failed.details()
    assert "a request failed" in caplog.text


def test_a_message_too_large_is_refused() -> None:
    with (
        served(Parrot(), limits=Limits(body_bytes=1000)) as address,
        triton.InferenceServerClient(address) as client,
    ):
        with pytest.raises(InferenceServerException, match=r"OUT_OF_RANGE.*at most 1000 bytes"):
            client.infer(NAME, [asked(np.zeros((400, 3), np.float32), "FP32")])
        with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
            client.infer(NAME, [asked(np.zeros((200_000, 3), np.float32), "FP32")])
        client.infer(NAME, [asked(X, "FP32")])


def test_only_callers_with_a_key_are_answered() -> None:
    keys = KeyRing(None)
    usual, control = keys.create("shop", requests_per_minute=2), keys.create("boss", control=True)
    with served(Parrot(), keys) as address, triton.InferenceServerClient(address) as client:
        assert client.is_server_live() and client.is_server_ready()
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            client.infer(NAME, [asked(X, "FP32")])
        mine = {"authorization": f"Bearer {usual}"}
        with pytest.raises(InferenceServerException, match="PERMISSION_DENIED"):
            client.unload_model(NAME, headers=mine)
        for _ in range(2):
            client.infer(NAME, [asked(X, "FP32")], headers=mine)
        with pytest.raises(InferenceServerException, match=r"RESOURCE_EXHAUSTED.*used up its requests"):
            client.infer(NAME, [asked(X, "FP32")], headers=mine)
        client.unload_model(NAME, headers={"authorization": f"Bearer {control}"})


@pytest.mark.parametrize(
    "name", ["ModelInferRequest", "ModelInferResponse", "InferTensorContents", "InferParameter"]
)
def test_messages_have_the_published_fields(name: str) -> None:
    published = service_pb2.DESCRIPTOR.message_types_by_name[name]
    ours = message_class(name).DESCRIPTOR

    def fields(message: Any) -> list[tuple[int, str, int]]:
        return sorted((field.number, field.name, field.type) for field in message.fields)

    assert ours.full_name == published.full_name and fields(ours) == fields(published)
