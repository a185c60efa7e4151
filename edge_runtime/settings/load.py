"""From a file to settings: read, fill in, validate, and say everything that is wrong at once.

Opens no camera and no model; `edge-runtime check` does.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import TaskSpec
from edge_runtime.settings.checks import files, references
from edge_runtime.settings.document import Document, read_document
from edge_runtime.settings.model import AgentSettings
from edge_runtime.settings.problems import Problem, SettingsError, dotted, explain
from edge_runtime.settings.routes import purpose, routes

OVERRIDES: Mapping[str, str] = {
    "EDGE_RUNTIME_SITE": "site",
    "EDGE_RUNTIME_STATE_DIR": "state_dir",
    "EDGE_RUNTIME_PROFILE": "profile",
}
"""Environment variable -> the key of the file that it replaces."""


_TASKS: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> AgentSettings:
    """Load a store's settings.

    Relative paths in the file are relative to its folder; `EDGE_RUNTIME_STATE_DIR` is relative to the
    working directory.

    Args:
        path: `store.yaml`.
        environment: For `${NAME}` and the overrides; None: this process's.

    Returns:
        Settings whose paths are absolute and whose tasks are loaded.

    Raises:
        SettingsError: Names file, line and path of everything that is wrong.
        ConfigError: The file cannot be read or is not YAML.
    """
    env = os.environ if environment is None else environment
    folder = path.parent.absolute()
    document = _read(path, env, "a mapping with version, site, models and cameras")
    _override(document, env)
    _splice_tasks(document, folder, env)
    problems = _faults(document)
    settings: AgentSettings | None = None
    try:
        settings = AgentSettings.model_validate(document.data, context={"folder": folder})
    except ValidationError as error:
        problems += explain(error, document, AgentSettings.model_json_schema(by_alias=True))
    else:
        problems += files(settings)
        problems += routes(settings)
    problems += references(document)
    problems += purpose(document)
    if settings is None or problems:
        raise SettingsError(document, problems)
    return settings


def load_task(path: Path, environment: Mapping[str, str] | None = None) -> TaskSpec:
    """Load a TaskSpec from a YAML or JSON file.

    Raises:
        SettingsError: Names file, line and path of everything that is wrong.
        ConfigError: The file cannot be read or is not YAML.
    """
    document = _read(
        path, os.environ if environment is None else environment, "a mapping with kind, input, …"
    )
    problems = _faults(document)
    task: TaskSpec | None = None
    try:
        task = _TASKS.validate_python(document.data)
    except ValidationError as error:
        problems += explain(error, document, _TASKS.json_schema(by_alias=True))
    if task is None or problems:
        raise SettingsError(document, problems)
    return task


def _read(path: Path, environment: Mapping[str, str], expected: str) -> Document:
    document = read_document(path, environment)
    if not isinstance(document.data, dict):
        got = "an empty file" if document.data is None else type(document.data).__name__
        raise SettingsError(document, [Problem((), "", expected, got)])
    return document


def _faults(document: Document) -> list[Problem]:
    return [Problem(keys, problem, do=do) for keys, problem, do in document.faults]


def _override(document: Document, environment: Mapping[str, str]) -> None:
    for variable, key in OVERRIDES.items():
        if value := environment.get(variable):
            document.data[key] = str(Path(value).absolute()) if key == "state_dir" else value
            document.marks[(key,)] = (f"environment variable {variable}", 0)


def _splice_tasks(document: Document, folder: Path, environment: Mapping[str, str]) -> None:
    """Put the content of task files where the models name them."""
    models = document.value(("models",))
    if not isinstance(models, dict):
        return
    for name in cast("dict[str, object]", models):
        keys = ("models", name, "task")
        if isinstance(task := document.value(keys), str):
            try:
                document.put(keys, read_document(folder / task, environment))
            except ConfigError as error:
                raise ConfigError(f"{document.place(keys)}: {dotted(keys)}: {error}") from error
