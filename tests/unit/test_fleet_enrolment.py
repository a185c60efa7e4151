"""Becoming a device of a fleet: what is written, what is refused and why, and that twice does no harm."""

import json
import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from edge_runtime.cli.app import app
from edge_runtime.contract.errors import (
    ConfigError,
    EdgeRuntimeError,
    RefusedError,
    RemoteError,
    StorageError,
)
from edge_runtime.counts.timezone import local_timezone
from edge_runtime.fleet.assemble import link_options
from edge_runtime.fleet.enrolling import Wish, check_own, confirm, enrol, renew_if_due
from edge_runtime.fleet.enrolment import load
from edge_runtime.fleet.papers import RevokedError
from tests.simulators.enroller import DEVICE_TOKEN, TOKEN, Enroller, enrolling, refusal

WISH = Wish(TOKEN, "d1", "store-pc-cpu", "1.0", "Europe/Berlin")
NOW = datetime.now(UTC)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Enroller]:
    with enrolling(tmp_path) as manager:
        yield manager


def files(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_what_an_enrolment_leaves(manager: Enroller, tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    found, new = enrol(f"{manager.url}/", WISH, folder, ca_file=manager.ca)
    assert new
    assert found == load(folder)
    assert (found.tenant, found.device, found.profile) == ("acme", "d1", "store-pc-cpu")
    assert (found.manager_url, found.device_token) == (manager.url, DEVICE_TOKEN)
    assert DEVICE_TOKEN not in repr(found)
    ((path, asked),) = manager.asked
    assert (path, asked["device"], asked["timezone"]) == ("/v1/enrol", "d1", "Europe/Berlin")
    csr = x509.load_pem_x509_csr(asked["csr"].encode())
    assert csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "d1"
    certificate = x509.load_pem_x509_certificate(found.cert_file.read_bytes())
    key = serialization.load_pem_private_key(found.key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert certificate.public_key() == key.public_key()
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in files(folder)}
    assert modes == {
        "device.key": 0o600, "enrolment.json": 0o600,
        "device.crt": 0o644, "ca.crt": 0o644, "tuf/root.json": 0o644,
    }  # fmt: skip
    options = link_options(found)
    assert (options.host, options.port, options.client_id) == ("127.0.0.1", 8883, "acme/d1")
    assert options.certificates is not None
    options.certificates.context()


def test_twice_asks_nobody_and_changes_nothing(manager: Enroller, tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    enrol(manager.url, WISH, folder, ca_file=manager.ca)
    before = files(folder)
    found, new = enrol(manager.url, WISH, folder, ca_file=manager.ca)
    assert (new, found.device, len(manager.asked)) == (False, "d1", 1)
    for url, name in ((manager.url, "d2"), ("https://elsewhere", "d1")):
        wish = Wish(TOKEN, name, "store-pc-cpu", "1.0", "UTC")
        with pytest.raises(ConfigError, match="enrolled already"):
            enrol(url, wish, folder, ca_file=manager.ca)
    assert files(folder) == before


def test_an_answer_that_got_lost_is_asked_for_again_with_the_same_key(
    manager: Enroller, tmp_path: Path
) -> None:
    manager.says = (502, b"")
    with pytest.raises(RemoteError):
        enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    assert list(files(tmp_path / "fleet")) == ["device.key"]
    manager.says = None
    enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    keys = [x509.load_pem_x509_csr(each["csr"].encode()).public_key() for _, each in manager.asked]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("says", "kind", "said"),
    [
        (refusal(401, "token-unknown"), RefusedError, "Check the token"),
        (refusal(409, "token-used"), RefusedError, "works once"),
        (refusal(401, "token-expired"), RefusedError, "in time"),
        (refusal(409, "device-exists"), RefusedError, "--name"),
        (refusal(400, "something-else"), RefusedError, "something-else"),
        ((404, b"<html>"), RefusedError, "status 404"),
        ((400, b'{"error": "text"}'), RefusedError, "status 400"),
        ((429, b""), RemoteError, "Try again"),
        ((503, b"[]"), RemoteError, "Try again"),
        ((200, b"<html>"), RemoteError, "none of a manager's"),
        ((200, b"{}"), RemoteError, "none of a manager's"),
        ((200, b" " * (1 << 22)), RemoteError, "none of a manager's"),
    ],
)
def test_what_a_manager_says_instead(
    says: tuple[int, bytes], kind: type[EdgeRuntimeError], said: str, manager: Enroller, tmp_path: Path
) -> None:
    manager.says = says
    with pytest.raises(kind, match=said):
        enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    with pytest.raises(ConfigError, match="edge-runtime enrol"):
        load(tmp_path / "fleet")


@pytest.mark.parametrize(
    "url", ["http://manager", "manager", "https://", "ftp://manager", "https://host:port", ""]
)
def test_addresses_that_are_not_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https"):
        enrol(url, WISH, tmp_path / "fleet")
    assert not (tmp_path / "fleet").exists()


def test_a_manager_that_cannot_be_trusted(manager: Enroller, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--ca"):
        enrol(manager.url, WISH, tmp_path / "fleet")
    with pytest.raises(ConfigError, match="Check the path"):
        enrol(manager.url, WISH, tmp_path / "fleet", ca_file=tmp_path / "missing.pem")
    assert manager.asked == []


def test_a_manager_under_another_name(tmp_path: Path) -> None:
    with enrolling(tmp_path, host="elsewhere") as manager, pytest.raises(ConfigError, match="not trusted"):
        enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)


@pytest.mark.parametrize("ahead_s", [-40 * 86400, 40 * 86400])
def test_a_wrong_clock_is_named(ahead_s: float, tmp_path: Path) -> None:
    """Seen from a device whose clock is wrong, the manager's certificate is."""
    with enrolling(tmp_path, from_s=time.time() + ahead_s) as manager:
        with pytest.raises(ConfigError, match="clock says"):
            enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
        assert manager.asked == []


def test_a_clock_that_is_behind_the_certificate_is_named(manager: Enroller, tmp_path: Path) -> None:
    manager.since_s = 2 * 86400
    with pytest.raises(ConfigError, match="clock"):
        enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        enrol("https://127.0.0.1:1", WISH, tmp_path / "fleet")
    assert caught.value.retryable


@pytest.mark.parametrize("missing", ["device.key", "device.crt", "ca.crt", "tuf/root.json"])
def test_an_enrolment_with_a_hole_is_none(missing: str, manager: Enroller, tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    enrol(manager.url, WISH, folder, ca_file=manager.ca)
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=missing):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"v": 2}'])
def test_a_damaged_enrolment_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "enrolment.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"enrolment\.json"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----"])
def test_a_damaged_key_is_named_and_not_replaced(content: bytes, manager: Enroller, tmp_path: Path) -> None:
    (tmp_path / "device.key").write_bytes(content)
    with pytest.raises(ConfigError, match=r"device\.key"):
        enrol(manager.url, WISH, tmp_path, ca_file=manager.ca)
    assert (tmp_path / "device.key").read_bytes() == content


