"""NVIDIA's Triton client against the door: every form in, every form out, and all it asks besides."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as sync_client
from tritonclient.http import aio as aio_client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from edge_runtime.web.access import access_for
from edge_runtime.web.door import Door
from edge_runtime.web.server import Server
from tests.simulators.backends import NUMBERS, Shop

FORMS = [(True, True), (True, False), (False, True), (False, False)]
FORM_NAMES = ["binary-binary", "binary-json", "json-binary", "json-json"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def address(shop: Shop) -> Iterator[str]:
    with Server(Door(shop, access=access_for("127.0.0.1", "")), host="127.0.0.1", port=0) as server:
        yield server.url.removeprefix("http://")


@pytest.fixture
def client(address: str) -> Iterator[sync_client.InferenceServerClient]:
    with sync_client.InferenceServerClient(address) as client:
        yield client


def give(library: Any, arrays: dict[str, np.ndarray], *, binary: bool) -> list[Any]:
    inputs = []
    for name, array in arrays.items():
        inputs.append(library.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    return inputs


def sample(dtype: str) -> np.ndarray:
    if dtype == "str":
        return np.array([["naïve", ""], ["日本", "a\nb"]], object)
    low = 0 if dtype.startswith(("u", "b")) else -5
    return np.arange(low, low + 6).reshape(2, 3).astype(dtype)


@pytest.mark.parametrize("dtype", [*NUMBERS, "str"])
@pytest.mark.parametrize(("sent", "wanted"), FORMS, ids=FORM_NAMES)
def test_every_datatype_in_every_form(
    client: sync_client.InferenceServerClient, dtype: str, sent: bool, wanted: bool
) -> None:
    array = sample(dtype)
    model = "upper" if dtype == "str" else f"echo-{dtype}"
    answer = client.infer(
        model,
        give(sync_client, {"x": array}, binary=sent),
        outputs=[sync_client.InferRequestedOutput("y", binary_data=wanted)],
        request_id="7",
    )
    found = answer.as_numpy("y")
    if dtype == "str":
        texts = [value.decode() if isinstance(value, bytes) else value for value in found.ravel().tolist()]
        assert texts == [text.upper() for text in array.ravel().tolist()]
        assert found.shape == array.shape
    else:
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("7", model, "1")
    assert response["parameters"] == {"route": "local", "reason": "fits", "variant": "onnx"}


@pytest.mark.parametrize(("sent", "wanted"), FORMS, ids=FORM_NAMES)
def test_the_aio_client(address: str, sent: bool, wanted: bool) -> None:
    arrays = {"a": np.float32([[1, 2, 3, 4]]), "b": np.float32([[1, 1, 1, 1]])}

    async def ask() -> Any:
        async with aio_client.InferenceServerClient(address) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready("sums", "1")
            return await client.infer(
                "sums",
                give(aio_client, arrays, binary=sent),
                outputs=[
                    aio_client.InferRequestedOutput("dense", binary_data=wanted),
                    aio_client.InferRequestedOutput("sum", binary_data=not wanted),
                ],
            )

    answer = asyncio.run(ask())
    np.testing.assert_array_equal(answer.as_numpy("sum"), [[2, 3, 4, 5]])
    np.testing.assert_array_equal(answer.as_numpy("dense"), [[0 + 6 + 16 + 30, 2 + 9 + 20 + 35]])


def test_one_input_binary_and_one_in_json(client: sync_client.InferenceServerClient) -> None:
    array = np.float32([[1, 2, 3, 4]])
    inputs = give(sync_client, {"a": array}, binary=True) + give(sync_client, {"b": array}, binary=False)
    answer = client.infer("sums", inputs)
    np.testing.assert_array_equal(answer.as_numpy("sum"), array * 2)


def test_an_empty_batch(client: sync_client.InferenceServerClient) -> None:
    empty = np.empty((0, 3), np.float32)
    for sent, wanted in FORMS:
        answer = client.infer(
            "echo-float32",
            give(sync_client, {"x": empty}, binary=sent),
            outputs=[sync_client.InferRequestedOutput("y", binary_data=wanted)],
        )
        assert answer.as_numpy("y").shape == (0, 3)


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_compressed_requests(client: sync_client.InferenceServerClient, how: str) -> None:
    array = np.zeros((50, 100), np.float32)
    for sent in (True, False):
        answer = client.infer(
            "echo-float32",
            give(sync_client, {"x": array}, binary=sent),
            request_compression_algorithm=how,
            response_compression_algorithm=how,
        )
        np.testing.assert_array_equal(answer.as_numpy("y"), array)


def test_priority_timeout_and_parameters_reach_the_backend(
    client: sync_client.InferenceServerClient, shop: Shop
) -> None:
    client.infer(
        "echo-float32",
        give(sync_client, {"x": np.float32([[1]])}, binary=True),
        model_version="1",
        priority=1,
        timeout=2_000_000,
        parameters={"colour": "red"},
        headers={"x-request-id": "mine", "x-edge-data": "faces", "x-edge-sticky": "shop 7"},
    )
    asked = shop.asked[-1]
    assert (asked.id, asked.version) == ("mine", "1")
    assert asked.parameters == {"colour": "red", "priority": 0, "sticky": "shop 7"}
    assert sorted(asked.data) == ["faces"]
    assert asked.timeout_s is not None
    assert 0 < asked.timeout_s < 2


def test_what_the_server_tells_of_itself(client: sync_client.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sums")
    assert not client.is_model_ready("spare")
    assert not client.is_model_ready("sums", "2")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    told = client.get_model_metadata("sums")
    assert told["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 4]}
    assert client.get_model_metadata("upper")["outputs"] == [
        {"name": "y", "datatype": "BYTES", "shape": [-1, -1]}
    ]


def test_the_repository(client: sync_client.InferenceServerClient) -> None:
    def states() -> dict[str, str]:
        return {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}

    assert states()["spare"] == "UNAVAILABLE"
    client.load_model("spare")
    assert states()["spare"] == "READY"
    assert client.is_model_ready("spare")
    client.unload_model("spare")
    assert states()["spare"] == "UNAVAILABLE"
    assert not client.is_model_ready("spare")
    with pytest.raises(InferenceServerException, match="got nothere"):
        client.load_model("nothere")
    with pytest.raises(InferenceServerException, match="with its settings from the repository"):
        client.load_model("spare", config=json.dumps({"backend": "onnxruntime"}))


def test_statistics(client: sync_client.InferenceServerClient) -> None:
    def count(outcome: str) -> int:
        entries = client.get_inference_statistics("sums")["model_stats"]
        return sum(entry["inference_stats"][outcome]["count"] for entry in entries)

    good, bad = count("success"), count("fail")
    array = np.float32([[1, 2, 3, 4]])
    client.infer("sums", give(sync_client, {"a": array, "b": array}, binary=True))
    with pytest.raises(InferenceServerException):
        client.infer("sums", give(sync_client, {"a": array}, binary=True))
    assert (count("success"), count("fail")) == (good + 1, bad + 1)
    everything = client.get_inference_statistics()["model_stats"]
    assert all(
        entry["inference_stats"]["success"]["ns"] > 0 for entry in everything if entry["inference_count"]
    )


WRONG: dict[str, tuple[str, dict[str, np.ndarray], str, str]] = {
    "dtype": ("echo-float32", {"x": np.int32([[1]])}, "400", "expected FP32 (?, ?), got INT32 (1, 1)"),
    "shape": (
        "sums",
        {"a": np.float32([[1]]), "b": np.float32([[1]])},
        "400",
        "expected FP32 (?, 4), got FP32 (1, 1)",
    ),
    "name": ("echo-float32", {"w": np.float32([[1]])}, "400", "expected x, got w"),
    "model": ("nobody", {"x": np.float32([[1]])}, "404", "got nobody"),
    "nan": (
        "echo-float32",
        {"x": np.float32([[1, np.nan]])},
        "400",
        "expected numbers, got nan at element 1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_what_is_wrong(client: sync_client.InferenceServerClient, case: str, binary: bool) -> None:
    model, arrays, status, message = WRONG[case]
    if case == "nan" and not binary:
        message = "strict JSON"
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, give(sync_client, arrays, binary=binary))
    assert caught.value.status() == status
    assert message in str(caught.value)
    assert client.is_server_live()


def test_an_unknown_version_and_an_unknown_output(client: sync_client.InferenceServerClient) -> None:
    inputs = give(sync_client, {"x": np.float32([[1]])}, binary=True)
    with pytest.raises(InferenceServerException, match="expected 1, got 9"):
        client.infer("echo-float32", inputs, model_version="9")
    with pytest.raises(InferenceServerException, match="expected y, got z"):
        client.infer("echo-float32", inputs, outputs=[sync_client.InferRequestedOutput("z")])
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("echo-float32", inputs, outputs=[sync_client.InferRequestedOutput("y", class_count=2)])


def test_a_model_whose_tensors_are_not_known_here_compares_itself(
    client: sync_client.InferenceServerClient,
) -> None:
    assert client.get_model_metadata("sentiment")["inputs"] == []
    with pytest.raises(InferenceServerException, match="expected a text, got tensors"):
        client.infer("sentiment", give(sync_client, {"any": np.float32([[1]])}, binary=True))


def test_models_that_fail_say_how(client: sync_client.InferenceServerClient) -> None:
    told = {"broken": "500", "busy": "503", "late": "504", "forbidden": "403", "buggy": "500"}
    for model, status in told.items():
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, [])
        assert caught.value.status() == status
        assert "hunter2" not in str(caught.value)
