"""recipe.yaml and flags: what a person writes, what a conversion gets, and what is said about mistakes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.recipe_file import LoadedRecipe, load_recipe, recipe_schema
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import DetectionSpec
from edge_runtime.settings.problems import SettingsError

ROOT = Path(__file__).parents[2]
TASK = "{kind: detection, input: {layout: nchw}, head: {format: nms}, labels: [person]}"
SMALL = f"""\
name: people
source: {{path: model.onnx}}
task: {TASK}
profiles: [raspberry-pi-5]
"""

Load = Callable[..., LoadedRecipe]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")

    def write_and_load(text: str, flags: Any = None, **environment: str) -> LoadedRecipe:
        file = tmp_path / "recipe.yaml"
        file.write_text(text, "utf-8")
        return load_recipe(file, flags, environment)

    return write_and_load


def problems(load: Load, text: str, flags: Any = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(text, flags)
    return tuple(line.rpartition("recipe.yaml:")[2] for line in caught.value.problems)


def test_paths_are_relative_to_the_recipe(load: Load, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    loaded = load(SMALL + "samples: {path: pictures}\n")
    assert loaded.recipe.source.path == tmp_path / "model.onnx"
    assert loaded.recipe.samples is not None
    assert loaded.recipe.samples.path == tmp_path / "pictures"
    assert [profile.name for profile in loaded.profiles] == ["raspberry-pi-5"]


def test_what_goes_into_the_bundle_names_no_folder_of_this_machine(load: Load, tmp_path: Path) -> None:
    assert str(tmp_path) not in json.dumps(dict(load(SMALL).told))


def test_a_task_may_be_a_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK, "utf-8")
    assert isinstance(load(SMALL.replace(TASK, "task.yaml")).recipe.task, DetectionSpec)


def test_a_mistake_in_a_task_file_names_that_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK.replace("head", "haed"), "utf-8")
    with pytest.raises(SettingsError) as caught:
        load(SMALL.replace(TASK, "task.yaml"))
    assert any(
        "task.yaml:1: task.haed: unknown key. Did you mean 'head'?" in one for one in caught.value.problems
    )


def test_flags_replace_and_fill_in(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("pics").mkdir()
    flags = {
        ("profiles",): ("--profile", ["store-pc-cpu"]),
        ("want", "formats"): ("--format", ["tflite"]),
        ("samples", "path"): ("--samples", "pics"),
    }
    recipe = load(SMALL, flags).recipe
    assert recipe.profiles == ("store-pc-cpu",)
    assert recipe.want.formats == (Format.TFLITE,)
    assert recipe.samples is not None
    assert recipe.samples.path == tmp_path / "here" / "pics"


def test_flags_alone_make_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "task.yaml").write_text(TASK, "utf-8")
    loaded = load_recipe(
        None,
        {
            ("name",): ("--name", "people"),
            ("source", "path"): ("SOURCE", str(tmp_path / "model.onnx")),
            ("task",): ("--task", str(tmp_path / "task.yaml")),
            ("profiles",): ("--profile", ["raspberry-pi-5"]),
        },
    )
    assert loaded.recipe.name == "people"


def test_everything_wrong_is_said_at_once_in_order(load: Load) -> None:
    text = """\
name: People
source: {path: gone.onnx, trus: true}
task: {kind: detection, input: {layout: nchw}, head: {format: nms}, labels: [person]}
profiles: [raspberry-pi-5, store-pc-cpuu]
bugdets: {cosine: 0.9}
want: {precisions: [int9]}
samples: {path: pictures}
"""
    found = problems(load, text)
    assert [line.partition(":")[0] for line in found] == ["1", "2", "2", "4", "5", "6", "7"]
    text = "\n".join(found)
    assert "source.trus: unknown key. Did you mean 'trust'?" in text
    assert "source.path: is not there" in text
    assert "Did you mean 'store-pc-cpu'?" in text
    assert "bugdets: unknown key. Did you mean 'budgets'?" in text
    assert "want.precisions[0]: expected 'fp32'" in text


@pytest.mark.parametrize("format_", ["executorch", "ncnn"])
def test_a_format_that_is_not_made_is_refused_with_the_reason(load: Load, format_: str) -> None:
    (said,) = problems(load, SMALL + f"want: {{formats: [onnx, {format_}]}}\n")
    assert f"want.formats[1]: {format_} is not made: no engine of the runtime opens it" in said
    with pytest.raises(SettingsError, match=f"--format: .*{format_} is not made"):
        load(SMALL, {("want", "formats"): ("--format", [format_])})


def test_a_wrong_flag_is_named(load: Load) -> None:
    with pytest.raises(SettingsError, match=r"--on-failure: on_failure: expected 'leave_out' or 'stop'"):
        load(SMALL, {("on_failure",): ("--on-failure", "panic")})


def test_what_flags_lack_is_said_with_the_flag(load: Load, tmp_path: Path) -> None:
    model = {("source", "path"): ("SOURCE", str(tmp_path)), ("name",): ("SOURCE", "people")}
    labels = {("samples", "labels"): ("--labels", str(tmp_path))}
    with pytest.raises(SettingsError) as caught:
        load_recipe(None, {**model, **labels})
    assert set(caught.value.problems) == {
        "command line: task: is missing. Give it with --task.",
        "command line: profiles: is missing. Give it with --profile.",
        "--labels: samples.path: is missing. Give it with --samples.",
    }
    with pytest.raises(SettingsError, match=r"--labels: samples\.path: is missing\. Give it with --samples"):
        load(SMALL, labels)


def test_what_is_missing_is_said(load: Load) -> None:
    assert problems(load, "name: people\n") == (
        "1: source: is missing. Add it.",
        "1: task: is missing. Add it.",
        "1: profiles: is missing. Add it.",
    )


def test_a_profile_may_be_a_file_beside_the_recipe(load: Load, tmp_path: Path) -> None:
    shipped = (ROOT / "device_profiles" / "raspberry-pi-5.yaml").read_text("utf-8")
    (tmp_path / "mine.yaml").write_text(shipped.replace("name: raspberry-pi-5", "name: mine"), "utf-8")
    assert [one.name for one in load(SMALL.replace("[raspberry-pi-5]", "[mine.yaml]")).profiles] == ["mine"]


def test_the_file_of_a_torch_class_is_found(load: Load, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("class Net: ...\n")
    text = SMALL.replace("{path: model.onnx}", "{module: 'net.py:Net'}")
    assert load(text).module == tmp_path / "net.py"
    assert "source.module: is not there" in problems(load, text.replace("net.py", "gone.py"))[0]


@pytest.mark.parametrize(
    ("content", "said"), [("", "an empty file"), ("- 1\n", "list"), ("a: [", "not YAML")]
)
def test_what_is_no_recipe(load: Load, content: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(content)


def test_the_example_follows_its_schema_and_only_lacks_its_files() -> None:
    with pytest.raises(SettingsError) as caught:
        load_recipe(ROOT / "examples" / "recipe.yaml")
    assert all("is not there" in line for line in caught.value.problems)
    shipped = json.loads((ROOT / "examples" / "recipe.schema.json").read_text("utf-8"))
    assert shipped == recipe_schema()
