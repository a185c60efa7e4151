"""From a file to settings: read, fill in, validate, and say everything that is wrong at once.

Opens no camera and no model; `edge-runtime check` does.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from edge_runtime.contract.errors import ConfigError, StorageError
from edge_runtime.contract.task import TaskSpec
from edge_runtime.settings.checks import files, references
from edge_runtime.settings.document import Document, read_document
from edge_runtime.settings.fleet import DEVICES_OWN
from edge_runtime.settings.model import AgentSettings
from edge_runtime.settings.problems import Problem, SettingsError, dotted, explain
from edge_runtime.settings.routes import purpose, routes
from edge_runtime.update.contents import SETTINGS
from edge_runtime.update.slots import Slots

OVERRIDES: Mapping[str, str] = {
    "EDGE_RUNTIME_SITE": "site",
    "EDGE_RUNTIME_STATE_DIR": "state_dir",
    "EDGE_RUNTIME_PROFILE": "profile",
}
"""Environment variable -> the key of the file that it replaces."""

_SENT = "the fleet's settings"
"""What they are called: where the device keeps them says nothing to who wrote them."""
_OWN_DO = "Leave it out: each device has it in its own store.yaml."

log = logging.getLogger(__name__)

_TASKS: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> AgentSettings:
    """Load a store's settings; where its fleet has sent some, those, with the device's own blocks.

    Settings from a fleet that are wrong on this device are said, and the file alone is used: an agent that
    does not start cannot be sent better ones.

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
    alone = load_with(path, None, environment)
    sent = None if alone.fleet is None else sent_settings(alone.fleet.folder)
    if sent is None:
        return alone
    try:
        return load_with(path, sent, environment)
    except ConfigError as error:
        log.error("the settings that the fleet sent are wrong here, and %s is used alone: %s", path, error)
        return alone


def sent_settings(folder: Path) -> Path | None:
    """Find the settings that a fleet has put in place of the file's.

    Args:
        folder: `fleet.folder`.

    Returns:
        The file; None: there are none, or the disk has damaged what says so.
    """
    try:
        active = Slots(folder / "updates" / "slots", "settings", "agent").active()
    except StorageError as error:
        log.error("%s; the store's own settings are used alone", error)
        return None
    return None if active is None else active[1] / SETTINGS


def load_with(path: Path, sent: Path | None, environment: Mapping[str, str] | None = None) -> AgentSettings:
    """Load a store's settings with those of a fleet in place of all that is not the device's own.

    Args:
        path: `store.yaml`; paths in both files are relative to its folder.
        sent: What the fleet sent; None: nothing.
        environment: As for `load_settings`.

    Raises:
        ConfigError: As for `load_settings`; or the fleet's file has a block that is the device's own.
    """
    env = os.environ if environment is None else environment
    folder = path.parent.absolute()
    document = _read(path, env, "a mapping with version, site, models and cameras")
    if sent is not None:
        theirs = _read(sent, env, "a mapping with version, models and cameras", _SENT)
        foreign = [key for key in DEVICES_OWN if key in theirs.data]
        if foreign:
            said = [Problem((key,), "is the device's own", do=_OWN_DO) for key in foreign]
            raise SettingsError(theirs, said)
        document = document.under(theirs, DEVICES_OWN)
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


def _read(path: Path, environment: Mapping[str, str], expected: str, name: str | None = None) -> Document:
    document = read_document(path, environment, name)
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
