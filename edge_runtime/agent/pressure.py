"""How hot, how full and how late this machine is, and what the ladder makes of it.

Reads psutil's sensors, the kernel's counters and the limits of a container. Slows nobody down itself: whoever
owns the cameras does.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import psutil

from edge_runtime.contract.device import Thermal
from edge_runtime.contract.status import CameraState, CameraStatus
from edge_runtime.settings.resilience import DegradeSettings
from edge_runtime.video.ladder import Ladder, LadderOptions, Pressure, Step

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""Reading sensors takes about a millisecond."""

MARGIN_C = 5.0
"""Frames are given up this far below where the maker lowers the clock."""

HIGH_MARGIN_C = 10.0
"""The same below what a sensor calls high, where the profile says nothing: often the last it survives."""

_PROCESSOR = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
"""Names that Linux drivers give the processor's sensors, best first."""

_NOW_THROTTLED = 0b1110
"""Of a Raspberry Pi's `get_throttled`: frequency capped, throttled, or at its soft limit, now."""


class Machine:
    """The sensors of this machine.

    Args:
        system: Where the kernel shows itself.
    """

    def __init__(self, system: Path = Path("/sys")) -> None:
        self._system = system
        self._throttles: int | None = None

    def pressure(self, cameras: Iterable[CameraStatus]) -> Pressure:
        """Look at everything.

        Args:
            cameras: How old their answers are.
        """
        ages = [
            camera.age_s
            for camera in cameras
            if camera.age_s is not None and camera.state is CameraState.ONLINE
        ]
        temperature, _ = self.temperature()
        return Pressure(
            temperature_c=temperature,
            throttled=self.throttled(),
            memory_free_share=self.memory_free_share(),
            age_s=max(ages, default=None),
        )

    def temperature(self) -> tuple[float | None, float | None]:
        """Give the hottest sensor of the processor, and what it calls high; None: it has none."""
        # Not on every system, and typed for none that has it not.
        read = getattr(psutil, "sensors_temperatures", None)
        sensors = cast("dict[str, list[Any]]", read()) if read is not None else {}
        name = next((name for name in _PROCESSOR if sensors.get(name)), None)
        entries = sensors[name] if name is not None else []
        values = [float(entry.current) for entry in entries if entry.current]
        highs = [float(entry.high) for entry in entries if entry.high]
        return max(values, default=None), min(highs, default=None)

    def throttled(self) -> bool:
        """Tell whether the processor was slowed down for its heat since the last call."""
        counts = [
            int(text)
            for path in self._system.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
            if (text := _read(path)).isdigit()
        ]
        total, before = sum(counts), self._throttles
        self._throttles = total
        board = _read(self._system / "devices/platform/soc/soc:firmware/get_throttled")
        return (before is not None and total > before) or _bits(board) & _NOW_THROTTLED != 0

    def memory_free_share(self) -> float:
        """Give the share of the memory that is left for this process, in its container where it is in one."""
        memory = psutil.virtual_memory()
        shares = [memory.available / memory.total]
        group = self._system / "fs/cgroup"
        limit, used = _read(group / "memory.max"), _read(group / "memory.current")
        if limit.isdigit() and used.isdigit() and int(limit) > 0:
            # Pages of files that nobody needs now are counted as used and can be taken back at once.
            idle = sum(
                int(line.split()[1])
                for line in _read(group / "memory.stat").splitlines()
                if line.startswith("inactive_file ")
            )
            shares.append(max(0.0, 1 - (int(used) - idle) / int(limit)))
        return min(shares)


class Relief:
    """The ladder of this machine, looked at now and then.

    Args:
        settings: When it gives way.
        thermal: Of the device profile.
        machine: Its sensors.
    """

    def __init__(self, settings: DegradeSettings, thermal: Thermal, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self._next_s: float | None = None
        self.ladder = Ladder(
            LadderOptions(
                hot_c=hot_from(settings, thermal, self._machine.temperature()[1]),
                memory_free_share=settings.memory_free_share,
                late_s=settings.late_s,
            )
        )

    def look(self, cameras: Iterable[CameraStatus], now_s: float) -> Step | None:
        """Look, if it is time to.

        Args:
            cameras: How they are doing.
            now_s: Monotonic clock.

        Returns:
            What is left from now on; None: as before.
        """
        if self._next_s is not None and now_s < self._next_s:
            return None
        self._next_s = now_s + LOOK_EVERY_S
        ladder = self.ladder
        if not ladder.look(self._machine.pressure(cameras), now_s):
            return None
        rest = f"cameras at {ladder.step.share:.0%} of their rate"
        extras = "" if ladder.step.extras else ", no annotated videos, slow live views"
        if ladder.level:
            log.warning("level %d: %s; %s%s", ladder.level, ladder.reason, rest, extras)
        else:
            log.info("level 0: the machine is well again; %s", rest)
        return ladder.step


def hot_from(settings: DegradeSettings, thermal: Thermal, high_c: float | None) -> float | None:
    """Say from where it is too hot: the settings, the device profile, the sensors; None: nobody knows."""
    if settings.hot_c is not None:
        return settings.hot_c
    if thermal.throttle_c is not None:
        return thermal.throttle_c - MARGIN_C
    return None if high_c is None else high_c - HIGH_MARGIN_C


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # not this kind of machine


def _bits(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
