"""Versions of the shipped detector, good and bad, and an agent that a fleet with simulated trust updates."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from converters.bundle.sign import sign
from edge_runtime.agent.running import Running
from edge_runtime.agent.trial import AgentTrial
from edge_runtime.bundle import shipped_bundle
from edge_runtime.contract.fleet import Desired, Have, Kind, Named, Trial, Wanted
from edge_runtime.contract.status import FleetStatus
from edge_runtime.contract.update import State
from edge_runtime.settings import FleetSettings
from edge_runtime.update.contents import Contents
from edge_runtime.update.device import SystemClock, SystemMachine
from edge_runtime.update.effects import Identity, Ports
from edge_runtime.update.record import Trusted
from edge_runtime.update.store import Part
from edge_runtime.update.updater import Patience, Updater

NAME = "efficientdet-lite0"
CLIP = Path(__file__).parents[2] / "edge_runtime" / "media" / "pedestrians.mp4"
QUICK = Trial(shadow_s=0.5, max_latency_ratio=20.0)
"""Times of a loaded test machine prove nothing."""


def shipped(version: str, labels: tuple[str, ...] | None = None, signer: Path | None = None) -> bytes:
    """The detector that runs, under another version; packed, and signed where a key is given."""
    folder = shipped_bundle(NAME)
    assert folder is not None
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["version"] = version
    if labels is not None:
        manifest["task"]["labels"] = list(labels)
    files = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
    files["bundle.json"] = json.dumps(manifest).encode()
    if signer is not None:
        with TemporaryDirectory() as place:
            for name, content in files.items():
                (Path(place) / name).write_bytes(content)
            sign(Path(place), signer)
            files["bundle.sig"] = (Path(place) / "bundle.sig").read_bytes()
    return packed(files)


def known_labels() -> list[str]:
    folder = shipped_bundle(NAME)
    assert folder is not None
    return json.loads((folder / "bundle.json").read_text())["task"]["labels"]


def onnx_version(version: str, model: bytes) -> bytes:
    """The detector's bundle with another model in it; packed."""
    folder = shipped_bundle(NAME)
    assert folder is not None
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest |= {"version": version, "receipts": [], "golden": None}
    manifest["variants"] = [
        {
            "id": "onnx-fp32", "format": "onnx", "precision": "fp32", "path": "model.onnx",
            "sha256": hashlib.sha256(model).hexdigest(), "size_bytes": len(model),
        }
    ]  # fmt: skip
    return packed({"bundle.json": json.dumps(manifest).encode(), "model.onnx": model})


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in sorted(files.items()):
            archive.writestr(name, content)
    return out.getvalue()


def detector(value: float, work: int = 0) -> bytes:
    """A detector that sees one person in every picture, with a score of `value`, after some useless work."""
    constants = [
        numpy_helper.from_array(np.zeros(1, np.float32), "none"),
        numpy_helper.from_array(np.tile(np.array([0.1, 0.1, 0.9, 0.9], np.float32), (1, 25, 1)), "at"),
        numpy_helper.from_array(np.zeros((1, 25), np.float32), "what"),
        numpy_helper.from_array(np.array([[value] + [0.0] * 24], np.float32), "sure"),
        numpy_helper.from_array(np.ones(1, np.float32), "one"),
        numpy_helper.from_array(np.eye(512, dtype=np.float32), "eye"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "none"], ["zero"]),
        helper.make_node("Add", ["eye", "mean"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{at}", "eye"], [f"m{at + 1}"]) for at in range(work)),
        helper.make_node("ReduceMean", [f"m{work}"], ["slow"], axes=[0, 1], keepdims=0),
        helper.make_node("Mul", ["slow", "none"], ["worked"]),
        helper.make_node("Add", ["at", "zero"], ["boxes"]),
        helper.make_node("Add", ["what", "zero"], ["classes"]),
        helper.make_node("Add", ["sure", "worked"], ["scores"]),
        helper.make_node("Add", ["one", "zero"], ["count"]),
    ]
    kind = onnx.TensorProto.FLOAT
    shapes: dict[str, list[int]] = {"boxes": [1, 25, 4], "classes": [1, 25], "scores": [1, 25], "count": [1]}
    graph = helper.make_graph(
        nodes,
        "one-person",
        [helper.make_tensor_value_info("images", kind, [1, 320, 320, 3])],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


@dataclass
class Manager:
    """Desires, and everything that proves it: one that is believed without a signature."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    seq: int = 0

    def look_up(self, wanted: Wanted, at_s: float) -> Trusted:
        return Trusted(
            sha256=wanted.sha256, size_bytes=wanted.size_bytes, counter=wanted.counter, tenant="acme"
        )

    def fetch(self, target: str, part: Part, *, whole_again: bool, stop: Callable[[], bool]) -> bool:
        part.append(self.files[target], None)
        return True

    def wants(self, kind: Kind, name: str, content: bytes, trial: Trial = QUICK) -> Desired:
        self.seq += 1
        suffix = {"model": "zip", "settings": "yaml", "labels": "txt"}[kind]
        target = f"{kind}/{name}/{self.seq}-{self.seq}.0.0.{suffix}"
        self.files[target] = content
        wanted = Wanted(
            kind=kind, name=name, version=f"{self.seq}.0.0", counter=self.seq,
            deployment=f"dep-{self.seq}", target=target, size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(), trial=trial,
        )  # fmt: skip
        return Desired(seq=self.seq, tenant="acme", device="d1", wanted=(wanted,))

    def wants_none(self, kind: Kind, name: str) -> Desired:
        self.seq += 1
        gone = (Named(kind=kind, name=name),)
        return Desired(seq=self.seq, tenant="acme", device="d1", removed=gone)


class SimulatedMember:
    """Joins an agent to a fleet that is a `Manager`; the test drives the updates."""

    def __init__(self, settings: FleetSettings, agent: Running, manager: Manager) -> None:
        self.trial = AgentTrial(agent)
        self._manager = manager
        contents = Contents(trusted=agent.bundles.trusted, check_settings=self.trial.check_settings)
        self.unpack = contents.unpack
        self.fetch = manager.fetch
        clock = SystemClock()
        ports = Ports(manager, self, self.trial, clock, SystemMachine())
        identity = Identity("acme", "d1", "store-pc")
        patience = Patience(attempts=1)
        self.updater = Updater(
            settings.folder / "updates", identity, ports, dice=lambda: 0.0, patience=patience
        )

    def start(self) -> None: ...

    def close(self) -> None:
        self.trial.dismiss("model", "")

    def status(self) -> FleetStatus:
        return FleetStatus("acme", "d1")

    def take(self, desired: Desired) -> Have:
        """Have something desired, and step until it ended; say how."""
        self.updater.desire(desired)
        for _ in range(60):
            if self.updater.step() > 0:
                break
        kind, name = [
            *((each.kind, each.name) for each in desired.wanted),
            *((each.kind, each.name) for each in desired.removed),
        ][0]
        have = next(each for each in self.updater.have() if (each.kind, each.name) == (kind, name))
        assert have.state in {State.COMMITTED, State.ROLLED_BACK, State.REJECTED, State.FAILED, State.IDLE}
        return have


class Load:
    """Asks something again and again from several threads, until it is told to stop."""

    def __init__(self, ask: Callable[[], Any], threads: int = 2) -> None:
        self._stop = threading.Event()
        self._ask = ask
        self.answers: list[Any] = []
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self._ask())
            except Exception as error:  # noqa: BLE001 - each is a lost request, and counted
                self.failures.append(error)
