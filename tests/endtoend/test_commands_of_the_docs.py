"""What the README and the guides show works as it stands there: commands marked runnable, and YAML."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.settings import load_settings

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md")))
BLOCK = re.compile(r"<!-- runnable -->\n```sh\n(.*?)```", re.DOTALL)


STORE = re.compile(r"```yaml\n(version: 1\n.*?)```", re.DOTALL)


def blocks() -> Iterator[object]:
    for page in PAGES:
        for number, found in enumerate(BLOCK.finditer(page.read_text("utf-8"))):
            yield pytest.param(found[1], id=f"{page.stem}-{number}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, with the picture that the commands speak of."""
    picture = tmp_path / "docs/assets/demo.jpg"
    picture.parent.mkdir(parents=True)
    shutil.copy(ROOT / "docs/assets/demo.jpg", picture)
    return tmp_path


def test_the_readme_has_commands_to_run() -> None:
    assert BLOCK.search(PAGES[0].read_text("utf-8"))


@pytest.mark.parametrize("block", list(blocks()))
def test_the_commands_run(block: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": path, "TERM": "dumb"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"--out (\S+)", block) or (folder / re.search(r"--out (\S+)", block)[1]).exists()  # type: ignore[index]


def test_the_stores_of_the_guides_load(tmp_path: Path) -> None:
    stores = [found[1] for page in PAGES for found in STORE.finditer(page.read_text("utf-8"))]
    assert stores
    for text in stores:
        (tmp_path / "store.yaml").write_text(text)
        load_settings(tmp_path / "store.yaml", {"DOOR_PASSWORD": "secret"})
