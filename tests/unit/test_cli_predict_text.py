"""`edge-runtime predict` on texts, and `examples/autocomplete.py`: real commands over small models."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner, Result

from edge_runtime.cli.app import app
from edge_runtime.cli.shell import ExitCode
from tests.simulators.text_bundles import table_model, write_words
from tests.simulators.tiny_decoder import decoder, write_tokenizer
from tests.unit.test_task_text import MOOD, NAMES, TAGS, moods, tags

ANSWER = {
    "classify": "kind: text-classification\nlabels: [negative, positive]\ninput: {max_length: 6}\n",
    "tag": f"kind: token-classification\nlabels: [{', '.join(TAGS)}]\n",
    "embed": "kind: embedding\nnormalize: false\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each kind beside its task."""
    folder = tmp_path_factory.mktemp("models")
    for name, task in ANSWER.items():
        (folder / name).mkdir()
        (folder / name / "task.yaml").write_text(task)
        write_words(folder / name / "tokenizer.json", NAMES)
        table = moods() if name == "classify" else tags()
        onnx.save(table_model(table, pooled=name == "classify"), folder / name / "model.onnx")
    (folder / "write").mkdir()
    onnx.save(decoder(), folder / "write/model.onnx")
    write_tokenizer(folder / "write/tokenizer.json")
    lines = ["kind: generation", "context_length: 64", 'end_tokens: ["<|end|>"]', "max_tokens: 8"]
    (folder / "write/task.yaml").write_text("\n".join(lines))
    lines.append("chat_template: '{{ messages[0].content }}?'")
    (folder / "write/chat.yaml").write_text("\n".join(lines))
    return folder


def predict(folder: Path, name: str, *arguments: str, task: str = "task.yaml", given: bytes = b"") -> Result:
    place = folder / name
    command = ["predict", str(place / "model.onnx"), *arguments, "--task", str(place / task)]
    return CliRunner().invoke(app, [*command, "--engine", "onnxruntime"], input=given)


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def test_classes(folder: Path) -> None:
    found = document(predict(folder, "classify", "great good", "bad", "--json"))
    assert found["engine"] == "onnxruntime"
    best = [one["result"]["classes"][0]["label"] for one in found["texts"]]
    assert best == [MOOD[1], MOOD[0]]
    assert found["texts"][0]["confidence"] == pytest.approx(0.880797, abs=1e-5)
    said = predict(folder, "classify", "great good").stdout
    assert "positive  0.88" in said
    assert "great good" in said


def test_a_long_text_is_said_to_be_cut(folder: Path) -> None:
    assert "Only the first 6 tokens were looked at" in predict(folder, "classify", "bad " * 9).stdout
    assert document(predict(folder, "classify", "bad " * 9, "--json"))["texts"][0]["result"]["truncated"]


def test_spans(folder: Path) -> None:
    result = document(predict(folder, "tag", "Ada Lovelace met", "--json"))["texts"][0]["result"]
    assert [(one["label"], one["start"], one["end"]) for one in result["entities"]] == [("PER", 0, 12)]
    assert "0–12" in predict(folder, "tag", "Ada Lovelace met").stdout
    assert "nothing found" in predict(folder, "tag", "met").stdout


def test_vectors(folder: Path) -> None:
    result = document(predict(folder, "embed", "Ada", "--json"))["texts"][0]["result"]
    assert len(result["vector"]) == len(TAGS)
    assert "5 numbers: " in predict(folder, "embed", "Ada").stdout


def test_standard_input(folder: Path) -> None:
    found = document(predict(folder, "classify", "-", "--json", given=b"great good"))
    assert found["texts"][0]["text"] == "great good"
    wrong = predict(folder, "classify", "-", "--json", given=b"\xff\xfe")
    assert wrong.exit_code == ExitCode.INPUT
    assert "expected UTF-8" in document(wrong)["error"]["message"]


