"""The gate before everything else: data that may never leave the device does not.

Removes nothing itself: a redaction hook does, and says which classes it removed.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Gate:
    """The settings of now, for what is no model's question, and for what is owed since other settings.

    Args:
        never_leave: Classes that are kept here, by model.
        local_only: Models about which the cloud is never asked.
    """

    never_leave: Mapping[str, AbstractSet[DataClass]]
    local_only: AbstractSet[str] = frozenset()

    def stops(self, model: str | None, data: AbstractSet[DataClass]) -> str:
        """Say why something may not leave.

        Args:
            model: As the settings call it. For None, and for one that the settings no longer have, what any
                model keeps here is kept.
            data: What it holds as it would be sent.

        Returns:
            For a person; empty: it may leave.
        """
        if model in self.local_only:
            return f"by its policy '{model}' never asks the cloud"
        never = self.never_leave.get(model) if model is not None else None
        if never is None:
            never = frozenset[DataClass]().union(*self.never_leave.values())
        kept = forbidden(never, data, frozenset())
        return f"{', '.join(sorted(kept))} may not leave by the settings" if kept else ""
