"""What an update does next: one table for what happens to it, one for a start after a loss of power.

Pure: it does nothing itself. `edge_runtime.update.updater` carries out effects, all of which may be begun
again from their start at any time.
"""

from enum import StrEnum

from edge_runtime.contract.errors import UpdateError
from edge_runtime.contract.update import Failure, Happening, State


class Effect(StrEnum):
    """What is done in a state, and again after a restart in it."""

    REST = "rest"
    AWAIT_TURN = "await-turn"
    """Until no other update is being fetched or tried."""
    TRUST = "trust"
    """Refresh the signed metadata and look the target up."""
    CHECK = "check"
    """Hold what the metadata says against this device."""
    FETCH = "fetch"
    VERIFY = "verify"
    """Digest, and unpacking into the free slot."""
    ASK_WINDOW = "ask-window"
    AWAIT_WINDOW = "await-window"
    SWITCH = "switch"
    """Name the new version as the candidate, beside the active one."""
    TRY = "try"
    COMMIT = "commit"
    """Make the candidate the active version."""
    DROP = "drop"
    """Forget the candidate and what was fetched; the active version was never touched."""


_S, _H, _E = State, Happening, Effect

TRANSITIONS: dict[tuple[State, Happening], tuple[State, Effect]] = {
    (_S.IDLE, _H.DESIRED): (_S.NOTIFIED, _E.AWAIT_TURN),
    (_S.NOTIFIED, _H.BEGIN): (_S.VERIFYING_METADATA, _E.TRUST),
    (_S.NOTIFIED, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.VERIFYING_METADATA, _H.DONE): (_S.PREFLIGHT, _E.CHECK),
    (_S.VERIFYING_METADATA, _H.REFUSED): (_S.REJECTED, _E.DROP),
    (_S.VERIFYING_METADATA, _H.BROKEN): (_S.FAILED, _E.DROP),
    (_S.VERIFYING_METADATA, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.PREFLIGHT, _H.DONE): (_S.DOWNLOADING, _E.FETCH),
    (_S.PREFLIGHT, _H.REFUSED): (_S.REJECTED, _E.DROP),
    (_S.PREFLIGHT, _H.BROKEN): (_S.FAILED, _E.DROP),
    (_S.PREFLIGHT, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.DOWNLOADING, _H.DONE): (_S.VERIFYING, _E.VERIFY),
    (_S.DOWNLOADING, _H.REFUSED): (_S.REJECTED, _E.DROP),
    (_S.DOWNLOADING, _H.NO_PATCH): (_S.PREFLIGHT, _E.CHECK),
    (_S.DOWNLOADING, _H.BROKEN): (_S.FAILED, _E.DROP),
    (_S.DOWNLOADING, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.VERIFYING, _H.DONE): (_S.STAGED, _E.ASK_WINDOW),
    (_S.VERIFYING, _H.REFUSED): (_S.REJECTED, _E.DROP),
    (_S.VERIFYING, _H.NO_PATCH): (_S.PREFLIGHT, _E.CHECK),
    (_S.VERIFYING, _H.BROKEN): (_S.FAILED, _E.DROP),
    (_S.VERIFYING, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.STAGED, _H.DONE): (_S.WAITING_WINDOW, _E.AWAIT_WINDOW),
    (_S.STAGED, _H.NO_WINDOW): (_S.SWITCHING, _E.SWITCH),
    (_S.STAGED, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.WAITING_WINDOW, _H.WINDOW_OPEN): (_S.SWITCHING, _E.SWITCH),
    (_S.WAITING_WINDOW, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.SWITCHING, _H.DONE): (_S.TRIAL, _E.TRY),
    (_S.SWITCHING, _H.BROKEN): (_S.FAILED, _E.DROP),
    (_S.SWITCHING, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.TRIAL, _H.DONE): (_S.COMMITTED, _E.COMMIT),
    (_S.TRIAL, _H.UNHEALTHY): (_S.ROLLED_BACK, _E.DROP),
    (_S.TRIAL, _H.CRASHED): (_S.ROLLED_BACK, _E.DROP),
    (_S.TRIAL, _H.BROKEN): (_S.ROLLED_BACK, _E.DROP),
    (_S.TRIAL, _H.CANCEL): (_S.CANCELLED, _E.DROP),
    (_S.COMMITTED, _H.DONE): (_S.IDLE, _E.REST),
    (_S.ROLLED_BACK, _H.DONE): (_S.IDLE, _E.REST),
    (_S.FAILED, _H.DONE): (_S.IDLE, _E.REST),
    (_S.REJECTED, _H.DONE): (_S.IDLE, _E.REST),
    (_S.CANCELLED, _H.DONE): (_S.IDLE, _E.REST),
}
"""What happens, and where it leads; what is not here cannot happen."""

