"""The gate before everything else: data that may never leave the device does not.

Removes nothing itself: a redaction hook does, and says which classes it removed.
"""

from collections.abc import Set as AbstractSet

from edge_runtime.contract.route import DataClass


def forbidden(
    never_leave: AbstractSet[DataClass], data: AbstractSet[DataClass], redacted: AbstractSet[DataClass]
) -> frozenset[DataClass]:
    """Find what keeps a request on the device.

    Args:
        never_leave: Classes the policy keeps here.
        data: What the request holds.
        redacted: What was removed from the copy that would be sent.

    Returns:
        Classes that are kept here and would be sent; empty: the request may leave.
    """
    if not never_leave:
        return frozenset()
    return frozenset((data & never_leave) - redacted)
