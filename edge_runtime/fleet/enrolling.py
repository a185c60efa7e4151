"""Becoming a device of a fleet, and renewing its certificate: a key that never leaves, and one question each.

Over HTTPS to the manager. Knows no MQTT; what it writes is read by `enrolment`.
"""

import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from edge_runtime.atomic import cannot_write, new_file
from edge_runtime.contract.enrolment import OWN_PATH, REVOKED, Enrol, Enrolled, Pem
from edge_runtime.contract.errors import (
    ConfigError,
    EdgeRuntimeError,
    RefusedError,
    RemoteError,
    UnauthorizedError,
)
from edge_runtime.contract.task import Declared
from edge_runtime.fleet import enrolment as files
from edge_runtime.fleet.enrolment import Enrolment, load
from edge_runtime.fleet.papers import RevokedError
from edge_runtime.update.address import is_safe

_TIMEOUT_S = 30.0
_ANSWER_MAX_BYTES = 2**20
_SLACK = timedelta(minutes=5)
_UNNAMED = "unnamed"
"""In the request of a device that does not know its name yet; the manager decides on it anyway."""
_LEFT = 1 / 3
"""Of a certificate's life, when it is renewed."""
_OK, _UNAUTHORIZED, _TOO_MANY = 200, 401, 429
_PUBLIC, _PRIVATE = 0o644, 0o600
_DO = {
    "token-used": "A token works once: ask for a new one with edge-runtime fleet",
    "token-expired": "Ask for a new token with edge-runtime fleet, and use it in time",
    "token-unknown": "Check the token and the manager's address",
    "device-exists": "Choose another --name, or revoke the device of that name first",
}


class Renew(Declared):
    """A device asks for a new certificate, with its device token in the header.

    Args:
        csr: Certificate signing request of the same key (PEM).
    """

    v: Literal[1] = 1
    csr: Pem


@dataclass(frozen=True, slots=True)
class Wish:
    """What a device says of itself.

    Args:
        token: One-time, from the manager.
        name: The name it wants; None: the one that the token is for.
        profile: Its device profile.
        agent: Version of edge-runtime.
        timezone: IANA name of the store's time zone.
    """

    token: str
    name: str | None
    profile: str
    agent: str
    timezone: str


def enrol(manager: str, wish: Wish, folder: Path, *, ca_file: Path | None = None) -> tuple[Enrolment, bool]:
    """Become a device of a fleet; one that is it already stays it, and asks nobody.

    Args:
        manager: Address of the manager.
        wish: What the device says of itself.
        folder: Where its files go.
        ca_file: Certificates that the manager's is checked against; None: the system's.

    Returns:
        The enrolment, and whether it is new.

    Raises:
        ConfigError: The address is wrong, the manager's certificate is not trusted, or the folder has another
            enrolment.
        RefusedError: The manager refuses.
        RemoteError: The manager does not answer, or not as it should.
        StorageError: The files cannot be written.
    """
    manager = _checked(manager)
    if (folder / files.FILE).exists():
        return _same(load(folder), manager, wish.name), False
    key = _key(folder / files.KEY)
    try:
        asked = Enrol(
            token=wish.token,
            device=wish.name,
            profile=wish.profile,
            agent=wish.agent,
            csr=_csr(key, wish.name or _UNNAMED),
            timezone=wish.timezone,
        )
    except ValidationError as error:
        wrong = error.errors(include_input=False)[0]
        raise ConfigError(f"enrolment: {wrong['loc'][0]}", got=wrong["msg"]) from error
    enrolled = _enrolled(f"{manager}/v1/enrol", asked, ca_file=ca_file, bearer=None)
    _check_certificate(enrolled, key)
    _write(folder / files.CERTIFICATE, enrolled.certificate, _PUBLIC)
    _write(folder / files.AUTHORITY, enrolled.authority, _PUBLIC)
    _write(folder / files.TUF_ROOT, enrolled.tuf_root, _PUBLIC)
    kept = files.Enrolled(
        tenant=enrolled.tenant,
        device=enrolled.device,
        profile=wish.profile,
        manager_url=manager,
        broker=enrolled.broker,
        device_token=enrolled.device_token,
    )
    # Last: where it is, everything is.
    _write(folder / files.FILE, kept.model_dump_json(indent=2) + "\n", _PRIVATE)
    return load(folder), True