RESUME: dict[State, tuple[State, Effect]] = {
    _S.IDLE: (_S.IDLE, _E.REST),
    _S.NOTIFIED: (_S.NOTIFIED, _E.AWAIT_TURN),
    _S.VERIFYING_METADATA: (_S.VERIFYING_METADATA, _E.TRUST),
    _S.PREFLIGHT: (_S.PREFLIGHT, _E.CHECK),
    _S.DOWNLOADING: (_S.DOWNLOADING, _E.FETCH),
    _S.VERIFYING: (_S.VERIFYING, _E.VERIFY),
    _S.STAGED: (_S.STAGED, _E.ASK_WINDOW),
    _S.WAITING_WINDOW: (_S.WAITING_WINDOW, _E.AWAIT_WINDOW),
    # The power may have been away for longer than the window was open.
    _S.SWITCHING: (_S.STAGED, _E.ASK_WINDOW),
    _S.TRIAL: (_S.TRIAL, _E.TRY),
    _S.COMMITTED: (_S.COMMITTED, _E.COMMIT),
    _S.ROLLED_BACK: (_S.ROLLED_BACK, _E.DROP),
    _S.FAILED: (_S.FAILED, _E.DROP),
    _S.REJECTED: (_S.REJECTED, _E.DROP),
    _S.CANCELLED: (_S.CANCELLED, _E.DROP),
}
"""Where a start goes on that finds a state in the journal."""

REFUSALS = frozenset({
    Failure.METADATA_REPLAY, Failure.METADATA_FREEZE, Failure.METADATA_EXPIRED,
    Failure.METADATA_MIX_AND_MATCH, Failure.METADATA_SIGNATURE, Failure.METADATA_MALFORMED,
    Failure.TARGET_UNKNOWN, Failure.DOWNGRADE, Failure.WRONG_PROFILE, Failure.WRONG_TENANT,
    Failure.DIGEST, Failure.SIGNATURE, Failure.ARCHIVE_UNSAFE, Failure.ARCHIVE_BROKEN, Failure.CONFIG_INVALID,
})  # fmt: skip
"""Not genuine, or not meant for this device."""

OF_PATCHES = frozenset({
    Failure.DOWNLOAD_FAILED, Failure.DOWNLOAD_CHANGED, Failure.DOWNLOAD_NO_RANGE, Failure.DELTA_WRONG_BASE,
    Failure.DELTA_BROKEN, Failure.DIGEST,
})  # fmt: skip
"""Failures of a patch that the whole file may not have."""


def after(state: State, happening: Happening) -> tuple[State, Effect]:
    """Look a transition up.

    Raises:
        UpdateError: That cannot happen in this state.
    """
    found = TRANSITIONS.get((state, happening))
    if found is None:
        allowed = ", ".join(each for each in Happening if (state, each) in TRANSITIONS)
        raise UpdateError(f"update in state {state}", expected=allowed, got=happening)
    return found


def may_cancel(state: State) -> bool:
    """Say whether an update in this state can be cancelled."""
    return (state, Happening.CANCEL) in TRANSITIONS


def happening_of(code: Failure, state: State) -> Happening:
    """Say what a failure means for an update in a state: it is refused, broken, crashed or unhealthy."""
    if state is State.TRIAL:
        trial = {Failure.CRASHED_IN_TRIAL: Happening.CRASHED, Failure.STORAGE: Happening.BROKEN}
        return trial.get(code, Happening.UNHEALTHY)
    if code in REFUSALS and (state, Happening.REFUSED) in TRANSITIONS:
        return Happening.REFUSED
    return Happening.BROKEN
