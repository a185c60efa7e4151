"""The reader process of one camera: opens and decodes its source, one step each time the camera asks.

Started by `edge_runtime.video.isolated` and by nobody else; ends with it, however that ends. It is the part
that may crash: what it decodes comes from the network. Samples, gates and keeps nothing.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

from edge_runtime.contract.errors import EdgeRuntimeError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.packet import Packet, StreamHeader
from edge_runtime.video.decoder import Decoded
from edge_runtime.video.isolated_wire import Document, receive, send
from edge_runtime.video.shared_frames import SLOTS, picture_bytes, put_picture
from edge_runtime.video.source import SourceSpec, VideoSource
from edge_runtime.video.tape import StreamTape

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, where the kernel can (prctl(2)).

    Elsewhere the closed channel ends it, once it next says something.

    Args:
        parent: Its process id, in case it ended before this.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Meant for the agent, which drains, and closes the channel when it is through.
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


class Reader:
    """One source, read for a camera in another process.

    Args:
        channel: To the camera.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._memory: mmap.mmap | None = None
        self._slot_bytes = 0

    def run(self) -> None:
        """Open what the first message names, and read it until it ends or fails.

        Raises:
            OSError: The camera is gone.
            EOFError: The camera is gone.
        """
        document, _ = receive(self._channel)
        try:
            spec = SourceSpec(**document["spec"] | {"decoding": _decoding(document["spec"]["decoding"])})
            tape = cast("StreamTape", _Forward(self._channel)) if document["tape"] else None
            source = VideoSource(spec, tape)
            opened = {"decoder": source.decoder, "period_ns": source.period_ns, "progress": source.progress}
            send(self._channel, {"say": "open", **opened})
            self._read(source)
            send(self._channel, {"say": "end", "trouble": source.trouble, "progress": source.progress})
        except EdgeRuntimeError as error:
            parts = {name: getattr(error, name) for name in ("problem", "expected", "got", "do")}
            send(self._channel, {"say": "error", "live": SourceSpec(**_plain(document)).live, **parts})

    def _read(self, source: VideoSource) -> None:
        steps: Iterator[Decoded] = iter(source.frames())
        while True:
            wish, _ = receive(self._channel)
            if wish.get("doze") is not None:
                source.doze(wish["doze"])
            if wish.get("behind") is not None:
                source.catch_up(wish["behind"])
            cpu_ns = time.thread_time_ns()
            step = next(steps, None)
            if step is None:
                return
            shown = {} if step.picture is None else self._put(step.picture, wish["slot"])
            said: Document = {
                "say": "step",
                "source_ns": step.source_ns,
                "on_time": step.on_time,
                "glance": step.glance,
                "passed": step.passed,
                "progress": source.progress,
                "cpu_ns": time.thread_time_ns() - cpu_ns,
                **shown,
            }
            send(self._channel, said)

    def _put(self, picture: Picture, offset: int) -> Document:
        size = picture_bytes(picture.format, picture.height, picture.width)
        if self._memory is None or size > self._slot_bytes:
            send(self._channel, {"say": "grow", "bytes": size})
            _, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
            self._memory, self._slot_bytes = mmap.mmap(descriptors[0], size * SLOTS), size
            os.close(descriptors[0])
            offset = 0
        put_picture(self._memory, offset, picture)
        return {"format": picture.format, "height": picture.height, "width": picture.width}


class _Forward:
    """A tape's taking end, in the process that has the packets."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def begin(self, header: StreamHeader) -> None:
        said = {
            "say": "begin",
            "tick": [header.tick.numerator, header.tick.denominator],
            "width": header.width,
            "height": header.height,
            "start_codes": header.start_codes,
        }
        send(self._channel, said, header.init)

    def refuse(self, trouble: str) -> None:
        send(self._channel, {"say": "refuse", "trouble": trouble})

    def put(self, packet: Packet) -> None:
        said = {"say": "packet", "pts_ns": packet.pts_ns, "dts_ns": packet.dts_ns, "key": packet.key}
        send(self._channel, said, packet.data)


def _decoding(document: Document) -> Any:
    from edge_runtime.contract.device import Decoding  # noqa: PLC0415 - pydantic, once, for one block

    return Decoding.model_validate(document)


def _plain(document: Document) -> Document:
    return {name: document["spec"][name] for name in ("camera", "url")}


def main() -> None:
    """Read for the camera whose channel the arguments name: FILE_DESCRIPTOR PARENT_PID."""
    die_with(int(sys.argv[2]))
    with socket.socket(fileno=int(sys.argv[1])) as channel, contextlib.suppress(OSError, EOFError):
        Reader(channel).run()


if __name__ == "__main__":
    main()
