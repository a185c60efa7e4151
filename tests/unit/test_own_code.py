"""The code behind a step: what it can come to counts, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from converters.own_code import code_fingerprint, packages_of

FILES = {
    "shop/__init__.py": "",
    "shop/front.py": "from shop import (\n    table,\n)\nfrom shop.deep.shelf import Thing\n",
    "shop/table.py": 'ROWS = {"x": "shop.lazy:run"}\n',
    "shop/lazy.py": "import json\n",
    "shop/deep/__init__.py": "",
    "shop/deep/shelf.py": "import shop.front\nclass Thing: pass\n",
    "shop/stranger.py": "",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def ask(shop: Path, function: str = "shop.front:run") -> str:
    """In a process of its own, which sees the code as it is now."""
    code = (
        f"import sys; sys.path.insert(0, {str(shop)!r})\nfrom converters.own_code import code_fingerprint\n"
    )
    command = [sys.executable, "-c", code + f"print(code_fingerprint({function!r}), 'shop' in sys.modules)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_change_of_any_module_it_can_come_to_is_seen(shop: Path) -> None:
    before = ask(shop)
    assert before.endswith(" False\n"), "nothing of it is run"
    assert ask(shop) == before
    for name, content in FILES.items():
        (shop / name).write_text(f"{content}# changed\n")
        assert (ask(shop) != before) == (name != "shop/stranger.py"), name
        (shop / name).write_text(content)
    (shop / "shop" / "table").mkdir()
    (shop / "shop" / "table" / "__init__.py").touch()
    assert ask(shop) != before, "a package comes before a module of its name"


def test_our_own_steps_depend_on_the_contract_but_not_on_cameras() -> None:
    assert [package.name for package in packages_of("converters.worker:main")] == [
        "converters",
        "device_profiles",
        "edge_runtime",
    ]
    assert len(code_fingerprint("converters.worker:main")) == 64
    assert code_fingerprint("converters.worker:main") != code_fingerprint("converters.schedule:Schedule")


def test_a_function_that_is_nowhere_has_a_fingerprint_too() -> None:
    # The step says that it cannot be imported; a fingerprint is no place for that.
    assert len(code_fingerprint("nowhere.at_all:run")) == 64
