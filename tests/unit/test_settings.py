"""store.yaml: what a person writes, what the agent gets, and what is said about mistakes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.task import DetectionSpec
from edge_runtime.settings import (
    AgentSettings,
    JsonlSinkSettings,
    MqttSinkSettings,
    SettingsError,
    check_labels,
    load_settings,
    load_task,
)
from edge_runtime.settings.schema import store_schema

ROOT = Path(__file__).parents[2]
SMALL = """\
version: 1
site: store-042
models:
  people: {bundle: efficientdet-lite0, labels: [person]}
cameras:
  door:
    source: door.mp4
    model: people
"""
TASK = """\
kind: detection
input: {layout: nchw, colour: bgr, align: top_left}
head: {format: nms}
labels: [person]
"""
INLINE_TASK = "{kind: detection, input: {layout: nchw}, head: {format: nms}, labels: [person]}"

Load = Callable[..., AgentSettings]
Problems = Callable[..., tuple[str, ...]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(text: str, **environment: str) -> AgentSettings:
        store = tmp_path / "store.yaml"
        store.write_text(text, "utf-8")
        return load_settings(store, environment)

    return write_and_load


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Problems:
    """The lines of the error, without the folder of the file."""

    def collect(text: str, **environment: str) -> tuple[str, ...]:
        with pytest.raises(SettingsError) as caught:
            load(text, **environment)
        return tuple(line.replace(f"{tmp_path}/", "") for line in caught.value.problems)

    return collect


def test_a_small_file_gets_its_defaults(load: Load, tmp_path: Path) -> None:
    settings = load(SMALL)
    door = settings.cameras["door"]
    assert settings.state_dir == tmp_path / "state"
    assert settings.workers == settings.profile == "auto"
    assert settings.models["people"].bundle is not None
    assert settings.models["people"].bundle.name == "efficientdet-lite0"
    assert door.source == str(tmp_path / "door.mp4")
    assert (door.fps, door.deadline_s, door.motion.gate, door.tracker.confirm_frames) == (None, 2.0, False, 3)
    assert settings.sinks == ()


def test_settings_do_not_change(load: Load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(SMALL).site = "other"  # type: ignore[misc]


def test_the_example_loads() -> None:
    settings = load_settings(ROOT / "examples/store.yaml", {})
    assert Path(settings.cameras["recording"].source).resolve() == ROOT / "edge_runtime/media/pedestrians.mp4"


def test_the_demo_loads() -> None:
    assert set(load_settings(ROOT / "edge_runtime/demo.yaml", {}).cameras) == {"east", "west"}


def test_the_committed_schema_is_up_to_date() -> None:
    committed = json.loads((ROOT / "examples/store.schema.json").read_text("utf-8"))
    assert committed == store_schema(), "run: make schema"


def test_the_example_names_the_schema_in_its_first_line() -> None:
    first = (ROOT / "examples/store.yaml").read_text("utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=store.schema.json"


def test_every_setting_of_the_schema_is_described() -> None:
    schema = store_schema()
    own = ["AgentSettings", *(name for name in schema["$defs"] if name.endswith("Settings"))]
    plain = {"type", "host", "port", "username", "path"}
    for name in own:
        block = schema if name == "AgentSettings" else schema["$defs"][name]
        for key, rule in block["properties"].items():
            assert key in plain or "description" in rule or "$ref" in str(rule), f"{name}.{key}"


@pytest.mark.parametrize(
    ("replace", "by", "message"),
    [
        ("site: store-042", "site: Store 42", "store.yaml:2: site: not a name: expected lower-case letters"),
        ("site: store-042", "site: 42", "store.yaml:2: site: expected a valid string, got 42"),
        ("site: store-042\n", "", "store.yaml:1: site: is missing. Add it."),
        ("version: 1", "version: 2", "store.yaml:1: version: expected 1, got 2"),
        ("model: people", "modle: people", "store.yaml:8: cameras.door.modle: unknown key. Did you mean 'model'?"),
        ("model: people", "model: peple", "store.yaml:8: cameras.door.model: no model is called 'peple'. Did you mean"),
        ("labels: [person]", "min_score: 2", "store.yaml:4: models.people.min_score: expected less than or equal to 1"),
        ("labels: [person]", "min_score: .nan", "store.yaml:4: models.people.min_score: expected a finite number"),
        ("bundle: efficientdet-lite0", "bundle: nothing", "store.yaml:4: models.people.bundle: no shipped bundle"),
        ("  door:", "  Front Door:", "store.yaml:6: cameras.Front Door: not a name"),
        ("model: people", "model: people\n    model: people", "store.yaml:9: cameras.door.model: twice in this block, first in line 8"),
        ("source: door.mp4", "source: 'rstp://u:pw@cam/1'", "store.yaml:7: cameras.door.source: unknown scheme 'rstp://': expected one of rtsp, rtsps, http, https. Did you mean 'rtsp://'?"),
        ("source: door.mp4", "source: '${DOOR}'", "store.yaml:7: cameras.door.source: the environment variable DOOR is not set"),
        ("version: 1", "version: 1\nworkers: many", "store.yaml:2: workers: expected a valid integer or 'auto', got 'many'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_and_path(
    problems: Problems, replace: str, by: str, message: str
) -> None:
    assert replace in SMALL
    said = problems(SMALL.replace(replace, by))
    assert any(line.startswith(message) for line in said), said


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        ("{type: mqt, host: a}", "sinks[0].type: expected one of 'jsonl', 'mqtt', "),
        ("{path: a}", "sinks[0]: 'type' is missing. Add it."),
        ("{type: jsonl, path: a, pth: b}", "sinks[0].pth: unknown key. Did you mean 'path'?"),
        ("{type: mqtt, host: a, prefix: 'a/#'}", "sinks[0].prefix: "),
        ("{type: mqtt, host: a, tls: true, cert_file: c}", "sinks[0]: `cert_file` and `key_file`: expected both"),
        ("{type: video, folder: a, cameras: [dor]}", "sinks[0].cameras[0]: no camera is called 'dor'. Did you mean 'door'?"),
        ("{type: video, folder: a, height: 481}", "sinks[0].height: "),
    ],
)  # fmt: skip
def test_a_wrong_sink_is_explained(problems: Problems, sink: str, message: str) -> None:
    (said,) = problems(f"{SMALL}sinks:\n  - {sink}\n")
    assert said.startswith(f"store.yaml:10: {message}"), said


@pytest.mark.parametrize(
    ("area", "message"),
    [
        ("zones: {z: {polygon: [[0, 0], [1, 1]]}}", "cameras.door.zones.z.polygon: 2 corners: expected at least 3"),
        ("zones: {z: {polygon: [[0, 0], [1, 1], [1, 0], [0, 1]]}}", "cameras.door.zones.z.polygon: edge 1 "),
        ("zones: {z: {polygon: [[0, 0], [10, 0], [0, 1]]}}", "cameras.door.zones.z.polygon[1][0]: expected less than"),
        ("motion: {masks: [[[0, 0], [1, 1], [1, 0], [0, 1]]]}", "cameras.door.motion.masks[0]: "),
        ("lines: {l: {from: [0, 0], to: [0, 0]}}", "cameras.door.lines.l: `from` and `to` are the same point"),
        ("lines: {l: {from: [0, 0], to: [1, 0], a_to_b: x, b_to_a: x}}", "cameras.door.lines.l: both directions"),
        ("lines: {l: {from: [0, 0]}}", "cameras.door.lines.l.to: is missing"),
    ],
)  # fmt: skip
def test_wrong_geometry_is_explained(problems: Problems, area: str, message: str) -> None:
    (said,) = problems(f"{SMALL}    {area}\n")
    assert said.startswith(f"store.yaml:9: {message}"), said


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    said = problems(
        SMALL.replace("store-042", "Store").replace("people\n", "peple\n")
        + "    fps: -1\nsinks: [{type: x}]\n"
    )
    assert [line.split(": ")[1] for line in said] == [
        "site",
        "cameras.door.model",
        "cameras.door.fps",
        "sinks[0].type",
    ]


def test_two_sinks_do_not_share_a_file(problems: Problems) -> None:
    (said,) = problems(SMALL + "sinks:\n  - {type: jsonl, path: a}\n  - {type: report, path: a}\n")
    assert said.startswith("store.yaml:11: sinks[1].path: sinks[0] writes this file already")


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("", "", True),
        ("cameras: [door]", "", True),
        ("cameras: [door]", "cameras: [till]", False),
    ],
)
def test_two_video_sinks_do_not_share_a_file(
    problems: Problems, load: Load, first: str, second: str, clash: bool
) -> None:
    text = f"{SMALL}  till: {{source: b.mp4, model: people}}\nsinks:\n"
    text += "".join(f"  - {{type: video, folder: out, {cameras}}}\n" for cameras in (first, second))
    if not clash:
        assert len(load(text).sinks) == 2
        return
    (said,) = problems(text)
    assert said.startswith("store.yaml:12: sinks[1].folder: sinks[0] writes the video of 'door' into this")


def test_a_bare_file_needs_its_task(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    (said,) = problems(SMALL.replace("bundle: efficientdet-lite0", "file: m.onnx"))
    assert "models.people: `task` is missing" in said


@pytest.mark.parametrize("inline", [True, False])
def test_a_task_is_written_out_or_in_a_file(load: Load, tmp_path: Path, inline: bool) -> None:
    (tmp_path / "m.onnx").touch()
    (tmp_path / "task.yaml").write_text(TASK)
    task = INLINE_TASK if inline else "task.yaml"
    model = load(SMALL.replace("bundle: efficientdet-lite0", f"file: m.onnx, task: {task}")).models["people"]
    assert isinstance(model.task, DetectionSpec)
    assert model.file == tmp_path / "m.onnx"


def test_a_mistake_in_a_task_file_names_that_file(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    (tmp_path / "task.yaml").write_text(TASK.replace("nms", "nmss"))
    (said,) = problems(SMALL.replace("bundle: efficientdet-lite0", "file: m.onnx, task: task.yaml"))
    assert said.startswith("task.yaml:3: models.people.task.head.format: expected one of 'ssd'")


def test_a_missing_task_file_is_said_where_it_is_named(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"store\.yaml:4: models\.people\.task: .*cannot be read"):
        load(SMALL.replace("bundle: efficientdet-lite0", "file: m.onnx, task: none.yaml"))


def test_load_task_explains_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(TASK.replace("align", "aling"))
    with pytest.raises(
        SettingsError, match=r"task\.yaml:2: input\.aling: unknown key\. Did you mean 'align'\?"
    ):
        load_task(file, {})


def test_the_environment_fills_in_and_overrides(load: Load, tmp_path: Path) -> None:
    text = SMALL.replace("door.mp4", '"rtsp://u:${SECRET}@${HOST:-cam}/s"') + "    fps: ${FPS}\n"
    settings = load(text, SECRET="p w", FPS="5", EDGE_RUNTIME_SITE="other", EDGE_RUNTIME_STATE_DIR="/var/x")
    assert settings.cameras["door"].source == "rtsp://u:p w@cam/s"
    assert settings.cameras["door"].fps == 5.0
    assert (settings.site, settings.state_dir) == ("other", Path("/var/x"))


def test_a_wrong_override_names_its_variable(problems: Problems) -> None:
    (said,) = problems(SMALL, EDGE_RUNTIME_SITE="No Name")
    assert said.startswith("environment variable EDGE_RUNTIME_SITE: site: not a name")


def test_secrets_are_never_shown(load: Load, problems: Problems) -> None:
    sink = "sinks: [{type: mqtt, host: a, password: %s}]\n"
    text = SMALL.replace("door.mp4", '"rtsp://u:${SECRET}@cam/s?token=${SECRET}"')
    settings = load(text + sink % '"${SECRET}"', SECRET="hunter2")
    assert isinstance(settings.sinks[0], MqttSinkSettings)
    assert settings.sinks[0].password is not None
    assert settings.sinks[0].password.get_secret_value() == "hunter2"
    shown = f"{settings!r} {settings.cameras['door'].shown_source} {settings.sinks}"
    assert "hunter2" not in shown
    wrong = text.replace("model: people", "model: people\n    fps: '${SECRET}'") + sink % "1234567"
    said = "\n".join(problems(wrong, SECRET="hunter2"))
    assert "hunter2" not in said
    assert "1234567" not in said


def test_a_merged_block_keeps_its_own_keys(load: Load) -> None:
    text = (
        SMALL.replace("door:\n", "door: &door\n")
        + "  back:\n    <<: *door\n    source: back.mp4\n    fps: 3\n"
    )
    settings = load(text)
    assert settings.cameras["back"].source.endswith("back.mp4")
    assert settings.cameras["back"].model == "people"
    assert settings.cameras["door"].source.endswith("door.mp4")


def test_words_of_yaml_1_1_are_words(load: Load) -> None:
    lines = "    lines: {l: {from: [0, 0], to: [1, 0], a_to_b: on, b_to_a: off}}\n"
    assert load(SMALL + lines).cameras["door"].lines["l"].a_to_b == "on"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected a mapping with version, site, models and cameras, got an empty file"),
        (b"- a\n", r"expected a mapping with version, site, models and cameras, got list"),
        (b"site: [a\n", r"store\.yaml:\d: not YAML"),
        (b"a:\n\tb: 1\n", r"store\.yaml:2: not YAML.*spaces, not tabs"),
        (b"a: {b: ${X}}\n", r"store\.yaml:1: not YAML.*in double quotes"),
        (b"a: \xff\xfe\n", r"not text: expected UTF-8, got byte 0xff"),
        (b"a: &a [*a]\n", r"store\.yaml:1: an alias that never ends"),
        (b"a: &a {b: 1, <<: *a}\n", r"store\.yaml:1: an alias that never ends"),
        (b"a: {<<: 3}\n", r"store\.yaml:1: '<<' takes a mapping"),
    ],
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    store = tmp_path / "store.yaml"
    store.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_settings(store, {})


def test_aliases_cannot_unfold_without_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    store = tmp_path / "store.yaml"
    store.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="an alias that never ends"):
        load_settings(store, {})


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml", {})


def test_labels_are_checked_against_the_models(load: Load) -> None:
    text = SMALL.replace("[person]", "[person, dgo]")
    text += "    zones: {z: {polygon: [[0, 0], [1, 0], [1, 1]], labels: [cat]}}\n"
    task = load_task(ROOT / "tests/unit/settings_task.yaml", {})
    with pytest.raises(ConfigError) as caught:
        check_labels(load(text), {"people": task})
    assert str(caught.value).splitlines() == [
        "models.people.labels: model 'people' gives no 'dgo'. Did you mean 'dog'?",
        "cameras.door.zones.z.labels: model 'people' gives no 'cat'. Known: dgo, person.",
    ]


def test_a_sink_path_is_beside_the_file(load: Load, tmp_path: Path) -> None:
    (sink,) = load(SMALL + "sinks: [{type: jsonl, path: out/e.jsonl}]\n").sinks
    assert isinstance(sink, JsonlSinkSettings)
    assert sink.path == tmp_path / "out/e.jsonl"
