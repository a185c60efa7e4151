"""Schemathesis over the manager's OpenAPI document, on a real database: nothing is a 5xx."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.simulators.fleet_api import Site, enrol, listening, site_in

SOME = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
NAMED = {
    "name": ["till-7", "nobody"],
    "file": ["timestamp.json", "no.json"],
    "role": ["model.people", "root"],
}
UNDER_WAY = {"/v1/watch", "/v1/devices/{name}/commands"}
"""The stream has no end; a silent device is a 504, and right."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    with site_in(tmp_path_factory.mktemp("fleet") / "site") as site:
        enrol(site, "till-7")
        path = site.publish("people", 1, b"a model")
        operator = site.client("operator")
        operator.put(f"/v1/artifacts/{path}", content=b"a model")
        operator.post("/v1/releases", json={"target": path})
        operator.post("/v1/deployments", json={"id": "spring", "name": "people", "version": "1.0.0"})
        with listening(site.app) as url:
            yield site, url


def test_no_request_is_a_failure_of_the_manager(served: tuple[Site, str]) -> None:
    site, url = served
    document: Any = site.app.openapi()
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in NAMED:
                    parameter["schema"] = {"type": "string", "enum": NAMED[parameter["name"]]}
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=url)
    for found in loaded.get_all_operations():
        operation = found.ok()
        if operation.path in UNDER_WAY:
            continue

        @SOME
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(headers=site.headers("admin"))
            case.validate_response(
                answer, checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
            )

        ask()
