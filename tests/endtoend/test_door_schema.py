"""What the OpenAPI document says, and more that it does not say, is sent to the door; nothing is a 5xx.

Schemathesis makes the requests, the same ones each time.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from edge_runtime.web.door import Door
from edge_runtime.web.server import Server
from tests.simulators.backends import Shop

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
REPEATABLE = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MODELS = ["sums", "echo-float32", "upper", "sentiment", "letters", "parrot", "light", "nobody"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(Door(Shop(tmp_path_factory.mktemp("shop"))), host="127.0.0.1", port=0) as server:
        yield server


@pytest.fixture(scope="module")
def described(server: Server) -> Any:
    """The document, with models that exist where it says any name, so that more than 404s come back."""
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "model":
                    parameter["schema"]["enum"] = ["spare"] if path.endswith("load") else MODELS
                if parameter["name"] == "version":
                    parameter["schema"]["enum"] = ["1", "2"]
    for path in ("embeddings", "chat/completions", "completions"):
        body = document["paths"][f"/v1/{path}"]["post"]["requestBody"]
        model = body["content"]["application/json"]["schema"]["properties"]["model"]
        model["enum"] = MODELS
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=server.url)
    return loaded


@pytest.mark.timeout(300)
def test_nothing_is_a_server_error(described: Any) -> None:
    seen: set[int] = set()

    def answer(case: Any) -> None:
        response = case.call()
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with suppress(Unsatisfiable):  # a route that takes nothing cannot be sent the wrong thing
                REPEATABLE(given(case=operation.as_strategy(generation_mode=mode))(answer))()
    assert {200, 400, 404} <= seen


@pytest.mark.timeout(300)
def test_every_boundary_of_the_schema(server: Server, tmp_path: Path) -> None:
    """The phase that goes through every keyword of the document, one value too few and one too many."""
    program = Path(sys.executable).with_name("schemathesis")
    checks = "not_a_server_error,response_schema_conformance,content_type_conformance"
    document = f"{server.url}/openapi.json"
    command = [program, "run", document, "--phases", "coverage", "--seed", "1", "--checks", checks]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) generated", done.stdout)[-1]) > 500
