"""Sessions of the local page: a password checked slowly, a signed cookie, a word for what changes something.

The key lives as long as the process: after a restart everybody logs in again, so that an ended session stays
ended. `Guard` is pure; `now` is an argument everywhere.
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
import threading
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from edge_runtime.contract.errors import QuotaError, UnauthorizedError

LIFETIME_S = 12 * 3600.0
_ROUNDS = 200_000
_FREE_TRIES = 5
_LONGEST_WAIT_S = 300.0
_FORGET_S = 3600.0
_ADDRESSES = 1024


@dataclass(frozen=True, slots=True)
class Session:
    """A login.

    Args:
        nonce: Of this login alone.
        until_s: When it ends, in seconds since 1970, UTC.
    """

    nonce: str
    until_s: int


ANYBODY = Session("", 0)
"""Who comes from this machine where no password is set."""


class Sessions:
    """Logs people in and out. Safe to share between threads.

    Args:
        password: Of the settings; empty: none is asked for.
    """

    def __init__(self, password: str) -> None:
        self._key = secrets.token_bytes(32)
        self._salt = os.urandom(16)
        self._hash = _slow(password, self._salt) if password else b""
        self._checking = threading.Lock()
        self._guard = Guard()
        self._ended: dict[str, int] = {}

    @property
    def needed(self) -> bool:
        """Whether a password is asked for."""
        return bool(self._hash)

    def log_in(self, password: str, address: str, now_s: float) -> Session:
        """Check a password; takes a tenth of a second or more, one at a time, so not on an event loop.

        Args:
            password: As typed.
            address: Whose it is, to slow down who guesses.
            now_s: Seconds since 1970, UTC.

        Raises:
            UnauthorizedError: It is another one.
            QuotaError: Too many were wrong from this address; says when to try again.
        """
        with self._checking:
            self._guard.check(address, now_s)
            if not hmac.compare_digest(_slow(password, self._salt), self._hash):
                self._guard.failed(address, now_s)
                raise UnauthorizedError("password", expected="the one of the settings", got="another")
            self._guard.forget(address)
        return Session(secrets.token_urlsafe(16), int(now_s + LIFETIME_S))

    def log_out(self, session: Session, now_s: float) -> None:
        """End a session, whoever has its cookie."""
        with self._checking:
            self._ended = {nonce: until for nonce, until in self._ended.items() if until > now_s}
            self._ended[session.nonce] = session.until_s

    def cookie(self, session: Session) -> str:
        """Write a session as a cookie's value."""
        text = f"{session.nonce}.{session.until_s}"
        return f"{text}.{self._sign('session', text)}"

    def session(self, cookie: str, now_s: float) -> Session | None:
        """Read a cookie's value.

        Args:
            cookie: As the browser sent it; empty: it sent none.
            now_s: Seconds since 1970, UTC.

        Returns:
            None: it is not ours, or has ended.
        """
        if not self.needed:
            return ANYBODY
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(_bytes(signature), self._sign("session", text).encode()):
            return None
        nonce, until = text.split(".")
        if now_s >= int(until) or nonce in self._ended:
            return None
        return Session(nonce, int(until))

    def word(self, nonce: str) -> str:
        """Give what every request of a session that changes something has to carry."""
        return self._sign("word", nonce)

    def fits(self, word: str, nonce: str) -> bool:
        """Say whether a request carries the right word."""
        return hmac.compare_digest(_bytes(word), self.word(nonce).encode())

    def _sign(self, purpose: str, text: str) -> str:
        digest = hmac.new(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")


class Guard:
    """Makes those wait who give wrong passwords: five are free, then 2 s, doubling up to five minutes."""

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[int, float]] = {}

    def check(self, address: str, now_s: float) -> None:
        """Refuse an address that has to wait.

        Raises:
            QuotaError: It has; says for how long.
        """
        count, since_s = self._wrong.get(_near(address), (0, now_s))
        if count < _FREE_TRIES:
            return
        left_s = since_s + min(2.0 ** (count - _FREE_TRIES + 1), _LONGEST_WAIT_S) - now_s
        if left_s > 0:
            raise QuotaError("password", retry_after_s=left_s, got=f"{count} wrong ones")

    def failed(self, address: str, now_s: float) -> None:
        """Count a wrong password."""
        near = _near(address)
        count, since_s = self._wrong.pop(near, (0, now_s))
        self._wrong[near] = (count + 1 if now_s - since_s < _FORGET_S else 1, now_s)
        if len(self._wrong) > _ADDRESSES:
            del self._wrong[next(iter(self._wrong))]

    def forget(self, address: str) -> None:
        """Forget what an address did wrong: it has given the right one."""
        self._wrong.pop(_near(address), None)


def _near(address: str) -> str:
    """Give the network of an IPv6 address: one machine has all of a /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))


def _slow(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)


def _bytes(sent: str) -> bytes:
    return sent.encode("utf-8", "replace")
