"""Sessions of the console: a signed cookie that names a token by its SHA-256, and a word for forms.

Pure: time and dice are handed in. The cookie holds no secret that the API would take; whether its token is
still good is asked anew with every request.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass

LIFETIME_S = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Session:
    """A login.

    Args:
        token_sha256: Of the token that was logged in with.
        nonce: Of this login alone.
        until_s: When it ends, in seconds since 1970, UTC.
    """

    token_sha256: str
    nonce: str
    until_s: int


class Seal:
    """Signs sessions and forms.

    Args:
        key: Of all replicas.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def cookie(self, session: Session) -> str:
        """Write a session as a cookie's value."""
        text = f"{session.token_sha256}.{session.nonce}.{session.until_s}"
        return f"{text}.{self._sign('session', text)}"

    def session(self, cookie: str, now_s: float) -> Session | None:
        """Read a cookie's value.

        Args:
            cookie: As the browser sent it.
            now_s: Seconds since 1970, UTC.

        Returns:
            None: it is not of this fleet, or has ended.
        """
        text, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign("session", text).encode()):
            return None
        token_sha256, nonce, until = text.split(".")
        return Session(token_sha256, nonce, int(until)) if now_s < int(until) else None

    def word(self, nonce: str) -> str:
        """Give what every form of a session has to carry."""
        return self._sign("form", nonce)

    def fits(self, word: str, nonce: str) -> bool:
        """Say whether a form carries the right word."""
        return hmac.compare_digest(word.encode(), self.word(nonce).encode())

    def _sign(self, purpose: str, text: str) -> str:
        digest = hmac.new(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")