def test_a_text_is_shown_while_it_is_made(folder: Path) -> None:
    shown = predict(folder, "write", "--prompt", "once", "--max-tokens", "5")
    whole = document(predict(folder, "write", "once", "--max-tokens", "5", "--json"))["texts"][0]
    assert shown.stdout == whole["result"]["text"] + "\n"
    assert "4 tokens in, 5 out" in shown.stderr
    assert whole["result"]["finish"] == "length"
    assert 0 < whole["confidence"] < 1


def test_messages_go_through_the_template_and_prompts_do_not(folder: Path) -> None:
    def tokens(*arguments: str) -> int:
        found = document(predict(folder, "write", *arguments, "--json", task="chat.yaml"))
        return found["texts"][0]["result"]["prompt_tokens"]

    assert tokens("once") == len("once?")
    assert tokens("--prompt", "once") == len("once")


def test_sampling_options_reach_the_model(folder: Path) -> None:
    def text(*options: str) -> str:
        options = ("once", "--temperature", "1", "--top-p", "0.95", *options, "--json")
        return document(predict(folder, "write", *options))["texts"][0]["result"]["text"]

    assert text("--seed", "1") == text("--seed", "1")
    assert text("--seed", "1") != text("--seed", "2")
    assert len(text("--seed", "1", "--stop", text("--seed", "1")[2])) <= 2


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("classify", (), ExitCode.CONFIG, "expected a text, got none"),
        ("classify", ("x", "--seed", "1"), ExitCode.CONFIG, "expected a model that generates"),
        ("classify", ("x", "--prompt", "y"), ExitCode.CONFIG, "got a model of kind 'text-classification'"),
        ("classify", ("x", "--out", "y"), ExitCode.CONFIG, "--out: expected a model of pictures"),
        ("classify", ("",), ExitCode.OK, ""),
        ("write", ("x" * 64,), ExitCode.INPUT, "expected at most 63 tokens, got 64 tokens"),
        ("write", ("",), ExitCode.INPUT, "at least one token"),
        ("write", ("x", "--stop", ""), ExitCode.INPUT, "at least one character"),
    ],
)
def test_what_goes_wrong(
    folder: Path, name: str, arguments: tuple[str, ...], code: ExitCode, message: str
) -> None:
    result = predict(folder, name, *arguments, "--json")
    assert result.exit_code == code
    assert message in (document(result).get("error", {}).get("message") or "")


def test_a_text_model_without_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    for name in ("classify", "write"):
        place = tmp_path / name
        place.mkdir()
        for file in ("model.onnx", "task.yaml"):
            (place / file).write_bytes((folder / name / file).read_bytes())
        result = predict(tmp_path, name, "x", "--json")
        assert result.exit_code == ExitCode.BUNDLE
        assert "expected a tokenizer, got none" in document(result)["error"]["message"]


def test_engines_that_do_not_generate(folder: Path) -> None:
    place = folder / "write"
    command = ["predict", str(place / "model.onnx"), "x", "--task", str(place / "task.yaml"), "--json"]
    result = CliRunner().invoke(app, [*command, "--engine", "openvino"])
    assert result.exit_code == ExitCode.CONFIG
    assert "one that generates: onnxruntime, genai" in document(result)["error"]["message"]


def test_autocomplete(folder: Path, repository: Path) -> None:
    place = folder / "write"
    command = [sys.executable, repository / "examples/autocomplete.py", "--model", place / "model.onnx"]
    done = subprocess.run(
        [*command, "--task", place / "task.yaml", "--count", "2", "Once"],
        capture_output=True,
        text=True,
        check=True,
        cwd=repository,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line[:2] in {"0.", "1."} and "Once" in line for line in lines)
    wrong = subprocess.run([*command, "Once"], capture_output=True, text=True, check=False, cwd=repository)
    assert wrong.returncode == 1
    assert "expected its task" in wrong.stderr
