"""What a manager sees to by itself, and the settings it is started from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_fallback.fleet.api.authority import listed_in
from cloud_fallback.fleet.database import devices
from cloud_fallback.fleet.settings import ManagerSettings, load_manager_settings
from cloud_fallback.fleet.upkeep import Upkeep
from edge_runtime.contract.errors import ConfigError
from edge_runtime.settings.problems import SettingsError
from tests.simulators.fleet_api import Site, enrol, site_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path / "fleet") as made:
        yield made


def test_metadata_is_signed_again_before_it_expires(site: Site) -> None:
    upkeep, repository = Upkeep(site.manager, refresh_s=60), site.manager.repository
    upkeep.step(0.0)
    before = repository.ends()["timestamp"]
    site.now_s[0] += 1.5 * 86400
    upkeep.step(59.0)
    assert repository.ends()["timestamp"] == before
    upkeep.step(60.0)
    assert repository.ends()["timestamp"] > before


def test_what_people_have_to_sign_is_said_in_time(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    upkeep = Upkeep(site.manager, refresh_s=60)
    upkeep.step(0.0)
    assert not caplog.records
    site.now_s[0] += 705 * 86400
    upkeep.step(60.0)
    assert any("metadata of root ends in 25 days" in each.message for each in caplog.records)


def test_every_setting_is_on_its_page(repository: Path) -> None:
    page = (repository / "docs/reference/manager-yaml.md").read_text("utf-8")
    schema = ManagerSettings.model_json_schema()
    blocks = [schema, *schema["$defs"].values()]
    keys = {key for block in blocks for key in block["properties"]} - {"host", "port"}
    named = {"listen", "broker", "authority", "artifacts", "trust"}
    assert {key for key in keys - named if f"`{key}`" not in page and f"`{key}." not in page} == set()
    assert all(f"## {name}\n" in page for name in named)


def test_what_another_replica_has_revoked_comes_into_the_list(site: Site) -> None:
    enrol(site, "till-7")
    file, upkeep = site.settings.authority.revoked, Upkeep(site.manager, refresh_s=60)
    assert listed_in(file) == set()
    with site.manager.database.begin() as tx:  # as a replica on another machine does
        devices.revoke(tx, "till-7", site.now_s[0])
    upkeep.step(0.0)
    listed = listed_in(file)
    assert listed is not None and len(listed) == 1
    written = file.stat().st_mtime_ns
    upkeep.step(30.0)
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"damaged")
    upkeep.step(60.0)
    assert listed_in(file) == listed


def wrong(folder: Path, text: str) -> str:
    file = folder / "manager.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_manager_settings(file)
    return str(caught.value)


GOOD = """\
tenant: acme
url: https://fleet.example
broker: {tls: false, host: 127.0.0.1, port: 1883}
authority: {certificate: a.crt, key: a.key, revoked: r.pem}
artifacts: {folder: artifacts}
trust: {online_key: keys/online.pem, metadata: keys}
"""


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "manager.yaml").write_text(GOOD)
    settings = load_manager_settings(tmp_path / "manager.yaml")
    assert settings.artifacts.folder == tmp_path / "artifacts"
    assert settings.database == f"sqlite:///{tmp_path / 'fleet.db'}"
    assert isinstance(settings, ManagerSettings) and settings.broker.for_devices == ("127.0.0.1", 1883)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("tenant: acme\n", ""), "tenant: is missing"),
        (("tenant: acme", "tenant: Acme Stores"), "manager.yaml:1: tenant: not a name"),
        (("https://fleet.example", "http://fleet.example"), "https://HOST"),
        (("trust:", "trusts:"), "Did you mean 'trust'?"),
        (("tls: false, ", ""), "ca, certificate and key"),
        (("host: 127.0.0.1", "host: broker.example"), "tls: true"),
        (("folder: artifacts", "folder: artifacts, presign: true"), "Only a store signs"),
        (("url: https", "listen: {host: 0.0.0.0}\nurl: https"), "without TLS"),
        (("url: https", "listen: {certificate: a.crt}\nurl: https"), "a certificate needs its key"),
        (("url: https", "database: mysql://x\nurl: https"), "not a database"),
        (("tenant: acme", "tenant: [acme"), "not YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert said in wrong(tmp_path, GOOD.replace(*change))


def test_an_empty_file_is_no_settings(tmp_path: Path) -> None:
    assert "a mapping" in wrong(tmp_path, "")
    assert issubclass(SettingsError, ConfigError)
