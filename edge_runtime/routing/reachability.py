"""Online or not, as measured: by the requests themselves, and by probes where there are none.

Sends no probe and reads no clock: it says when the next one is due. Pure; not thread-safe.
"""

from dataclasses import dataclass

from edge_runtime.contract.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ReachabilityOptions:
    """How fast a change is believed.

    Args:
        probe_every_s: Between probes while nothing else tells; spread by a fifth either way.
        confirm_s: Until the next probe when the last result contradicts the state, or the link has just gone.
        down_after: Failures in a row that mean offline.
        up_after: Successes in a row that mean online again.
    """

    probe_every_s: float = 15.0
    confirm_s: float = 1.0
    down_after: int = 3
    up_after: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.confirm_s <= self.probe_every_s or self.down_after < 1 or self.up_after < 1:
            raise ConfigError(
                "cloud: probe_every_s",
                expected=f"at least {self.confirm_s:g} s, and one result or more for a change",
                got=f"{self.probe_every_s:g} s, {self.down_after} and {self.up_after}",
            )


def is_ours(status: int, echoed: str | None, nonce: str) -> bool:
    """Say whether a probe was answered by the cloud itself, and for this probe.

    A captive portal answers 200 to everything, a redirecting one 30x, a cache with an old answer: none of
    them knows the number that this probe made up.

    Args:
        status: Of the answer.
        echoed: The number that came back.
        nonce: The number that was sent.
    """
    return 200 <= status < 300 and bool(nonce) and echoed == nonce


class Reachability:
    """Whether the cloud can be reached.

    A change needs several results in a row, so that a flapping link does not switch with every flap. It
    starts online: the first requests tell. Where a result contradicts the state, the next probe comes soon;
    so it does after the link has gone, and then ever more rarely, because most outages are short.

    Args:
        options: How fast a change is believed.
        now_s: Monotonic seconds.
        dice: Uniform in [0, 1); spreads devices that start together.
    """

    def __init__(self, options: ReachabilityOptions, now_s: float, dice: float) -> None:
        self._options = options
        self._against = 0
        self._misses = 0
        self._probe_at_s = now_s + options.confirm_s * dice
        self.online = True
        """Whether it can be reached, as far as is known."""
        self.changes = 0
        """How often that changed."""

    def heard(self, now_s: float, *, reached: bool, dice: float) -> bool:
        """Take in a result, of a request or of a probe.

        Args:
            now_s: Monotonic seconds, when it came.
            reached: Whether the cloud itself answered, with whatever: `retry.MEANINGS[…].offline` tells which
                failures are none of its; a probe's answer has to be `is_ours`.
            dice: Uniform in [0, 1).

        Returns:
            Whether online changed to offline or back.
        """
        options = self._options
        self._against = 0 if reached is self.online else self._against + 1
        changed = self._against >= (options.down_after if self.online else options.up_after)
        if changed:
            self.online = reached
            self.changes += 1
            self._against = 0
        self._misses = 0 if reached or changed else self._misses + 1
        wait_s = options.probe_every_s
        if self._against:
            wait_s = options.confirm_s
        elif not self.online:
            wait_s = min(wait_s, options.confirm_s * 2.0 ** min(self._misses, 32))
        self._probe_at_s = now_s + wait_s * (0.8 + 0.4 * dice)
        return changed

    def probing(self, now_s: float, dice: float) -> None:
        """Note that a probe is sent now: the next is due a period later, whatever becomes of it."""
        self._probe_at_s = now_s + self._options.probe_every_s * (0.8 + 0.4 * dice)

    def wake_at(self) -> float:
        """Say when the next probe is due, in monotonic seconds; requests that tell put it off."""
        return self._probe_at_s
