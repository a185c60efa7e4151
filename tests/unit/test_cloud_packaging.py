"""The container and the KServe manifest say what the command line takes and the server answers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from cloud_fallback.serving.app import route_of
from cloud_fallback.serving.cli import serve


def options(arguments: list[str]) -> dict[str, Any]:
    """Read arguments as `edge-runtime serve` would; fails where it has no such option."""
    app = typer.Typer()
    app.command()(serve)
    return typer.main.get_command(app).make_context("serve", arguments).params


def instruction(text: str, name: str) -> list[str]:
    found = re.search(rf"^{name} (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture
def container(repository: Path) -> str:
    return (repository / "packaging/container/Containerfile.cloud").read_text()


@pytest.fixture
def service(repository: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(repository / "packaging/kserve/inferenceservice.yaml")


def test_the_container_starts_with_options_that_exist(container: str) -> None:
    entry, usual = instruction(container, "ENTRYPOINT"), instruction(container, "CMD")
    assert entry[:2] == ["edge-runtime", "serve"]
    told = options(entry[2:] + usual)
    assert told["host"] == "0.0.0.0" and told["keys"] is not None and not told["no_auth"]
    ports = re.search(r"^EXPOSE (\d+) (\d+)$", container, re.MULTILINE)
    assert ports is not None and [int(port) for port in ports.groups()] == [told["port"], told["grpc_port"]]


def test_the_container_copies_every_package(container: str, repository: Path) -> None:
    packages = {path.parent.name for path in repository.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert all(f"COPY {package} {package}\n" in container for package in packages)


def test_the_service_runs_the_container(service: dict[str, Any], container: str) -> None:
    (predictor,) = service["spec"]["predictor"]["containers"]
    told = options(instruction(container, "ENTRYPOINT")[2:] + predictor["args"])
    assert predictor["ports"][0]["containerPort"] == told["port"]
    for probe in ("readinessProbe", "livenessProbe"):
        asked = predictor[probe]["httpGet"]
        assert asked["port"] == told["port"] and route_of(asked["path"]) == "health"
    mounts = {one["mountPath"] for one in predictor["volumeMounts"]}
    assert str(told["keys"].parent) in mounts and str(told["state"]) in mounts
    volumes = {one["name"] for one in service["spec"]["predictor"]["volumes"]}
    assert {one["name"] for one in predictor["volumeMounts"]} == volumes
