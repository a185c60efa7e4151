"""How a device becomes one of the fleet, over the API on a real SQLite."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.testclient import TestClient

from cloud_fallback.fleet.api.authority import Authority, make_authority
from edge_runtime.contract.errors import InputError
from tests.simulators.fleet_api import Site, csr_for, enrol, error_of, site_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path / "fleet") as made:
        yield made


def token_for(site: Site, **body: object) -> str:
    answer = site.client("operator").post("/v1/enrolments", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


def ask(site: Site, token: str, **more: object) -> tuple[int, Any]:
    body = {"token": token, "profile": "store-pc-cpu", "agent": "0.1", "csr": csr_for(), **more}
    answer = TestClient(site.app).post("/v1/enrol", json=body)
    return answer.status_code, answer.json()


def test_a_device_gets_a_certificate_in_its_name(site: Site) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    kept = enrol(site, "till-7", key)
    certificate = x509.load_pem_x509_certificate(kept["certificate"].encode())
    authority = x509.load_pem_x509_certificate(kept["authority"].encode())
    certificate.verify_directly_issued_by(authority)
    assert [each.value for each in certificate.subject] == ["acme", "till-7"]
    assert certificate.public_key() == key.public_key()
    use = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(use) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert kept["broker"] == {"host": "127.0.0.1", "port": 8883, "tls": True}
    assert kept["tenant"] == "acme" and '"root"' in kept["tuf_root"]
    shown = site.client("viewer").get("/v1/devices/till-7").json()
    assert shown["profile"] == "store-pc-cpu" and shown["revoked_at"] is None


def test_what_a_request_asks_for_beside_its_key_is_not_granted(site: Site) -> None:
    status, kept = ask(site, token_for(site, device="till-7"), csr=csr_for("MANAGER", wants_ca=True))
    assert status == 200
    certificate = x509.load_pem_x509_certificate(kept["certificate"].encode())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "till-7"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_of_ten_that_come_at_once_with_one_token_one_gets_in(site: Site) -> None:
    token = token_for(site)
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(ask, site, token, device=f"till-{number}") for number in range(10)]
        found = [each.result() for each in asked]
    assert sorted(status for status, _ in found) == [200] + [401] * 9
    codes = {document["error"]["code"] for status, document in found if status == 401}
    assert codes == {"token-used"}
    assert len(site.client().get("/v1/devices").json()["devices"]) == 1


def test_a_lost_answer_is_given_again_for_the_same_key_only(site: Site) -> None:
    token, key = token_for(site, device="till-7"), ec.generate_private_key(ec.SECP256R1())
    _, first = ask(site, token, csr=csr_for(key=key))
    status, second = ask(site, token, csr=csr_for(key=key))
    assert status == 200 and second["device_token"] != first["device_token"]
    old = x509.load_pem_x509_certificate(first["certificate"].encode())
    listed = x509.load_pem_x509_crl(site.settings.authority.revoked.read_bytes())
    assert listed.get_revoked_certificate_by_serial_number(old.serial_number) is not None
    status, document = ask(site, token)
    assert (status, document["error"]["code"]) == (401, "token-used")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"token": "enrol_" + "x" * 40}, 401, "token-unknown"),
        ({"csr": "-----BEGIN nonsense"}, 400, "input"),
        ({"surprise": 1}, 400, "malformed"),
        ({"timezone": "Mars/Base"}, 400, "input"),
        ({"v": 2}, 400, "malformed"),
    ],
)
def test_bad_enrolments_are_refused_and_do_not_use_the_token_up(
    site: Site, body: dict[str, Any], status: int, code: str
) -> None:
    token = token_for(site, device="till-7")
    answer = ask(site, **{"token": token, **body})
    assert (answer[0], answer[1]["error"]["code"]) == (status, code)
    assert ask(site, token)[0] == 200


def test_a_token_expires(site: Site) -> None:
    token = token_for(site, device="till-7", expires_s=60)
    site.now_s[0] += 61
    status, document = ask(site, token)
    assert (status, document["error"]["code"]) == (401, "token-expired")


def test_a_token_for_anybody_replaces_nobody(site: Site) -> None:
    enrol(site, "till-7")
    status, document = ask(site, token_for(site), device="till-7")
    assert (status, document["error"]["code"]) == (409, "device-exists")


def test_a_device_renews_with_its_token_until_it_is_revoked(site: Site) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    kept = enrol(site, "till-7", key)
    device = TestClient(site.app, headers={"authorization": f"Bearer {kept['device_token']}"})
    again = device.post("/v1/renew", json={"v": 1, "csr": csr_for(key=key)})
    assert again.status_code == 200 and again.json()["device_token"] == kept["device_token"]
    assert again.json()["certificate"] != kept["certificate"]
    assert device.get("/v1/devices").status_code == 403
    assert device.get("/v1/device").json() == {"tenant": "acme", "device": "till-7"}
    assert site.operator.expelled == []
    assert site.client("admin").delete("/v1/devices/till-7").status_code == 204
    refused = device.post("/v1/renew", json={"v": 1, "csr": csr_for(key=key)})
    assert (refused.status_code, error_of(refused)["code"]) == (401, "device-revoked")
    assert error_of(device.get("/v1/device"))["code"] == "device-revoked"
    assert site.operator.expelled == [("till-7", True)]
    serial = x509.load_pem_x509_certificate(again.json()["certificate"].encode()).serial_number
    listed = x509.load_pem_x509_crl(site.settings.authority.revoked.read_bytes())
    assert listed.get_revoked_certificate_by_serial_number(serial) is not None
    assert site.client("viewer").get("/v1/devices/till-7").json()["revoked_at"] is not None
    assert site.client("viewer").get("/v1/devices").json()["devices"] == []
    revoked = site.client("viewer").get("/v1/devices", params={"state": "revoked"}).json()["devices"]
    assert [each["name"] for each in revoked] == ["till-7"]


def test_no_other_kind_of_key_is_signed() -> None:
    authority = Authority(*make_authority("acme", now_s=1e9), "acme")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "d")])
    weak = rsa.generate_private_key(65537, 1024)
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(weak, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(InputError, match="P-256"):
        authority.sign_device(pem, "d", now_s=1e9, days=1)


def test_a_request_signed_by_another_key_is_refused() -> None:
    authority = Authority(*make_authority("acme", now_s=1e9), "acme")
    good = x509.load_pem_x509_csr(csr_for().encode())
    broken = bytearray(good.public_bytes(serialization.Encoding.DER))
    broken[-1] ^= 1
    pem = "-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(broken)).decode()
    with pytest.raises(InputError, match="csr"):
        authority.sign_device(pem + "-----END CERTIFICATE REQUEST-----\n", "d", now_s=1e9, days=1)


def test_a_certificate_ends_with_its_authority() -> None:
    certificate, key = make_authority("acme", now_s=1e9)
    signed = Authority(certificate, key, "acme").sign_device(
        csr_for(), "d", now_s=1e9 + 86400 * 3640, days=730
    )
    ends = x509.load_pem_x509_certificate(signed.pem.encode()).not_valid_after_utc
    assert ends == x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    assert isinstance(ends, datetime)
