"""IsolatedSource: a source that another process opens and decodes, so that only it dies of what it is sent.

Same steps in the same order as `VideoSource`: the process does one each time it is asked. Pictures come
through shared memory, the rest over a socket. Opens nothing again itself: the camera does, with its pauses.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction

from edge_runtime.contract.errors import CameraError, ConfigError, EdgeRuntimeError, InputError
from edge_runtime.contract.frame import Picture, PixelFormat
from edge_runtime.contract.packet import Packet, StreamHeader
from edge_runtime.video.decoder import Decoded
from edge_runtime.video.isolated_wire import Document, receive, send
from edge_runtime.video.shared_frames import SharedFrames
from edge_runtime.video.source import SourceSpec
from edge_runtime.video.tape import StreamTape

PATIENCE_S = 20.0
"""Beyond the source's own timeout: starting the process takes half a second, on a busy board many more."""

_END_S = 2.0


class IsolatedSource:
    """An open source in a process of its own.

    Args:
        spec: What to open.
        tape: Gets every packet as it comes; None: nobody wants them.
        patience_s: How much longer than the source's own timeout its process may say nothing.

    Raises:
        CameraError: As `VideoSource`, or the process died, also of a recording.
        InputError: As `VideoSource`.
        ConfigError: This system cannot hand memory from process to process.
    """

    def __init__(
        self, spec: SourceSpec, tape: StreamTape | None = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        if not hasattr(socket, "send_fds"):
            problem = f"camera '{spec.camera}': `isolate`"
            raise ConfigError(problem, expected="Linux or macOS", got=sys.platform, do="Drop it")
        self.spec = spec
        self.progress: float | None = None if spec.live else 0.0
        self.period_ns = 40_000_000
        self.decoder = ""
        self.trouble = ""
        self.elsewhere_ns = 0
        """CPU time that the last step took over there."""
        self._tape = tape
        self._frames = SharedFrames()
        self._wish: Document = {}
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = ["-m", "edge_runtime.video.isolated_child", str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen([sys.executable, *command], pass_fds=(theirs.fileno(),))
        self._channel.settimeout(spec.timeout_s + patience_s)
        try:
            said = {**asdict(spec), "decoding": spec.decoding.model_dump()}
            self._say({"spec": said, "tape": tape is not None})
            opened = self._hear()
        except BaseException:
            self.close()
            raise
        self.decoder, self.period_ns = str(opened["decoder"]), int(opened["period_ns"])
        self.progress = opened["progress"]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process. Idempotent."""
        self._channel.close()
        try:
            self._process.wait(0 if self._process.poll() is not None else 0.1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_S)

    def catch_up(self, behind: bool) -> None:
        """As `VideoSource.catch_up`, with the next step."""
        self._wish["behind"] = behind

    def doze(self, wanted: bool) -> None:
        """As `VideoSource.doze`, with the next step."""
        self._wish["doze"] = wanted

    def frames(self) -> Iterator[Decoded]:
        """Decode as `VideoSource.frames` does.

        Raises:
            CameraError: As `VideoSource`, or the process died, also of a recording.
            InputError: As `VideoSource`.
        """
        while True:
            self._say({"slot": self._frames.next_slot(), **self._wish})
            self._wish = {}
            said = self._hear()
            self.progress = said["progress"]
            if said["say"] == "end":
                self.trouble = str(said["trouble"])
                return
            self.elsewhere_ns = int(said["cpu_ns"])
            yield Decoded(
                self._picture(said), said["source_ns"], said["on_time"], said["glance"], said["passed"]
            )

    def _picture(self, said: Document) -> Picture | None:
        if "format" not in said:
            return None
        try:
            return self._frames.take(PixelFormat(said["format"]), int(said["height"]), int(said["width"]))
        except ValueError as error:
            raise self._died(str(error)) from error

    def _say(self, document: Document) -> None:
        try:
            send(self._channel, document)
        except OSError as error:
            raise self._died(self._how()) from error

    def _hear(self) -> Document:
        """Take what is said until it is about the camera."""
        while True:
            try:
                said, blob = receive(self._channel)
                if said["say"] in {"open", "step", "end"}:
                    return said
                if said["say"] == "grow":
                    self._grow(int(said["bytes"]))
                    continue
            except TimeoutError as error:
                raise self._died("no word from it in time") from error
            except (EOFError, OSError) as error:
                raise self._died(self._how()) from error
            except (ValueError, KeyError) as error:
                raise self._died(f"what it says makes no sense ({error})") from error
            if said["say"] == "error":
                raise _error(said)
            self._record(said, blob)

    def _grow(self, slot_bytes: int) -> None:
        descriptor = self._frames.grow(slot_bytes)
        try:
            socket.send_fds(self._channel, [b"\0"], [descriptor])
        finally:
            os.close(descriptor)

    def _record(self, said: Document, blob: bytes) -> None:
        if self._tape is None:
            return
        if said["say"] == "packet":
            self._tape.put(Packet(blob, int(said["pts_ns"]), int(said["dts_ns"]), bool(said["key"])))
        elif said["say"] == "begin":
            tick = Fraction(*said["tick"])
            self._tape.begin(StreamHeader(blob, tick, said["width"], said["height"], said["start_codes"]))
        elif said["say"] == "refuse":
            self._tape.refuse(str(said["trouble"]))

    def _how(self) -> str:
        """Say how the process ended."""
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "its channel closed"
        return f"it ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with {code}"

    def _died(self, got: str) -> CameraError:
        return CameraError(
            f"camera '{self.spec.camera}': its own reader process",
            retryable=True,
            expected="one that goes on",
            got=got,
            do="If this stays, what it is sent may be too much for FFmpeg's decoder",
        )


def _error(said: Document) -> EdgeRuntimeError:
    parts = {name: said[name] for name in ("expected", "got", "do")}
    if said["live"]:
        return CameraError(str(said["problem"]), retryable=True, **parts)
    return InputError(str(said["problem"]), **parts)
