"""AgentHands: what a fleet's commands do to this agent; the fleet's `Hands` port. Answers nobody."""

import logging
import threading
import time

import cv2
import numpy as np
from pydantic import JsonValue

from edge_runtime.agent.running import Running
from edge_runtime.contract.errors import ConfigError, EngineError, InputError, RefusedError
from edge_runtime.contract.fleet import Health
from edge_runtime.contract.status import AgentStatus, CameraState, DropCause
from edge_runtime.settings import FleetSettings
from edge_runtime.sinks.audit import Act
from edge_runtime.sinks.drawing import picture_of
from edge_runtime.update.device import SystemMachine
from edge_runtime.update.trial_side import side_of
from edge_runtime.update.trial_tally import p95

log = logging.getLogger(__name__)

_LEVELS = {"debug", "info", "warning", "error"}
_QUALITY = 90
_TROUBLE = 20
_LEAST_RUNS = 3


class AgentHands:
    """The agent, as commands see it.

    Args:
        agent: What runs.
        settings: What the fleet may do here.
    """

    def __init__(self, agent: Running, settings: FleetSettings) -> None:
        self._agent = agent
        self._settings = settings
        self._machine = SystemMachine()
        self._log = logging.getLogger("edge_runtime")
        self._usual = self._log.level
        self._back: threading.Timer | None = None
        self._failures = (0, time.monotonic())

    @property
    def allows_snapshots(self) -> bool:
        """Whether a picture may leave this device."""
        return self._settings.snapshots == "allowed"

    def restart_pipeline(self, camera: str | None) -> None:
        """Open a camera's source anew; as the port says."""
        self._agent.restart(camera)

    def set_log_level(self, level: str, seconds: float | None) -> None:
        """Log more or less; as the port says."""
        if level not in _LEVELS:
            raise ConfigError("log level", expected=f"one of {', '.join(sorted(_LEVELS))}", got=level)
        self.close()
        self._log.setLevel(level.upper())
        log.warning("the fleet set the log level to %s%s", level, f" for {seconds:g} s" if seconds else "")
        if seconds is not None:
            self._back = threading.Timer(seconds, self._log.setLevel, (self._usual,))
            self._back.daemon = True
            self._back.start()

    def snapshot(self, camera: str) -> bytes:
        """Give a camera's newest picture as JPEG; as the port says."""
        if not self.allows_snapshots:
            raise RefusedError(
                "a picture of a camera",
                expected="`fleet.snapshots: allowed` in this store's settings",
                got="forbidden",
            )
        if camera not in self._agent.settings.cameras:
            known = ", ".join(sorted(self._agent.settings.cameras)) or "none"
            raise ConfigError(f"camera '{camera}'", expected=f"one of {known}", got=camera)
        scene = self._agent.last_scene(camera)
        if scene is None:
            raise InputError(f"camera '{camera}'", expected="a picture", got="none yet", do="Try again later")
        image = picture_of(scene, scene.frame.picture.height)
        done, jpeg = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        if not done:
            raise InputError(
                f"camera '{camera}'", expected="a picture that can be encoded", got="another one"
            )
        facts = {"camera": camera, "blur": self._agent.settings.privacy.blur}
        self._agent.audit.trail.note(Act.PICTURE_GIVEN, "fleet", facts)
        return jpeg.tobytes()

    def benchmark(self, seconds: float) -> dict[str, JsonValue]:
        """Run every open model for its share of the time, beside what it does; as the port says."""
        agent = self._agent
        names = [name for name in agent.settings.models if agent.adoption.incumbent(name) is not None]
        if not names:
            raise EngineError("benchmark", expected="a model that is open", got="none")
        found: dict[str, JsonValue] = {name: self._measured(name, seconds / len(names)) for name in names}
        status = agent.status()
        return {"models": found, "cpu_cores": status.cpu_cores, "rss_bytes": status.rss_bytes}

    def health(self) -> Health:
        """Say how the device is doing; as the port says."""
        status = self._agent.status()
        cameras = status.cameras
        latencies = [each.latency.p95_ms for each in cameras if each.latency.p95_ms > 0]
        return Health(
            uptime_s=status.uptime_s,
            cpu_cores=status.cpu_cores,
            rss_bytes=status.rss_bytes,
            disk_free_bytes=self._machine.free_bytes(self._settings.folder),
            cameras_online=sum(each.state is CameraState.ONLINE for each in cameras),
            cameras=len(cameras),
            fps=sum(each.inferred_fps for each in cameras),
            fps_asked=self._fps_asked(),
            errors_per_s=self._errors_per_s(status),
            latency_p95_ms=max(latencies, default=None),
            trouble=tuple(_trouble(status))[:_TROUBLE],
        )

    def close(self) -> None:
        """Forget what was to happen later: the log level is what it was."""
        if self._back is not None:
            self._back.cancel()
            self._log.setLevel(self._usual)
            self._back = None

    def _fps_asked(self) -> float | None:
        """Give the pictures a second that the settings ask for; None: all that some camera gives."""
        limits = [camera.fps for camera in self._agent.settings.cameras.values()]
        return sum(each for each in limits if each is not None) if None not in limits else None

    def _errors_per_s(self, status: AgentStatus) -> float:
        """Give frames that no model could use, a second, since this was asked before."""
        count = sum(each.dropped.get(DropCause.CORRUPT, 0) for each in status.cameras)
        (before, since_s), now_s = self._failures, time.monotonic()
        self._failures = count, now_s
        return max(0, count - before) / max(now_s - since_s, 1e-3)

    def _measured(self, name: str, seconds: float) -> JsonValue:
        incumbent = self._agent.adoption.incumbent(name)
        if incumbent is None:
            return None
        side = side_of(incumbent.bundle, incumbent.variant, incumbent.session)
        tensors, _ = side.tensors(side.samples()[0])
        took_ms: list[float] = []
        until_s = time.monotonic() + seconds
        while len(took_ms) < _LEAST_RUNS or time.monotonic() < until_s:
            began_s = time.perf_counter()
            side.run(tensors)
            took_ms.append((time.perf_counter() - began_s) * 1e3)
        return {
            "version": incumbent.bundle.manifest.version,
            "variant": incumbent.variant,
            "engine": incumbent.engine,
            "runs": len(took_ms),
            "p50_ms": float(np.median(took_ms)),
            "p95_ms": p95(took_ms),
        }


def _trouble(status: AgentStatus) -> list[str]:
    said = [f"camera {each.name}: {each.reason}" for each in status.cameras if each.reason]
    said += [f"sink {each.name}: {each.trouble}" for each in status.sinks if each.trouble]
    if status.requests is not None and status.requests.trouble:
        said.append(f"requests: {status.requests.trouble}")
    if status.trouble:
        said.append(status.trouble)
    if status.later:
        said.append(f"settings that wait for a restart: {', '.join(status.later)}")
    return [each[:500] for each in said]
