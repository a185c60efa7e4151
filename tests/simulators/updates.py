"""A device that is updated over HTTP: signed metadata, trials and time do as they are told."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from edge_runtime.contract.deployment import Slot
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.fleet import Delta, Desired, Named, Trial, Wanted, Window
from edge_runtime.contract.update import State, UpdateFailedError
from edge_runtime.update.contents import Contents
from edge_runtime.update.download import Downloader, DownloadOptions
from edge_runtime.update.effects import Identity, Ports
from edge_runtime.update.health import Evidence
from edge_runtime.update.record import Trusted
from edge_runtime.update.slots import Slots
from edge_runtime.update.store import Part
from edge_runtime.update.updater import Patience, Updater

ME = Identity("acme", "d1", "store-pc")
CHUNK = 1 << 14


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def release(number: int, lines: int = 600) -> bytes:
    """Labels of one release: similar to the one before, and compressible by it only."""
    return b"".join(
        f"{hashlib.sha256(str(n).encode()).hexdigest()} {number if n % 50 == 0 else 0}\n".encode()
        for n in range(lines)
    )


def wanted(number: int, content: bytes, deltas: tuple[Delta, ...] = (), **other: object) -> Wanted:
    return Wanted.model_validate(
        {
            "kind": "labels", "name": "detector", "version": f"{number}.0.0", "counter": number,
            "deployment": f"dep-{number}", "target": f"labels-{number}", "size_bytes": len(content),
            "sha256": sha(content), "deltas": deltas, "trial": Trial(), **other,
        }
    )  # fmt: skip


def desired(seq: int, *things: Wanted, cancelled: tuple[str, ...] = ()) -> Desired:
    return Desired(seq=seq, tenant="acme", device="d1", wanted=things, cancelled=cancelled)


def removed(seq: int, *things: Wanted) -> Desired:
    """No version of the labels is good; but of what is wanted beside, one is."""
    gone = (Named(kind="labels", name="detector"),)
    return Desired(seq=seq, tenant="acme", device="d1", wanted=things, removed=gone)


@dataclass
class World:
    """All ports at once. `evidence` and `refuses` are what a trial and the metadata say."""

    url: str
    evidence: Evidence | UpdateFailedError | None = field(default_factory=Evidence)
    refuses: UpdateFailedError | None = None
    on_trial: Callable[[], None] = lambda: None
    profiles: tuple[str, ...] = ()
    unpacked: int = 0
    time_s: float = 1.8e9
    steady: float = 0.0
    wall: datetime = datetime(2026, 1, 5, 12, 0)
    free: int = 1 << 40
    memory: int = 1 << 32
    proves_s: float = 0.0
    adopted: list[str] = field(default_factory=list[str])
    dismissed: int = 0
    restored: int = 0
    refuses_to_restore: bool = False

    def look_up(self, wanted: Wanted, at_s: float) -> Trusted:
        if self.refuses is not None:
            raise self.refuses
        return Trusted(
            sha256=wanted.sha256, size_bytes=wanted.size_bytes, counter=wanted.counter, tenant="acme",
            profiles=self.profiles, unpacked_bytes=self.unpacked or wanted.size_bytes,
            patches=tuple(each.sha256 for each in wanted.deltas), time_s=self.proves_s,
        )  # fmt: skip

    def fetch(self, target: str, part: Part, *, whole_again: bool, stop: Callable[[], bool]) -> bool:
        options = DownloadOptions(chunk_bytes=CHUNK, connect_s=20, stall_s=20)
        return Downloader(self.url, options).fetch(target, part, whole_again=whole_again, stop=stop)

    def unpack(self, wanted: Wanted, file: Path, folder: Path) -> None:
        Contents(trusted=None, check_settings=lambda path: None).unpack(wanted, file, folder)

    def run(
        self, wanted: Wanted, active: Path | None, candidate: Path, stop: Callable[[], bool]
    ) -> Evidence | None:
        assert (candidate / "labels.txt").is_file()
        self.on_trial()
        if isinstance(self.evidence, UpdateFailedError):
            raise self.evidence
        return self.evidence

    def adopt(self, kind: str, name: str, folder: Path) -> None:
        self.adopted.append(sha((folder / "labels.txt").read_bytes()))

    def restore(self, kind: str, name: str) -> None:
        if self.refuses_to_restore:
            raise BundleError("what was installed is gone")
        self.restored += 1

    def dismiss(self, kind: str, name: str) -> None:
        self.dismissed += 1

    def now_s(self) -> float:
        return self.time_s

    def steady_s(self) -> float:
        return self.steady

    def local(self) -> datetime:
        return self.wall

    def free_bytes(self, folder: Path) -> int:
        return self.free

    def free_memory_bytes(self) -> int:
        return self.memory

    def updater(self, root: Path, **options: object) -> Updater:
        return Updater(
            root, ME, Ports(self, self, self, self, self), dice=lambda: 0.0,
            patience=Patience(attempts=3), reserve_bytes=0, **options,
        )  # fmt: skip

    def settle(self, updater: Updater, steps: int = 200) -> None:
        """Step, and let time pass, until every update rests (or waits for its window)."""
        for _ in range(steps):
            wait_s = updater.step()
            self.steady += wait_s
            resting = all(
                each.state in {State.COMMITTED, State.ROLLED_BACK, State.FAILED, State.REJECTED,
                               State.CANCELLED, State.IDLE, State.WAITING_WINDOW}
                for each in updater.have()
            )  # fmt: skip
            if wait_s and resting:
                return
        raise AssertionError(f"did not settle: {updater.have()}")


def whole(root: Path) -> str | None:
    """Give the SHA-256 of the one active version (None: there is none); whatever is named must be whole."""
    slots = Slots(root / "slots", "labels", "detector")
    pointer = slots.read()
    for slot in Slot:
        version = pointer.held(slot)
        if version is not None:
            assert [each.name for each in slots.folder(slot).iterdir()] == ["labels.txt"]
            assert sha((slots.folder(slot) / "labels.txt").read_bytes()) == version.sha256
    active = slots.active()
    return active[0].sha256 if active else None


NIGHT = Window(start="22:00", end="04:00")
