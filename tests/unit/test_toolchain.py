"""The table of tools: what each row needs, what is said where it is missing, and what makes results stale."""

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from converters.toolchain import ABSENT, TOOLS, Tool, find_tool, require_tool, tool_fingerprint, versions
from edge_runtime.contract.errors import ConversionError

ROWS = list(TOOLS.values())


@pytest.mark.parametrize("tool", ROWS, ids=lambda tool: tool.name)
def test_a_row_is_complete(tool: Tool, repository: Path) -> None:
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    compile(tool.smoke, tool.name, "exec")
    assert set(tool.extras) <= set(extras)
    assert all(TOOLS[name].isolation == "in-process" for name in tool.over)
    if tool.isolation == "own":
        # The step's module stands on the contract, and that on pydantic.
        assert any(requirement.startswith("pydantic") for requirement in tool.requirements)
        assert not tool.over
    if tool.isolation == "in-process":
        assert not tool.bare
        require_tool(tool)
    else:
        assert not tool.extras


def test_an_unknown_tool_is_named() -> None:
    with pytest.raises(
        ConversionError, match=r"tool 'caffe': expected one of base, .*tensorflowjs, got 'caffe'"
    ):
        find_tool("caffe")


def test_a_missing_tool_says_what_to_install() -> None:
    tool = replace(TOOLS["coreml"], modules=("json", "not_there"))
    with pytest.raises(ConversionError) as caught:
        require_tool(tool)
    assert str(caught.value) == (
        "tool 'coreml' is not installed: expected the Python modules json, not_there, got no not_there. "
        "pip install 'edge-runtime[convert,convert-apple]'"
    )


def test_an_overlay_needs_what_is_beneath_it() -> None:
    beneath = replace(TOOLS["litert"], modules=("not_there",))
    with pytest.raises(
        ConversionError, match=r"tool 'litert-torch' .* pip install 'edge-runtime\[convert,conv"
    ):
        require_tool(TOOLS["litert-torch"], {**TOOLS, "litert": beneath})
    require_tool(TOOLS["onnx2tf"], {})


def test_a_fingerprint_changes_with_what_results_depend_on() -> None:
    base, own, overlay = TOOLS["base"], TOOLS["onnx2tf"], TOOLS["litert-torch"]
    assert tool_fingerprint(base) == tool_fingerprint(replace(base, smoke="other", extras=("convert",)))
    assert tool_fingerprint(base) != tool_fingerprint(replace(base, requirements=("numpy",)))
    assert tool_fingerprint(own) != tool_fingerprint(replace(own, requirements=own.requirements[1:]))
    moved = replace(own, requirements=(*own.requirements, own.bare[0]), bare=own.bare[1:])
    assert tool_fingerprint(own) != tool_fingerprint(moved)
    other = {**TOOLS, "torch": replace(TOOLS["torch"], requirements=("numpy",))}
    assert tool_fingerprint(overlay) != tool_fingerprint(overlay, other)
    assert tool_fingerprint(own) == tool_fingerprint(own, other)


def test_versions_are_those_installed() -> None:
    found = versions(["pydantic", "no-such-thing", "numpy"])
    assert list(found) == ["no-such-thing", "numpy", "pydantic"]
    assert found["no-such-thing"] == ABSENT
    assert found["numpy"][0].isdigit()


def test_looking_for_tools_imports_none() -> None:
    code = (
        "import sys\n"
        "from converters.toolchain import *\n"
        "[(require_tool(tool), tool_fingerprint(tool)) for tool in TOOLS.values()]\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "numpy",
        "torch",
        "onnx",
        "tensorflow",
        "coremltools",
        "openvino",
        "sklearn",
        "keras",
    }