def renew_if_due(enrolment: Enrolment, now: datetime) -> bool:
    """Renew a certificate of which less than a third of its life is left.

    Args:
        enrolment: Whose.
        now: The time.

    Returns:
        Whether there is a new one; the next connection takes it.

    Raises:
        ConfigError: The certificate or the key cannot be read.
        RevokedError: The device was revoked.
        RefusedError: The manager refuses for another reason.
        RemoteError: The manager does not answer, or not as it should.
        StorageError: The new one cannot be written.
    """
    old = _certificate(_read(enrolment.cert_file), str(enrolment.cert_file))
    life = old.not_valid_after_utc - old.not_valid_before_utc
    if old.not_valid_after_utc - now > life * _LEFT:
        return False
    key = _key(enrolment.key_file)
    asked = Renew(csr=_csr(key, enrolment.device))
    answer = _enrolled(
        f"{enrolment.manager_url}/v1/renew", asked, ca_file=enrolment.ca_file, bearer=enrolment.device_token
    )
    _check_certificate(answer, key)
    if (answer.tenant, answer.device) != (enrolment.tenant, enrolment.device):
        raise RemoteError(
            "renewal: name",
            retryable=False,
            expected=f"{enrolment.tenant}/{enrolment.device}",
            got=f"{answer.tenant}/{answer.device}",
        )
    _write(enrolment.ca_file, answer.authority, _PUBLIC)
    _write(enrolment.cert_file, answer.certificate, _PUBLIC)
    return True


def check_own(enrolment: Enrolment) -> None:
    """Refuse an enrolment whose files are of different fleets or devices, as after a copy.

    Raises:
        ConfigError: They are.
    """
    subject = _certificate(_read(enrolment.cert_file), str(enrolment.cert_file)).subject
    of = [
        attribute.value
        for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        for attribute in subject.get_attributes_for_oid(oid)
    ]
    if of != [enrolment.tenant, enrolment.device]:
        raise ConfigError(
            f"enrolment {enrolment.folder}: {files.FILE}",
            expected=f"what {files.CERTIFICATE} is for: {'/'.join(map(str, of)) or 'nobody'}",
            got=f"{enrolment.tenant}/{enrolment.device}",
            do="Put its own files back, or enrol this device again: edge-runtime enrol",
        )


def confirm(enrolment: Enrolment) -> None:
    """Ask the manager whether a device is still one of its fleet.

    Args:
        enrolment: Whose.

    Raises:
        ConfigError: The manager's certificate is not trusted.
        RevokedError: It is not.
        RefusedError: The manager refuses for another reason.
        RemoteError: The manager does not answer.
    """
    url = f"{enrolment.manager_url}{OWN_PATH}"
    _ask(url, None, ca_file=enrolment.ca_file, bearer=enrolment.device_token)


def _checked(manager: str) -> str:
    try:
        safe = is_safe(httpx.URL(manager))
    except httpx.InvalidURL:
        safe = False
    if not safe:
        raise ConfigError("manager", expected="https://HOST (http on this machine only)", got=repr(manager))
    return manager.rstrip("/")


def _same(found: Enrolment, manager: str, name: str | None) -> Enrolment:
    for what, mine, asked in (("manager", found.manager_url, manager), ("device", found.device, name)):
        if asked is not None and mine != asked:
            raise ConfigError(
                f"enrolment {found.folder}: {what}",
                expected=mine,
                got=asked,
                do="This folder is enrolled already: choose another one, or remove it first",
            )
    return found


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Give the device's key; made where there is none, kept where there is one."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path.parent, error) from error
        _write(path, pem.decode(), _PRIVATE)
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as a key", got=str(error), do="Remove it") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}", expected="an EC key", got=type(key).__name__, do="Remove it")
    return key


