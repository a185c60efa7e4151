"""Every row of the table of tools does what its smoke test asks; isolated ones are made for it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from converters.environments import check_tool
from converters.toolchain import TOOLS, Tool

HERE = [tool for tool in TOOLS.values() if tool.isolation == "in-process"]
ISOLATED = [tool for tool in TOOLS.values() if tool.isolation != "in-process"]


def check(tool: Tool, cache: Path) -> None:
    check_tool(tool, tell=lambda share, doing: print(f"{share:4.0%} {doing}"), cache=cache)


@pytest.mark.parametrize("tool", HERE, ids=lambda tool: tool.name)
def test_a_tool_works(tool: Tool, tmp_path: Path) -> None:
    check(tool, tmp_path)


@pytest.mark.install
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tool", ISOLATED, ids=lambda tool: tool.name)
def test_an_isolated_tool_can_be_made_and_works(tool: Tool) -> None:
    # Not in pytest's own folder, which outlives three runs: these are gigabytes.
    with TemporaryDirectory() as folder:
        check(tool, Path(folder))
