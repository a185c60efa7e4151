"""Enrols simulated devices at a real manager, and keeps their certificates in a folder.

A real device is enrolled by `edge-runtime enrol`; this does the same for many, with keys made here and shown
to nobody.
"""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_runtime.contract.enrolment import Broker, Enrol, Enrolled
from edge_runtime.contract.errors import RemoteError


@dataclass(frozen=True, slots=True)
class Invitation:
    """Who is to be enrolled.

    Args:
        device: Its name.
        profile: Its device profile.
        labels: For selectors.
        groups: That it is in.
        timezone: Of its store.
    """

    device: str
    profile: str
    labels: Mapping[str, str]
    groups: tuple[str, ...] = ()
    timezone: str = "UTC"


class Wardrobe:
    """The certificates of simulated devices.

    Args:
        folder: `ca.pem`, and a file with key and certificate a device.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context: ssl.SSLContext | None = None

    def context_of(self, device: str) -> ssl.SSLContext:
        """Give TLS as a device.

        It is one context for all, filled anew: a connection keeps the certificate that it began with, and two
        thousand contexts would hold the authority's two thousand times.
        """
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self._folder / "ca.pem")
        self._context.load_cert_chain(self._folder / f"{device}.pem")
        return self._context


def enrol(manager: httpx.Client, invitations: Iterable[Invitation], folder: Path) -> Broker:
    """Enrol devices one after the other.

    Args:
        manager: With the manager's address and a token of an operator.
        invitations: Who.
        folder: For the certificates.

    Returns:
        Where the broker is.

    Raises:
        RemoteError: The manager refuses, or nobody is to be enrolled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    enrolled: Enrolled | None = None
    for each in invitations:
        asked = {"device": each.device, "labels": dict(each.labels), "groups": list(each.groups)}
        token = _post(manager, "/v1/enrolments", {**asked, "expires_s": 3600})["token"]
        key = ec.generate_private_key(ec.SECP256R1())
        wish = Enrol(
            token=token,
            device=each.device,
            profile=each.profile,
            agent="simulated",
            csr=_request(each.device, key),
            timezone=each.timezone,
        )
        enrolled = Enrolled.model_validate(_post(manager, "/v1/enrol", wish.model_dump(mode="json")))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = folder / f"{each.device}.pem"
        file.touch(0o600)
        file.write_bytes(secret + enrolled.certificate.encode())
    if enrolled is None:
        raise RemoteError("enrolment: nobody is to be enrolled", retryable=False)
    (folder / "ca.pem").write_text(enrolled.authority)
    return enrolled.broker


def _request(device: str, key: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _post(manager: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    try:
        answer = manager.post(path, json=body)
    except httpx.HTTPError as error:
        raise RemoteError(f"{manager.base_url}{path}", retryable=True, got=str(error)) from error
    if answer.is_error:
        raise RemoteError(
            f"{manager.base_url}{path}",
            retryable=answer.status_code >= 500,
            expected="a 2xx answer",
            got=f"{answer.status_code}: {answer.text[:300]}",
        )
    return answer.json()