def _csr(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _enrolled(url: str, question: Declared, *, ca_file: Path | None, bearer: str | None) -> Enrolled:
    body = _ask(url, question, ca_file=ca_file, bearer=bearer)
    try:
        return Enrolled.model_validate_json(body)
    except ValidationError as error:
        raise RemoteError(
            f"{url}: the answer is none of a manager's",
            retryable=False,
            got=error.errors(include_input=False)[0]["msg"],
            do="Check the address",
        ) from error


def _ask(url: str, question: Declared | None, *, ca_file: Path | None, bearer: str | None) -> bytes:
    """Ask a manager, and give what it answers; without a question: GET."""
    method, content = ("GET", b"") if question is None else ("POST", question.model_dump_json().encode())
    headers = {"content-type": "application/json"}
    if bearer is not None:
        headers["authorization"] = f"Bearer {bearer}"
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"certificates {ca_file}", got=str(error), do="Check the path") from error
    try:
        with (
            httpx.Client(verify=context, timeout=_TIMEOUT_S) as client,
            client.stream(method, url, content=content, headers=headers) as response,
        ):
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _ANSWER_MAX_BYTES:
                    break
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error) from error
    if status != _OK:
        raise _refused(url, status, bytes(body))
    return bytes(body)


def _unreachable(url: str, error: Exception) -> EdgeRuntimeError:
    said = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" not in said:
        return RemoteError(
            f"{url}: cannot be reached", retryable=True, got=said, do="Check the address and the network"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    wrong_time = "not yet valid" in said or "expired" in said
    return ConfigError(
        f"{url}: its certificate is not trusted",
        got=said,
        do=f"This device's clock says {now}: set it if that is wrong"
        if wrong_time
        else "Give the file of the manager's authority with --ca",
    )


def _refused(url: str, status: int, body: bytes) -> EdgeRuntimeError:
    try:
        said: Any = json.loads(body)["error"]
        code, message = str(said["code"]), str(said["message"])
        parts = {name: str(said[name]) for name in ("expected", "got", "do") if said.get(name)}
        parts.setdefault("do", _DO.get(code, ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        code, message, parts = "", f"status {status}", {}
    if status >= 500 or status == _TOO_MANY:
        return RemoteError(f"{url}: no answer now", retryable=True, got=message, do="Try again later")
    kind = UnauthorizedError if status == _UNAUTHORIZED else RefusedError
    if code == REVOKED:
        kind = RevokedError
    new = {name: part for name, part in parts.items() if part and part not in message}
    return kind(f"the manager refuses ({code or 'no reason'}): {message}", **new)


def _check_certificate(enrolled: Enrolled, key: ec.EllipticCurvePrivateKey) -> None:
    found = _certificate(enrolled.certificate.encode(), "the manager's answer")
    if found.public_key() != key.public_key():
        raise RemoteError("the manager's certificate", retryable=False, expected="one of this device's key")
    now = datetime.now(UTC)
    if not found.not_valid_before_utc - _SLACK <= now <= found.not_valid_after_utc:
        raise ConfigError(
            "this device's clock",
            expected=f"{found.not_valid_before_utc.isoformat()} to {found.not_valid_after_utc.isoformat()}",
            got=now.isoformat(timespec="seconds"),
            do="Set it, then ask for a new token",
        )


def _certificate(pem: bytes, where: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ConfigError(f"{where}: no certificate", got=str(error)) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read", got=error.strerror or str(error)) from error


def _write(path: Path, text: str, mode: int) -> None:
    with new_file(path) as stream:
        Path(stream.name).chmod(mode)  # before anything is in it
        stream.write(text.encode())
