"""What each failure of a call to the cloud means: for a retry, for the breaker, and for being online.

One table, drawn in the documentation. Waits for nothing, catches nothing: the cloud client names the failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """How a call to the cloud went wrong."""

    UNREACHABLE = "unreachable"
    """No connection: refused, no route, no name, or no answer to the connection in time."""
    UNTRUSTED = "untrusted"
    """The certificate is not the cloud's."""
    NOT_OURS = "not-ours"
    """Somebody else answered: a captive portal, a proxy, a router's login page."""
    TIMEOUT = "timeout"
    """Sent, and no answer in time; a half-open socket looks like this."""
    CUT = "cut"
    """The connection broke after something was sent."""
    OVERLOADED = "overloaded"
    """503: the cloud has no room now."""
    GATEWAY = "gateway"
    """502 or 504 of something between here and the cloud, or 408."""
    SERVER = "server"
    """Any other 5xx."""
    QUOTA = "quota"
    """429: this key has used up its share."""
    UNAUTHORIZED = "unauthorized"
    """401 or 403."""
    REQUEST = "request"
    """Any other 4xx: the request is wrong. Of a 404 the outbox knows better: a model may be loading still."""


class Again(StrEnum):
    """Whether the same request may be sent again."""

    YES = "yes"
    WITH_KEY = "with a key"
    """Only with an idempotency key: the first one may have been done."""
    NO = "no"


class Whose(StrEnum):
    """Whose breaker counts a failure."""

    NOBODY = "nobody's"
    MODEL = "the model's"
    """The cloud is there and this model failed, or took too long: others may do well."""
    ENDPOINT = "the endpoint's"
    """Nobody got as far as a model."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a failure means.

    Args:
        again: Whether to send the request again.
        opens: Whose breaker counts it.
        offline: Whether it counts against being online.
        why: For a person.
    """

    again: Again
    opens: Whose
    offline: bool
    why: str


MEANINGS: Mapping[Failure, Meaning] = {
    Failure.UNREACHABLE: Meaning(
        Again.YES, Whose.ENDPOINT, True, "nothing was sent; networks come back in seconds"
    ),
    Failure.UNTRUSTED: Meaning(
        Again.NO, Whose.ENDPOINT, True, "a wrong certificate stays wrong; somebody may be listening"
    ),
    Failure.NOT_OURS: Meaning(
        Again.NO, Whose.ENDPOINT, True, "it goes on until somebody logs in; the probe notices when it ends"
    ),
    Failure.TIMEOUT: Meaning(Again.WITH_KEY, Whose.MODEL, True, "the cloud may have done the work already"),
    Failure.CUT: Meaning(Again.WITH_KEY, Whose.ENDPOINT, True, "the cloud may have done the work already"),
    Failure.OVERLOADED: Meaning(
        Again.YES, Whose.MODEL, False, "it did nothing and says when to come back (Retry-After)"
    ),
    Failure.GATEWAY: Meaning(
        Again.WITH_KEY, Whose.ENDPOINT, False, "it may have reached the cloud before the gateway gave up"
    ),
    Failure.SERVER: Meaning(
        Again.WITH_KEY, Whose.MODEL, False, "it may pass, and may have been done in part"
    ),
    Failure.QUOTA: Meaning(
        Again.NO, Whose.NOBODY, False, "more requests make it worse; the device's budget is for this"
    ),
    Failure.UNAUTHORIZED: Meaning(Again.NO, Whose.NOBODY, False, "the same token is refused again"),
    Failure.REQUEST: Meaning(Again.NO, Whose.NOBODY, False, "the same request is wrong again"),
}
"""By failure. A wrong request is the caller's fault: it neither opens the breaker nor means offline."""


def failure_of(status: int) -> Failure | None:
    """Name the failure that an HTTP status of the cloud tells of; None: it is none.

    A redirect is somebody else's: the cloud sends none.
    """
    if 200 <= status < 300:
        return None
    if status < 400:
        return Failure.NOT_OURS
    named = {
        401: Failure.UNAUTHORIZED,
        403: Failure.UNAUTHORIZED,
        408: Failure.GATEWAY,
        429: Failure.QUOTA,
        502: Failure.GATEWAY,
        503: Failure.OVERLOADED,
        504: Failure.GATEWAY,
    }
    return named.get(status, Failure.SERVER if status >= 500 else Failure.REQUEST)


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How often and how fast a request is sent again.

    Args:
        retries: After the first time.
        first_s: Wait before the first retry; doubles each time.
        longest_s: It does not double further than this.
    """

    retries: int = 2
    first_s: float = 0.1
    longest_s: float = 10.0


def retry_after_s(
    failure: Failure,
    attempt: int,
    *,
    options: RetryOptions,
    keyed: bool,
    left_s: float,
    dice: float,
    typical_s: float = 0.0,
    asked_s: float = 0.0,
) -> float | None:
    """Say how long to wait before a request is sent again.

    Args:
        failure: Of the last attempt.
        attempt: Retries before this one; 0 after the first failure.
        options: How often and how fast.
        keyed: Whether it carries an idempotency key.
        left_s: Until the answer is worth nothing.
        dice: Uniform in [0, 1); spreads devices that failed together.
        typical_s: What an answer takes; a retry that cannot be back in time is not worth sending.
        asked_s: The server's Retry-After, which is never undercut.

    Returns:
        Seconds, at least `asked_s`; None: do not send it again.
    """
    again = MEANINGS[failure].again
    if attempt >= options.retries or again is Again.NO or (again is Again.WITH_KEY and not keyed):
        return None
    wait_s = min(options.longest_s, options.first_s * 2.0 ** min(attempt, 32)) * (0.5 + dice / 2)
    wait_s = max(wait_s, asked_s)
    return wait_s if wait_s + typical_s < left_s else None
