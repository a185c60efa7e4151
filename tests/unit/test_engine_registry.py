"""Engines by name, and what an absent vendor library says."""

import subprocess
import sys

import pytest

from edge_runtime.contract.errors import ConfigError, EngineError
from edge_runtime.engines.registry import DEFAULT_PROVIDER, ENGINES, FORMATS, load_engine
from edge_runtime.engines.vendor import brief, needs

EXTRAS = {"onnxruntime": "onnx", "litert": "litert", "openvino": "openvino"}


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_loads_by_name(name: str) -> None:
    engine = load_engine(name)
    assert engine.name == name
    assert engine.formats == FORMATS[name]
    assert name in DEFAULT_PROVIDER


def test_an_unknown_engine_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'onnxruntime'"):
        load_engine("onnxrutime")


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_library_says_what_to_install(name: str) -> None:
    vendors = ["onnxruntime", "ai_edge_litert", "tflite_runtime", "openvino"]
    code = (
        f"import sys\nfor name in {vendors}: sys.modules[name] = None\n"
        "from edge_runtime.engines.registry import load_engine\n"
        f"print(load_engine({name!r}).available())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"engine '{name}' is not available" in said
    assert f"pip install 'edge-runtime[{EXTRAS[name]}]'" in said


def test_importing_every_adapter_imports_no_vendor() -> None:
    code = (
        "import sys\nfrom edge_runtime.engines.registry import ENGINES, load_engine\n"
        "for name in ENGINES: load_engine(name)\n"
        "print({'onnxruntime', 'ai_edge_litert', 'openvino', 'coremltools'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"


def test_a_missing_shared_library_counts_as_missing() -> None:
    with pytest.raises(EngineError, match=r"libfoo.*edge-runtime\[onnx\]"), needs("onnxruntime", "onnx"):
        raise OSError("libfoo.so.1: cannot open shared object file")


def test_a_vendors_message_becomes_one_line() -> None:
    error = RuntimeError("Exception from src/core.cpp:84:\nCheck 'x' failed at y:\n\nno such\n  file\n")
    assert brief(error) == "no such file"
    assert brief(RuntimeError()) == "RuntimeError"
