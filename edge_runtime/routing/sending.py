"""Sending: which stream of the outbox may send now, and when the next one may.

Pure: `now` and dice come in. Holds no parcel and sends none; not thread-safe.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SendingOptions:
    """How fast what failed is sent again.

    Args:
        first_s: Pause after the first failure; doubles with each further one.
        longest_s: It does not double further than this.
        most_attempts: A parcel at which the cloud itself fails so often is put aside, so that those behind it
            come up.
    """

    first_s: float = 1.0
    longest_s: float = 300.0
    most_attempts: int = 30


class Sending:
    """One schedule for all streams.

    A stream whose parcel failed waits, twice as long each time. Where the cloud itself is away, all wait
    together, so that a hundred streams do not knock a hundred times.

    Args:
        options: How fast.

    Attributes:
        options: Likewise.
    """

    def __init__(self, options: SendingOptions | None = None) -> None:
        self.options = options or SendingOptions()
        self._streams: dict[str, _Pause] = {}
        self._all = _Pause()

    def ready(self, stream: str, now_s: float) -> bool:
        """Say whether a stream may send now."""
        return now_s >= max(self._all.until_s, self._streams.get(stream, _NONE).until_s)

    def failed(self, stream: str, now_s: float, dice: float, *, away: bool, asked_s: float = 0.0) -> float:
        """Take in that a parcel did not get through.

        Args:
            stream: Its stream.
            now_s: Monotonic seconds.
            dice: Uniform in [0, 1); spreads devices that failed together.
            away: Whether the cloud itself is, so that everything waits.
            asked_s: The server's Retry-After, which is never undercut.

        Returns:
            Seconds until the stream may send again.
        """
        pause = self._all if away else self._streams.setdefault(stream, _Pause())
        options = self.options
        longest_s = min(options.longest_s, options.first_s * 2.0 ** min(pause.failures, 32))
        wait_s = max(asked_s, longest_s * (0.5 + dice / 2))
        pause.failures += 1
        pause.until_s = now_s + wait_s
        return wait_s

    def sent(self, stream: str) -> None:
        """Take in that a parcel got through, or was given up: the cloud is there, and the stream goes on."""
        self._streams.pop(stream, None)
        self._all = _Pause()

    def back(self) -> None:
        """Take in that the cloud can be reached again: nobody waits for it any longer."""
        self._all = _Pause()

    def wake_at(self, streams: tuple[str, ...]) -> float | None:
        """Say when the first of these streams may send, in monotonic seconds; None: there are none."""
        untils = [max(self._all.until_s, self._streams.get(one, _NONE).until_s) for one in streams]
        return min(untils, default=None)


@dataclass(slots=True)
class _Pause:
    failures: int = 0
    until_s: float = float("-inf")


_NONE = _Pause()
