"""`fleet init`: a wish that can be no manager's leaves no file behind, which would stay for the next try."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_fallback.fleet.init import Wish, prepare
from edge_runtime.contract.errors import ConfigError

WISH = Wish("acme", "https://fleet.example:8443")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tenant": ""}, "tenant: "),
        ({"tenant": "Not A Name"}, "tenant: "),
        ({"url": "https:"}, "url: not an address"),
        ({"url": "https://fleet.example:99999"}, "url: not an address"),
        ({"url": "http://fleet.example"}, "url: not an address"),
        ({"broker_host": "a b"}, "broker host: "),
        ({"names": ("../x",)}, "name: "),
        ({"database": "mysql://h/x"}, "database: not a database"),
        ({"broker_port": 8884}, "the broker's ports"),
    ],
)
def test_what_is_no_manager_makes_nothing(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        prepare(tmp_path / "fleet", replace(WISH, **change))
    assert not (tmp_path / "fleet").exists()


def test_another_fleet_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    assert prepare(tmp_path, WISH).token is not None
    assert prepare(tmp_path, WISH).made == ()
    for other in (replace(WISH, tenant="other"), replace(WISH, url="https://elsewhere.example")):
        with pytest.raises(ConfigError, match="Take another folder"):
            prepare(tmp_path, other)
