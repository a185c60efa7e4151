"""One-time tokens for devices to come. The secret itself is never here, only its SHA-256."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.database.rows import dump, load
from cloud_fallback.fleet.database.tables import enrolments
from cloud_fallback.fleet.views import EnrolmentNew
from edge_runtime.contract.errors import UnauthorizedError


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a one-time token is for.

    Args:
        device: The name; None: neither the token nor the device says one.
        labels: That the device gets.
        groups: That the device gets.
        by: Who made it.
        named: Whether the token itself names the device, so that one of that name may be replaced.
        again: Whether the same device has used it before, with the same key.
    """

    device: str | None
    labels: dict[str, str]
    groups: tuple[str, ...]
    by: str
    named: bool = False
    again: bool = False


class TokenError(UnauthorizedError):
    """A one-time token is not good.

    Args:
        code: `token-unknown`, `token-expired` or `token-used`.
        expected: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
    """

    def __init__(self, code: str, expected: str, got: str) -> None:
        do = "Ask for a new one: edge-runtime fleet enrol-token"
        super().__init__("enrolment token", expected=expected, got=got, do=do)
        self.code = code


def create(tx: Connection, sha256: str, new: EnrolmentNew, by: str, now_s: float) -> float:
    """Write a new one-time token down.

    Args:
        tx: As `Database.begin` gives it.
        sha256: Of the secret, hexadecimal.
        new: What it is for.
        by: Who made it.
        now_s: Seconds since 1970, UTC.

    Returns:
        When it expires, in seconds since 1970.
    """
    expires_s = now_s + new.expires_s
    tx.execute(
        insert(enrolments).values(
            sha256=sha256, device=new.device, labels=dump(dict(new.labels)), groups=dump(list(new.groups)),
            created_s=now_s, created_by=by, expires_s=expires_s,
        )
    )  # fmt: skip
    return expires_s


def take(tx: Connection, sha256: str, device: str | None, key_sha256: str, now_s: float) -> Invitation:
    """Use a one-time token up, in the transaction that enrols the device.

    The same device with the same key may come again before the token expires: it has not had the answer.

    Args:
        tx: As `Database.begin` gives it.
        sha256: Of the secret.
        device: The name that the device says; None: none.
        key_sha256: Of the device's public key, hexadecimal.
        now_s: Seconds since 1970, UTC.

    Raises:
        TokenError: There is none, it has expired, it was used, or it is for another device.
    """
    mine = enrolments.c.sha256 == sha256
    row = tx.execute(select(enrolments).where(mine).with_for_update()).one_or_none()
    if row is None:
        raise TokenError("token-unknown", "one that the manager has made", "another one")
    if row.expires_s <= now_s:
        raise TokenError(
            "token-expired", "one that has not expired", f"expired {moments.text(row.expires_s)}"
        )
    name = row.device or device
    if row.device is not None and device not in {None, row.device}:
        raise TokenError("token-unknown", f"one for {device}", f"one for {row.device}")
    if row.used_s is not None and (row.used_device, row.used_key) != (name, key_sha256):
        raise TokenError("token-used", "one that was never used", f"used {moments.text(row.used_s)}")
    new = {"used_s": now_s, "used_device": name, "used_key": key_sha256}
    tx.execute(update(enrolments).where(mine).values(new))
    return Invitation(
        name,
        load(row.labels),
        tuple(load(row.groups)),
        row.created_by,
        named=row.device is not None,
        again=row.used_s is not None,
    )


def prune(tx: Connection, before_s: float) -> int:
    """Remove tokens that had expired or were used before a moment; say how many."""
    old = (enrolments.c.expires_s < before_s) | (enrolments.c.used_s < before_s)
    return tx.execute(delete(enrolments).where(old)).rowcount
