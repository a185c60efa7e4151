"""A command line that is wrong: with `--json` that is said in a document, too, and the code is 2."""

import json

import pytest
from typer.testing import CliRunner

from edge_runtime.cli.app import app


@pytest.mark.parametrize(
    ("typed", "kind", "says"),
    [
        ("check --json", "MissingParameter", "STORE.yaml"),
        ("check store.yaml --json --nope", "NoSuchOption", "--nope"),
        ("bench model --json --threads many", "BadParameter", "--threads"),
        ("bench model --threads 0 --json", "BadParameter", "--threads"),
        ("profile show --json", "MissingParameter", "NAME"),
        ("profile --json", "NoSuchOption", "--json"),
        ("--json", "NoSuchOption", "--json"),
        ("nonsense --json", "UsageError", "nonsense"),
        ("fleet status a b --json", "UsageError", "b"),
        ("fleet deploy detector --json", "MissingParameter", "--to"),
        ("route explain store.yaml --json", "MissingParameter", "--model"),
    ],
)
def test_it_is_one_document(typed: str, kind: str, says: str) -> None:
    result = CliRunner().invoke(app, typed.split())
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["exit_code"]) == (kind, 2)
    assert says.lower() in error["message"].lower()
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("typed", ["check", "check store.yaml --nope", "nonsense", "fleet status a b"])
def test_without_json_standard_output_is_empty(typed: str) -> None:
    result = CliRunner().invoke(app, typed.split())
    assert result.exit_code == 2 and result.stdout == ""


def test_help_is_no_error() -> None:
    result = CliRunner().invoke(app, ["check", "--json", "--help"])
    assert result.exit_code == 0 and '"error"' not in result.stdout
