"""The unit file that ships says what systemd takes, and what the agent does."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.agent.watchdog import STUCK_S
from edge_runtime.cli.shell import ExitCode

UNIT = "packaging/systemd/edge-runtime.service"


@pytest.fixture
def unit(repository: Path) -> str:
    return (repository / UNIT).read_text()


def value(unit: str, name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_it(unit: str, tmp_path: Path) -> None:
    program = value(unit, "ExecStart").split()[0]
    path = tmp_path / "edge-runtime.service"
    path.write_text(unit.replace(program, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_starts_a_command_that_exists(unit: str) -> None:
    from edge_runtime.cli.app import app

    _, command, *arguments = value(unit, "ExecStart").split()
    assert command in {
        info.name or info.callback.__name__ for info in app.registered_commands if info.callback
    }
    assert arguments == ["/etc/edge-runtime/store.yaml"]


def test_no_other_start_after_a_failure_that_it_cannot_mend(unit: str) -> None:
    codes = {int(code) for code in value(unit, "RestartPreventExitStatus").split()}
    assert codes == {ExitCode.USAGE, ExitCode.CONFIG}
    assert value(unit, "StartLimitIntervalSec") == "0", "an unattended store is never given up"


def test_the_watchdog_waits_longer_than_an_inference_may_take(unit: str) -> None:
    assert int(value(unit, "WatchdogSec")) >= 2 * STUCK_S
