"""The fleet's certificate authority: signs devices' keys, and writes down which certificates count no longer.

Of a request only the public key is taken; name, tenant, use and validity are the manager's. Knows no
database: who is revoked is handed in.
"""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_runtime.atomic import new_file
from edge_runtime.contract.errors import ConfigError, InputError

AUTHORITY_DAYS = 3650
CRL_DAYS = 3650
"""A broker lets nobody in once the list has expired. It is written anew at every start, and whenever a device
is revoked."""
_BACKDATED_S = 3600.0
"""A device's clock may be behind."""
_CURVES = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate of a device.

    Args:
        pem: The certificate.
        serial: Lower-case hexadecimal.
        public_key_sha256: Of the key in it (SubjectPublicKeyInfo, DER).
    """

    pem: str
    serial: str
    public_key_sha256: str


class Authority:
    """Signs with one key, for one tenant.

    Args:
        certificate: The authority's own, PEM.
        key: Its key, PEM without a password.
        tenant: Whose devices.

    Raises:
        ConfigError: They are not what they should be, or not of each other.
    """

    def __init__(self, certificate: bytes, key: bytes, tenant: str) -> None:
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            loaded = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError("authority", expected="a certificate and a key, PEM", got=str(error)) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ConfigError("authority.key", expected="an elliptic curve key", got=type(loaded).__name__)
        if _public(loaded.public_key()) != _public(self._certificate.public_key()):
            raise ConfigError("authority: key and certificate", expected="of each other", got="two others")
        self._key = loaded
        self._tenant = tenant
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def load(cls, certificate: Path, key: Path, tenant: str) -> "Authority":
        """Read the authority's files.

        Raises:
            ConfigError: As for `Authority`, or a file cannot be read.
        """
        try:
            return cls(certificate.read_bytes(), key.read_bytes(), tenant)
        except OSError as error:
            raise ConfigError(
                f"authority: {error.filename}", got=error.strerror, do="Make it: edge-runtime fleet init"
            ) from error

    def sign_device(self, csr: str, device: str, *, now_s: float, days: int) -> Signed:
        """Sign a device's key.

        Args:
            csr: Certificate signing request, PEM. Whatever name and extensions it asks for are not granted.
            device: Its name in the fleet, which becomes the common name.
            now_s: Seconds since 1970.
            days: How long the certificate is good.

        Raises:
            InputError: It is no request, not signed by its own key, or of a kind of key that is not taken.
        """
        public = request_key(csr)
        name = _name(device, self._tenant)
        signed = self._sign(name, public, now_s=now_s, days=days)
        return Signed(
            signed.public_bytes(serialization.Encoding.PEM).decode(),
            f"{signed.serial_number:x}",
            key_digest(public),
        )

    def issue(self, name: str, *, now_s: float, days: int, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """Make a key with its certificate.

        Args:
            name: Common name.
            now_s: Seconds since 1970.
            days: How long the certificate is good.
            hosts: Names and addresses of a server; empty: it is for a client.

        Returns:
            Certificate and key, PEM.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name, self._tenant)
        signed = self._sign(subject, key.public_key(), now_s=now_s, days=days, hosts=hosts)
        return signed.public_bytes(serialization.Encoding.PEM), _private_pem(key)

    def write_revoked(self, serials: Iterable[tuple[str, float]], file: Path, *, now_s: float) -> None:
        """Write the list of certificates that count no longer, whole or not at all.

        Args:
            serials: Hexadecimal, with when it was revoked in seconds since 1970.
            file: Where the broker reads it.
            now_s: Seconds since 1970.

        Raises:
            StorageError: It cannot be written.
        """
        now = _moment(now_s)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - timedelta(seconds=_BACKDATED_S))
            .next_update(now + timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(int(now_s * 1000)), critical=False)
        )
        for serial, at_s in serials:
            revoked = (
                x509.RevokedCertificateBuilder()
                .serial_number(int(serial, 16))
                .revocation_date(_moment(at_s))
                .build()
            )
            builder = builder.add_revoked_certificate(revoked)
        content = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        with new_file(file) as stream:
            stream.write(content)
            with suppress(AttributeError, OSError):  # the broker has a user of its own; Windows has no modes
                os.fchmod(stream.fileno(), 0o644)

    def _sign(
        self,
        name: x509.Name,
        public: ec.EllipticCurvePublicKey,
        *,
        now_s: float,
        days: int,
        hosts: Sequence[str] | None = None,
    ) -> x509.Certificate:
        """Sign for a server where there are hosts, else for a client."""
        use = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        now = _moment(now_s)
        ends = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=_BACKDATED_S))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in dict.fromkeys(hosts)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def make_authority(tenant: str, *, now_s: float) -> tuple[bytes, bytes]:
    """Make a new authority.

    Args:
        tenant: Whose.
        now_s: Seconds since 1970.

    Returns:
        Certificate and key, PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = _moment(now_s)
    name = _name(f"{tenant} fleet authority"[:64], tenant)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=_BACKDATED_S))
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key)


def request_key(csr: str) -> ec.EllipticCurvePublicKey:
    """Take the public key out of a request that its owner has signed.

    Raises:
        InputError: It is no request, not signed by its own key, or of a kind of key that is not taken.
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        public = request.public_key()
        genuine = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InputError(
            "csr", expected="a certificate signing request, PEM", got=str(error)[:200]
        ) from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, _CURVES):
        raise InputError("csr", expected="a key on P-256 or P-384", got=type(public).__name__)
    if not genuine:
        raise InputError("csr", expected="signed by the key in it", got="another signature")
    return public


def listed_in(file: Path) -> set[int] | None:
    """Give the serial numbers of a list of revoked certificates; None: there is none that can be read."""
    try:
        return {each.serial_number for each in x509.load_pem_x509_crl(file.read_bytes())}
    except (OSError, ValueError):
        return None


def key_digest(public: ec.EllipticCurvePublicKey) -> str:
    """Give the SHA-256 of a public key, hexadecimal."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(_public(public))
    return digest.finalize().hex()


def _public(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(name: str, tenant: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, tenant),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(int(at_s), UTC)
