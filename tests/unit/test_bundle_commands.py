"""`edge-runtime bundle`: every command on real bundles, as text and as JSON, and its exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from converters.bundle.cli import app
from converters.bundle.sign import PASSPHRASE_VARIABLE
from edge_runtime.contract.bundle import Format
from tests.simulators.bundles import built, content, receipt, small_bundle, task

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_bundle(tmp_path / "shop", tmp_path / "steps", receipts=[receipt("onnx-fp32")]).root


def as_json(result: tuple[int, str, str]) -> Any:
    return json.loads(result[1])


def test_show(call: Call, root: Path) -> None:
    code, text, _ = call("show", root)
    assert code == 0
    for said in ("shop 1.2.3, detection", "onnx-fp32", "raspberry-pi-5", "5 ms", "top1 0.9", "too slow"):
        assert said in text
    assert "with the tokenizer, the golden inputs, the golden outputs; signed by nobody" in text
    assert as_json(call("show", root, "--json"))["variants"][0]["id"] == "tflite-int8"
    code, text, _ = call("show", "efficientdet-lite0")
    assert code == 0
    assert "and 84 more" in text


@pytest.mark.parametrize("columns", [60, 80])
def test_show_is_readable_on_a_narrow_terminal(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = call("show", root)[1].splitlines()
    for said in ("openvino-fp32", "12 bytes", "5 ms", "10.0 MB", "cosine.scores 0.999", "a desk"):
        assert any(said in line for line in lines), said
    assert any("source.top1 0.91, top1 0.9" in line for line in lines)
    assert max(map(len, lines)) <= columns


def test_sign_pack_and_verify(call: Call, root: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    code, text, _ = call("keygen", key)
    assert (code, "not encrypted" in text) == (0, True)
    assert "not signed" in call("verify", root)[1]
    assert call("sign", root, "--key", key)[0] == 0
    assert "signature not checked" in call("verify", root)[1]
    assert "signed by key" in call("show", root)[1]
    for packed, more in ((tmp_path / "shop.zip", ()), (tmp_path / "layout", ("--oci",))):
        assert call("pack", root, packed, *more)[0] == 0
        code, text, _ = call("verify", packed, "--key", f"{key}.pub")
        assert code == 0
        assert "sound shop 1.2.3: 11 files" in text
        assert "signed by the trusted key" in text
        found = as_json(call("verify", packed, "--key", f"{key}.pub", "--json"))
        assert (found["trusted"], found["form"]) == (True, "oci" if more else "zip")
        out = tmp_path / f"out-{packed.name}"
        assert call("extract", packed, out, "--key", f"{key}.pub")[0] == 0
        assert content(out) == content(root)


def test_a_passphrase_comes_from_the_environment(
    call: Call, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "open sesame")
    assert "(encrypted)" in call("keygen", tmp_path / "key.pem")[1]
    assert as_json(call("sign", root, "--key", tmp_path / "key.pem", "--json"))["algorithm"] == "ed25519"
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    code, _, err = call("sign", root, "--key", tmp_path / "key.pem")
    assert (code, PASSPHRASE_VARIABLE in err) == (3, True)


def test_extract_one_variant(call: Call, root: Path, tmp_path: Path) -> None:
    call("pack", root, tmp_path / "shop.zip", "--compress")
    assert call("extract", tmp_path / "shop.zip", tmp_path / "m.tflite", "--variant", "tflite-int8")[0] == 0
    assert (tmp_path / "m.tflite").read_bytes() == b"tflite bytes"
    assert call("extract", root, tmp_path / "ir", "--variant", "openvino-fp32")[0] == 0
    assert sorted(content(tmp_path / "ir")) == ["model.bin", "model.xml"]
    code, _, err = call("extract", root, tmp_path / "x", "--variant", "fp8")
    assert code == 5
    assert "has no variant 'fp8': expected tflite-int8 or onnx-fp32 or" in err
    assert call("extract", root, tmp_path / "ir", "--variant", "openvino-fp32")[0] == 8
    code, _, err = call("extract", root, tmp_path / "copy")
    assert (code, "is a folder already" in err) == (8, True)


def test_diff(call: Call, root: Path, tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    new = small_bundle(
        tmp_path / "new",
        steps,
        version="2.0.0",
        variants=[built(steps / "2", "tflite-int8", Format.TFLITE, model=b"other tflite bytes")],
        receipts=[receipt("tflite-int8")],
        spec=task("car", "person"),
    ).root
    code, text, _ = call("diff", root, new)
    assert code == 0
    for said in ("shop 1.2.3 → shop 2.0.0", "version", "labels moved", "changed", "removed", "+50.0%"):
        assert said in text
    found = as_json(call("diff", root, new, "--json"))
    assert found["variants"][0]["kind"] == "changed"
    assert found["variants"][0]["size_bytes"] == [12, 18]


FAILURES: dict[str, tuple[list[str], int, str]] = {
    "no bundle": (["show", "gone"], 5, "bundle gone: expected a folder with a readable bundle.json"),
    "no zip": (["verify", "gone.zip"], 5, "No such file"),
    "no key": (["verify", "shop", "--key", "gone.pub"], 3, "key gone.pub"),
    "unsigned": (["verify", "shop", "--key", "key.pem.pub"], 5, "is not signed"),
    "key taken": (["keygen", "key.pem"], 8, "is there already"),
    "wrong option": (["pack", "shop", "out", "--oci", "--compress"], 2, "holds files as they are"),
    "target taken": (["pack", "shop", "shop/bundle.json/x.zip"], 8, "cannot be written"),
}


@pytest.mark.parametrize(("arguments", "code", "words"), FAILURES.values(), ids=FAILURES)
def test_failures(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(root.parent)
    call("keygen", "key.pem")
    got, _, err = call(*arguments)
    assert (got, words in " ".join(err.split())) == (code, True), err
    if code != 2:
        got, text, _ = call(*arguments, "--json")
        assert json.loads(text)["error"]["exit_code"] == code


def test_importing_the_commands_is_light() -> None:
    code = """
import sys, converters.bundle.cli
heavy = {"onnx", "torch", "numpy", "cv2", "cryptography", "coremltools", "openvino"} & set(sys.modules)
print(*sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
