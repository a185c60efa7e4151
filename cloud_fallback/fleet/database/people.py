"""Tokens of people and programs. The secret itself is never here, only its SHA-256."""

from typing import cast

from sqlalchemy import Connection, func, insert, select, update

from cloud_fallback.fleet import moments
from cloud_fallback.fleet.database.rows import AnyRow
from cloud_fallback.fleet.database.tables import tokens
from cloud_fallback.fleet.views import Role, TokenView

_USED_S = 60.0
"""That it was used is written once in so long: every request would be a write else."""


def create(
    tx: Connection,
    name: str,
    role: Role,
    sha256: str,
    *,
    by: str,
    now_s: float,
    expires_s: float | None = None,
) -> TokenView:
    """Write a new token down.

    Args:
        tx: As `Database.begin` gives it.
        name: For a person.
        role: What it may do.
        sha256: Of the secret, hexadecimal.
        by: Who made it.
        now_s: Seconds since 1970, UTC.
        expires_s: Seconds since 1970, UTC; None: never.
    """
    made = insert(tokens).values(
        name=name, role=role, sha256=sha256, created_s=now_s, created_by=by, expires_s=expires_s
    )
    found = tx.execute(made.returning(tokens)).one()
    return _view(found)


def token(tx: Connection, sha256: str, now_s: float) -> TokenView | None:
    """Find the token of a secret.

    Args:
        tx: As `Database.read` gives it.
        sha256: Of the secret.
        now_s: Seconds since 1970, UTC.

    Returns:
        None: there is none that is good now.
    """
    row = tx.execute(select(tokens).where(tokens.c.sha256 == sha256)).one_or_none()
    if row is None or row.revoked_s is not None:
        return None
    return _view(row) if row.expires_s is None or now_s < row.expires_s else None


def use(tx: Connection, id_: int, now_s: float) -> None:
    """Write down that a token was used; call it where `is_stale` says so.

    Args:
        tx: As `Database.begin` gives it.
        id_: Of the token.
        now_s: Seconds since 1970, UTC.
    """
    tx.execute(update(tokens).where(tokens.c.id == id_).values(used_s=now_s))


def is_stale(view: TokenView, now_s: float) -> bool:
    """Say whether it is time to write down again that a token is used."""
    return view.last_used is None or now_s - moments.seconds(view.last_used) > _USED_S


def listing(tx: Connection) -> list[TokenView]:
    """List all tokens, the oldest first."""
    return [_view(row) for row in tx.execute(select(tokens).order_by(tokens.c.id))]


def revoke(tx: Connection, id_: int, now_s: float) -> TokenView | None:
    """Take a token back.

    Args:
        tx: As `Database.begin` gives it.
        id_: Of the token.
        now_s: Seconds since 1970, UTC.

    Returns:
        None: there is none.
    """
    gone = update(tokens).where(tokens.c.id == id_)
    tx.execute(gone.values(revoked_s=func.coalesce(tokens.c.revoked_s, now_s)))
    row = tx.execute(select(tokens).where(tokens.c.id == id_)).one_or_none()
    return None if row is None else _view(row)


def _view(row: AnyRow) -> TokenView:
    return TokenView(
        id=row.id, name=row.name, role=cast(Role, row.role), created_at=moments.text(row.created_s),
        created_by=row.created_by, expires_at=moments.maybe(row.expires_s),
        revoked_at=moments.maybe(row.revoked_s), last_used=moments.maybe(row.used_s),
    )  # fmt: skip
