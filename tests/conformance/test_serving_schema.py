"""Schemathesis over the cloud's two OpenAPI documents, through the whole endpoint: nothing is a 5xx."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from cloud_fallback.serving.app import App
from cloud_fallback.serving.keys import KeyRing
from cloud_fallback.serving.metrics import Metrics
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.web.server import Server
from tests.simulators.parrot import NAME, Parrot

DOCUMENTS = {"door": "/openapi.json", "control": "/v1/control/openapi.json"}
SOME = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class LastingParrot(Parrot):
    """A parrot that is served whole and cannot be unloaded for good."""

    async def start(self) -> None:
        """It is ready as it is."""

    async def close(self) -> None:
        """It holds nothing."""

    async def unload(self, model: str) -> None:
        self.describe(model, None)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Its address, and a key that may do everything."""
    folder = tmp_path_factory.mktemp("cloud")
    secret = KeyRing(folder / "keys.json", must_exist=False).create("tests", control=True)
    told = ServeSettings("", keys=folder / "keys.json", state=folder / "state")
    app = App(told, LastingParrot(versions=("1", "2")), Metrics())
    with Server(app, host="127.0.0.1", port=0) as server:
        yield server.url, secret


def document_of(served: tuple[str, str], path: str) -> Any:
    """A document, with a model and versions that exist where it says any name."""
    url, _ = served
    document = httpx.get(f"{url}{path}").json()
    named = {"model": [NAME, "nobody"], "version": ["1", "2"], "name": ["shop", "nobody"]}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in named:
                    parameter["schema"] = {"type": "string", "enum": named[parameter["name"]]}
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=url)
    return loaded


def check(case: Any, secret: str) -> None:
    case.headers.pop("x-deadline-ms", None)  # of few milliseconds, which pass: a 504, and right
    answer = case.call(headers={"authorization": f"Bearer {secret}"})
    case.validate_response(
        answer, checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
    )
    assert answer.status_code not in {401, 403}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_request_is_a_failure_of_the_server(served: tuple[str, str], name: str) -> None:
    for found in document_of(served, DOCUMENTS[name]).get_all_operations():

        @SOME
        @given(found.ok().as_strategy())
        def send(case: Any) -> None:
            check(case, served[1])

        send()


def test_both_documents_are_open_and_name_every_route(served: tuple[str, str]) -> None:
    paths = {name: httpx.get(f"{served[0]}{path}").json()["paths"] for name, path in DOCUMENTS.items()}
    assert "/v2/models/{model}/infer" in paths["door"]
    assert {"/metrics", "/v1/control/traffic/{model}", "/v1/control/keys"} <= paths["control"].keys()