def test_a_broker_elsewhere_has_tls(manager: Enroller, tmp_path: Path) -> None:
    enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    file = tmp_path / "fleet" / "enrolment.json"
    document = json.loads(file.read_text())
    document["broker"] = {"host": "127.0.0.1", "port": 1883, "tls": False}
    file.write_text(json.dumps(document))
    assert link_options(load(tmp_path / "fleet")).certificates is None
    document["broker"]["host"] = "broker.example"
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="TLS"):
        link_options(load(tmp_path / "fleet"))


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"device": "d2"}])
def test_an_enrolment_of_another_fleet_is_refused(
    manager: Enroller, tmp_path: Path, change: dict[str, str]
) -> None:
    found, _ = enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    check_own(found)
    file = tmp_path / "fleet" / "enrolment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(
        ConfigError, match=r"enrolment\.json: expected what device\.crt is for: acme/"
    ) as caught:
        check_own(load(tmp_path / "fleet"))
    assert "Enrol" in str(caught.value) or "enrol this device again" in str(caught.value)


def test_the_manager_says_whether_a_device_is_still_one_of_its_fleet(
    manager: Enroller, tmp_path: Path
) -> None:
    found, _ = enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    confirm(found)
    manager.revoked = True
    with pytest.raises(RevokedError, match="device-revoked"):
        confirm(found)
    with pytest.raises(RevokedError):
        renew_if_due(found, NOW + timedelta(days=25))
    manager.says = (500, b"")
    with pytest.raises(RemoteError):
        confirm(found)


