"""From `recipe.yaml` or flags to a Recipe: read, filled in, validated, everything wrong said at once.

Looks into no source and no sample: `source` and the steps do.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from pydantic import JsonValue, ValidationError

from converters.recipe import Recipe
from device_profiles.loader import load_profile
from edge_runtime.contract.device import DeviceProfile
from edge_runtime.contract.errors import ConfigError
from edge_runtime.settings.document import Document, Keys, read_document
from edge_runtime.settings.problems import Problem, SettingsError, dotted, explain

Flags: TypeAlias = Mapping[Keys, tuple[str, Any]]
"""Place in the recipe -> the flag that fills it, and its value."""

_PATHS: tuple[Keys, ...] = (
    ("source", "path"),
    ("samples", "path"),
    ("samples", "labels"),
    ("tokenizer",),
)
_FLAGS: Mapping[Keys, str] = {
    ("task",): "--task",
    ("profiles",): "--profile",
    ("samples", "path"): "--samples",
}
"""What fills in a key that is missing, for who wrote no file."""


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe with what it names.

    Args:
        recipe: Its paths are absolute.
        profiles: The device profiles, in the recipe's order.
        module: The Python file of a torch source `file.py:Class`; None where it is a package's, or none.
        told: The recipe as JSON, with paths as they were written: the same on every machine.
    """

    recipe: Recipe
    profiles: tuple[DeviceProfile, ...]
    module: Path | None
    told: Mapping[str, JsonValue]


def load_recipe(
    path: Path | None, flags: Flags | None = None, environment: Mapping[str, str] | None = None
) -> LoadedRecipe:
    """Load a recipe.

    Relative paths in a file are relative to its folder, those of flags to the working directory. A `task`
    that is a text is the path of a file with a TaskSpec.

    Args:
        path: `recipe.yaml`; None: all of it comes from flags.
        flags: What replaces or fills in keys of the file.
        environment: For `${NAME}`; None: this process's.

    Raises:
        SettingsError: Names file, line and key of everything that is wrong.
        ConfigError: The file cannot be read or is not YAML.
    """
    env = os.environ if environment is None else environment
    document = _open(path, env)
    folders = _apply(document, Path() if path is None else path.parent, flags or {})
    _splice_task(document, folders, env)
    problems = [Problem(keys, problem, do=do) for keys, problem, do in document.faults]
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(document.data)
    except ValidationError as error:
        problems += explain(error, document, Recipe.model_json_schema(by_alias=True))
    profiles = _profiles(document, folders, problems)
    paths = _paths(document, folders, problems)
    module = _module(document, folders, problems)
    if recipe is None or problems:
        raise SettingsError(document, [_with_flag(problem, document) for problem in problems])
    told = recipe.model_dump(mode="json")
    return LoadedRecipe(_placed(recipe, paths), tuple(profiles), module, told)


def recipe_schema() -> dict[str, Any]:
    """Make the JSON schema of `recipe.yaml`; a task may be the path of a file with it."""
    schema = Recipe.model_json_schema(by_alias=True)
    task = schema["properties"]["task"]
    schema["properties"]["task"] = {"anyOf": [task, {"type": "string", "description": "path of a task file"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "recipe.yaml of edge-runtime convert",
    }


def _open(path: Path | None, environment: Mapping[str, str]) -> Document:
    if path is None:
        document = Document("command line", {})
        document.marks[()] = ("command line", 0)
        return document
    document = read_document(path, environment)
    if not isinstance(document.data, dict):
        got = "an empty file" if document.data is None else type(document.data).__name__
        raise SettingsError(
            document, [Problem((), "", "a mapping with name, source, task, profiles, …", got)]
        )
    return document


def _apply(document: Document, folder: Path, flags: Flags) -> Mapping[Keys, Path]:
    """Put flags into the document; give the folder that each path they hold is relative to."""
    folders: dict[Keys, Path] = {(): folder.absolute()}
    for keys, (flag, value) in flags.items():
        block: dict[str, Any] = document.data
        for depth, key in enumerate(keys[:-1], 1):
            inner = block.get(cast(str, key))
            if not isinstance(inner, dict):
                inner = block[cast(str, key)] = {}
                document.marks[keys[:depth]] = (flag, 0)
            block = cast("dict[str, Any]", inner)
        block[cast(str, keys[-1])] = value
        document.marks = {place: mark for place, mark in document.marks.items() if place[: len(keys)] != keys}
        document.marks[keys] = (flag, 0)
        folders[keys] = Path.cwd()
    return folders


def _with_flag(problem: Problem, document: Document) -> Problem:
    """Say how to add what is missing where no file has a line for it."""
    flag = _FLAGS.get(problem.keys)
    if problem.problem != "is missing" or flag is None or document.line(problem.keys):
        return problem
    return replace(problem, do=f"Give it with {flag}.")


def _folder(folders: Mapping[Keys, Path], keys: Keys) -> Path:
    while keys not in folders:
        keys = keys[:-1]
    return folders[keys]


def _splice_task(document: Document, folders: Mapping[Keys, Path], environment: Mapping[str, str]) -> None:
    keys: Keys = ("task",)
    if isinstance(task := document.value(keys), str):
        try:
            document.put(keys, read_document(_folder(folders, keys) / task, environment))
        except ConfigError as error:
            raise ConfigError(f"{document.place(keys)}: {dotted(keys)}: {error}") from error


def _profiles(
    document: Document, folders: Mapping[Keys, Path], problems: list[Problem]
) -> list[DeviceProfile]:
    """Load the profiles; a name twice is served once."""
    found: dict[str, DeviceProfile] = {}
    names = document.value(("profiles",))
    for index, name in enumerate(cast("list[object]", names) if isinstance(names, list) else []):
        if not isinstance(name, str):
            continue
        keys: Keys = ("profiles", index)
        is_path = bool(Path(name).suffix) or len(Path(name).parts) > 1
        try:
            profile = load_profile(_folder(folders, keys) / name if is_path else name)
        except ConfigError as error:
            problems.append(Problem(keys, error.problem, error.expected, error.got, error.do))
        else:
            found.setdefault(profile.name, profile)
    return list(found.values())


def _paths(document: Document, folders: Mapping[Keys, Path], problems: list[Problem]) -> Mapping[Keys, Path]:
    paths: dict[Keys, Path] = {}
    for keys in _PATHS:
        if isinstance(value := document.value(keys), str):
            paths[keys] = _folder(folders, keys) / value
            if not paths[keys].exists():
                problems.append(Problem(keys, "is not there", "a file or a folder", str(paths[keys])))
    return paths


def _module(document: Document, folders: Mapping[Keys, Path], problems: list[Problem]) -> Path | None:
    """Find the file of `file.py:Class`."""
    keys: Keys = ("source", "module")
    where, _, name = str(document.value(keys) or "").rpartition(":")
    if not document.value(keys) or not where.endswith(".py"):
        return None
    file = _folder(folders, keys) / where
    if not file.is_file() or not name:
        problems.append(Problem(keys, "is not there", "package.module:Class or file.py:Class", str(file)))
    return file


def _placed(recipe: Recipe, paths: Mapping[Keys, Path]) -> Recipe:
    """Make the recipe's paths absolute."""
    source = recipe.source.model_copy(update={"path": paths.get(("source", "path"))})
    samples = recipe.samples and recipe.samples.model_copy(
        update={"path": paths.get(("samples", "path")), "labels": paths.get(("samples", "labels"))}
    )
    return recipe.model_copy(
        update={"source": source, "samples": samples, "tokenizer": paths.get(("tokenizer",))}
    )
