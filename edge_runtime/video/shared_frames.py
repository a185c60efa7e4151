"""Frames in memory that two processes share: a few slots, written by the one that decodes, read by the other.

The memory has no name: it is a file descriptor that is handed over, so that nothing stays behind however the
processes end (`multiprocessing.shared_memory` leaves a file in /dev/shm when both are killed). A slot is in
use for as long as anybody holds a view of it. Opens no source and speaks to no process.
"""

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.frame import Picture, PixelFormat, Plane

SLOTS = 4
"""One is written while others are on their way through the pipeline; 3 MB each at 1080p."""

MAX_SLOT_BYTES = 256 * 2**20
"""More than an 8K picture; a process that asks for more is broken."""

Shape = tuple[int, ...]


def plane_shapes(pixels: PixelFormat, height: int, width: int) -> tuple[Shape, ...]:
    """Give the shapes of a picture's planes, as `PixelFormat` says."""
    half = (height + 1) // 2, (width + 1) // 2
    match pixels:
        case PixelFormat.I420 | PixelFormat.I420_FULL:
            return (height, width), half, half
        case PixelFormat.NV12:
            return (height, width), (*half, 2)
        case PixelFormat.BGR:
            return ((height, width, 3),)


def picture_bytes(pixels: PixelFormat, height: int, width: int) -> int:
    """Give the bytes of a picture without padding."""
    return sum(int(np.prod(shape)) for shape in plane_shapes(pixels, height, width))


def put_picture(memory: mmap.mmap, offset: int, picture: Picture) -> None:
    """Write a picture's planes one after the other, without padding."""
    for plane in picture.planes:
        count = int(np.prod(plane.shape))
        np.frombuffer(memory, np.uint8, count, offset).reshape(plane.shape)[...] = plane
        offset += count


@dataclass(slots=True, eq=False)
class _Memory:
    """One piece of shared memory: its slots, and which are free."""

    map: mmap.mmap
    slot_bytes: int
    free: list[int]


class SharedFrames:
    """The reading side. Safe when views are let go in any thread."""

    def __init__(self) -> None:
        self._memory: _Memory | None = None
        self._lock = threading.Lock()

    @property
    def slot_bytes(self) -> int:
        """Of each slot; 0: there is no memory yet."""
        return 0 if self._memory is None else self._memory.slot_bytes

    def grow(self, slot_bytes: int) -> int:
        """Take new memory; views of the old one stay what they are.

        Args:
            slot_bytes: Of each slot.

        Returns:
            A file descriptor for the writer; the caller closes it.

        Raises:
            ValueError: Nobody needs that much.
        """
        if not 0 < slot_bytes <= MAX_SLOT_BYTES:
            raise ValueError(f"{slot_bytes} bytes for one picture")
        size = slot_bytes * SLOTS
        descriptor = _nameless(size)
        memory = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        self._memory = _Memory(memory, slot_bytes, list(range(SLOTS)))
        return descriptor

    def next_slot(self) -> int:
        """Give the offset to write the next picture at. There always is one; see `take`."""
        memory = self._memory
        if memory is None:
            return 0
        with self._lock:
            return memory.free[0] * memory.slot_bytes

    def take(self, pixels: PixelFormat, height: int, width: int) -> Picture:
        """View the picture that was just written to `next_slot`; where that is the last one, copy it.

        Raises:
            ValueError: A slot has no room for such a picture.
        """
        memory = self._memory
        size = picture_bytes(pixels, height, width)
        if memory is None or not 0 < size <= memory.slot_bytes:
            raise ValueError(f"a picture of {width} x {height} in a slot of {self.slot_bytes} bytes")
        with self._lock:
            slot = memory.free.pop(0)
            last = not memory.free
            if last:
                memory.free.append(slot)
        root: Plane = np.frombuffer(memory.map, np.uint8, size, slot * memory.slot_bytes)
        if last:
            root = root.copy()
        else:
            # Every view of the picture keeps `root`, and nothing else does.
            weakref.finalize(root, self._give_back, memory, slot).atexit = False
        return Picture(pixels, _planes(root, plane_shapes(pixels, height, width)), height, width)

    def _give_back(self, memory: _Memory, slot: int) -> None:
        with self._lock:
            memory.free.append(slot)


def _planes(root: Plane, shapes: Sequence[Shape]) -> tuple[Plane, ...]:
    planes: list[Plane] = []
    offset = 0
    for shape in shapes:
        count = int(np.prod(shape))
        planes.append(root[offset : offset + count].reshape(shape))
        offset += count
    return tuple(planes)


def _nameless(size: int) -> int:
    create = getattr(os, "memfd_create", None)
    if create is not None:
        descriptor: int = create("edge-runtime-frames")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size)
    return descriptor
