"""An update on a device: its states, what can happen to it, and every reason for which it ends.

The tables that join them are `edge_runtime.update.machine`; this module only names things.
"""

from enum import StrEnum

from edge_runtime.contract.errors import UpdateError


class State(StrEnum):
    """Where an update is. The last five are ends."""

    IDLE = "idle"
    NOTIFIED = "notified"
    """A desired version is known, nothing of it is believed yet."""
    VERIFYING_METADATA = "verifying-metadata"
    PREFLIGHT = "preflight"
    """Is it meant for this device, and is there room on disk and in memory?"""
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    """Digest, signature and archive of what was downloaded."""
    STAGED = "staged"
    """Whole and genuine, in the free slot."""
    WAITING_WINDOW = "waiting-window"
    """Until the store's maintenance window."""
    SWITCHING = "switching"
    TRIAL = "trial"
    """The new version beside the old one, which goes on answering."""
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


ENDS = frozenset({State.COMMITTED, State.ROLLED_BACK, State.FAILED, State.REJECTED, State.CANCELLED})


class Happening(StrEnum):
    """What can happen to an update."""

    DESIRED = "desired"
    """A version other than the active one is wanted."""
    BEGIN = "begin"
    DONE = "done"
    """The work of this state succeeded; of an end: everything is tidied up."""
    REFUSED = "refused"
    """It is not genuine, or not meant for this device: no sense in trying again."""
    NO_PATCH = "no-patch"
    """The patch is gone or damaged, and the whole file may be fetched instead."""
    BROKEN = "broken"
    """The work failed for good, after all attempts."""
    UNHEALTHY = "unhealthy"
    """The new version does not stand its trial."""
    CRASHED = "crashed"
    """The process died in the trial more often than is allowed."""
    CANCEL = "cancel"
    WINDOW_OPEN = "window-open"
    NO_WINDOW = "no-window"
    """It may switch at any time."""


class Failure(StrEnum):
    """Why an update ended or a message was refused; each is reported to the manager by this code."""

    MESSAGE_MALFORMED = "message-malformed"
    MESSAGE_TOO_LARGE = "message-too-large"
    MESSAGE_VERSION = "message-version"
    MESSAGE_UNKNOWN_FIELD = "message-unknown-field"
    MESSAGE_FOREIGN_TOPIC = "message-foreign-topic"
    MESSAGE_STALE = "message-stale"
    """Older than what is known: a duplicate, a reordering, or an old retained message."""
    METADATA_REPLAY = "metadata-replay"
    METADATA_FREEZE = "metadata-freeze"
    METADATA_EXPIRED = "metadata-expired"
    METADATA_MIX_AND_MATCH = "metadata-mix-and-match"
    METADATA_SIGNATURE = "metadata-signature"
    METADATA_MALFORMED = "metadata-malformed"
    METADATA_UNREACHABLE = "metadata-unreachable"
    TARGET_UNKNOWN = "target-unknown"
    DOWNGRADE = "downgrade"
    WRONG_PROFILE = "wrong-profile"
    WRONG_TENANT = "wrong-tenant"
    CLOCK_BEHIND = "clock-behind"
    """This device's clock is before the last time it trusted."""
    NO_DISK = "no-disk"
    NO_MEMORY = "no-memory"
    DOWNLOAD_FAILED = "download-failed"
    DOWNLOAD_CHANGED = "download-changed"
    """The file changed on the server in the middle."""
    DOWNLOAD_NO_RANGE = "download-no-range"
    """The server ignores Range, and the whole is not allowed again."""
    DELTA_WRONG_BASE = "delta-wrong-base"
    DELTA_BROKEN = "delta-broken"
    DIGEST = "digest"
    SIGNATURE = "signature"
    ARCHIVE_UNSAFE = "archive-unsafe"
    """Paths that leave the folder, links, or far more bytes than it says."""
    ARCHIVE_BROKEN = "archive-broken"
    CONFIG_INVALID = "config-invalid"
    OPEN_FAILED = "open-failed"
    """No engine here opens it."""
    GOLDEN_MISMATCH = "golden-mismatch"
    NOT_A_NUMBER = "not-a-number"
    TOO_SLOW = "too-slow"
    TOO_MANY_ERRORS = "too-many-errors"
    TOO_MUCH_MEMORY = "too-much-memory"
    SHADOW_DISAGREES = "shadow-disagrees"
    CRASHED_IN_TRIAL = "crashed-in-trial"
    STORAGE = "storage"
    CANCELLED = "cancelled"
    COMMAND_EXPIRED = "command-expired"
    COMMAND_UNKNOWN = "command-unknown"
    COMMAND_FORBIDDEN = "command-forbidden"


class UpdateFailedError(UpdateError):
    """An update cannot go on.

    Args:
        code: Why; it is reported to the manager.
        problem: As for `EdgeRuntimeError`.
        retryable: Whether the same step can succeed later without anyone changing anything.
        expected: As for `EdgeRuntimeError`.
        got: As for `EdgeRuntimeError`.
        do: As for `EdgeRuntimeError`.
    """

    def __init__(
        self,
        code: Failure,
        problem: str,
        *,
        retryable: bool = False,
        expected: str | None = None,
        got: str | None = None,
        do: str | None = None,
    ) -> None:
        super().__init__(problem, expected=expected, got=got, do=do)
        self.code = code
        self.retryable = retryable