def test_a_certificate_is_renewed_before_it_ends(manager: Enroller, tmp_path: Path) -> None:
    found, _ = enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    before = found.cert_file.read_bytes()
    key = found.key_file.read_bytes()
    assert not renew_if_due(found, NOW + timedelta(days=15))
    assert len(manager.asked) == 1
    assert renew_if_due(found, NOW + timedelta(days=25))
    assert found.cert_file.read_bytes() != before
    assert found.key_file.read_bytes() == key
    options = link_options(load(tmp_path / "fleet"))
    assert options.certificates is not None
    options.certificates.context()
    manager.revoked = True
    with pytest.raises(RefusedError, match="revoked"):
        renew_if_due(found, NOW + timedelta(days=25))


def test_a_renewal_that_fails_keeps_the_certificate(manager: Enroller, tmp_path: Path) -> None:
    found, _ = enrol(manager.url, WISH, tmp_path / "fleet", ca_file=manager.ca)
    before = files(tmp_path / "fleet")
    wish = Wish(TOKEN, "other", "store-pc-cpu", "1.0", "UTC")
    manager.used_by = None
    enrol(manager.url, wish, tmp_path / "other", ca_file=manager.ca)
    _, other = manager.asked[-1]
    foreign = manager.answer("/v1/enrol", json.dumps(other).encode(), None)
    for says in ((500, b""), (200, b"{}"), foreign):
        manager.says = says
        with pytest.raises(RemoteError):
            renew_if_due(found, NOW + timedelta(days=25))
    assert files(tmp_path / "fleet") == before


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["enrol", *map(str, arguments)])
    return done.exit_code, done.stdout


def test_a_folder_that_cannot_be_is_named(manager: Enroller, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file: cannot be written"):
        enrol(manager.url, WISH, tmp_path / "file", ca_file=manager.ca)
    assert manager.asked == []


def test_the_command(manager: Enroller, tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    common = (
        manager.url, "--token", TOKEN, "--ca", manager.ca, "--folder", folder, "--profile", "store-pc-cpu",
    )  # fmt: skip
    code, out = run(*common, "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["device"], document["new"], document["folder"]) == ("d1", True, str(folder))
    assert TOKEN not in out
    assert DEVICE_TOKEN not in out
    code, out = run(*common)
    assert code == 0
    assert "already" in out
    code, out = run(*common, "--name", "d2", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (3, "ConfigError")
    code, _ = run(*common[:5], "--folder", tmp_path / "new", "--timezone", "Mars/Base")
    assert code == 3
    code, _ = run("https://127.0.0.1:1", "--token", TOKEN, "--folder", tmp_path / "new")
    assert code == 7


@pytest.mark.parametrize(
    ("named", "found"), [("Europe/Berlin", "Europe/Berlin"), (":Asia/Tokyo", "Asia/Tokyo")]
)
def test_the_time_zone_of_the_system(named: str, found: str) -> None:
    before = os.environ.get("TZ")
    os.environ["TZ"] = named
    try:
        assert local_timezone() == found
        os.environ["TZ"] = "../../etc/passwd"
        assert local_timezone()
    finally:
        del os.environ["TZ"]
        if before is not None:
            os.environ["TZ"] = before
