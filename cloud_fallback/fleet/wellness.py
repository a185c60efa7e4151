"""Is a device worse off with a new version than before? Compares two reports of its health. Pure.

One bad report may be chance, and a trial beside what runs makes everything slower: whoever asks counts how
many follow each other, of a device at rest.
"""

from edge_runtime.contract.fleet import Health

REPORTS = 2
"""So many bad reports one after the other make a regression."""
APART_S = 60.0
"""And so far apart: reports come in a row when a state changes, and tell of the same seconds."""
_FPS_RATIO = 0.7
_LATENCY_RATIO = 2.0
_ERRORS_MORE = 0.1
"""Errors a second that are nothing yet."""
_ERRORS_RATIO = 2.0


def worse(before: Health, after: Health) -> str | None:
    """Say what is worse.

    Args:
        before: When it was offered the version.
        after: With the version.

    Returns:
        For a person, with the numbers; None: nothing.
    """
    offline = after.cameras - after.cameras_online
    if after.cameras_online < before.cameras_online and offline > before.cameras - before.cameras_online:
        return f"{after.cameras_online} cameras online, {before.cameras_online} before"
    expected = _expected_fps(before, after)
    if after.fps < _FPS_RATIO * expected:
        asked = f", so that {expected:.1f} are to be expected" if expected < before.fps else ""
        return f"{after.fps:.1f} pictures a second, {before.fps:.1f} before{asked}"
    if after.errors_per_s > max(_ERRORS_MORE, _ERRORS_RATIO * before.errors_per_s):
        return f"{after.errors_per_s:.2f} errors a second, {before.errors_per_s:.2f} before"
    old_ms, new_ms = before.latency_p95_ms, after.latency_p95_ms
    if old_ms and new_ms is not None and new_ms > _LATENCY_RATIO * old_ms:
        return f"p95 {new_ms:.0f} ms, {old_ms:.0f} ms before"
    new = [each for each in after.trouble if each not in before.trouble]
    return f"new trouble: {new[0]}" if new else None


def _expected_fps(before: Health, after: Health) -> float:
    """Say how many pictures a second a device as good as before has: settings may ask for fewer of them."""
    if before.fps_asked is not None and after.fps_asked is not None:
        share = after.fps_asked / before.fps_asked if before.fps_asked else 1.0
        return before.fps * min(1.0, share)
    expected = before.fps
    if before.cameras:
        expected *= min(1.0, after.cameras / before.cameras)
    return expected if after.fps_asked is None else min(expected, after.fps_asked)
