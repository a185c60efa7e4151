"""A store with two cameras and a door, in a fleet whose manager is simulated."""

import hashlib
from pathlib import Path

from edge_runtime.agent import Agent
from edge_runtime.agent.running import Running
from edge_runtime.contract.status import AgentStatus
from edge_runtime.settings import FleetSettings, load_settings
from edge_runtime.update.record import Version
from edge_runtime.update.slots import Slots
from tests.simulators.broker import wait_until
from tests.simulators.versions import CLIP, NAME, Manager, SimulatedMember

STORE = """\
version: 1
site: shop
fleet: {folder: fleet}
models:
  people: {bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}
cameras:
  door: {source: %s, model: people, loop: true, fps: 5}
  till: {source: %s, model: people, loop: true, fps: 5, zones: {all: {polygon: [[0, 0], [1, 0], [1, 1]]}}}
door: {port: 0}
"""


class Store:
    """A store in a fleet."""

    def __init__(self, folder: Path, text: str = STORE % (CLIP, CLIP)) -> None:
        self.folder = folder
        (folder / "fleet").mkdir(exist_ok=True)
        self.yaml = folder / "store.yaml"
        self.yaml.write_text(text)
        self.manager = Manager()
        self.members: list[SimulatedMember] = []
        self.agent: Agent | None = None

    def join(self, settings: FleetSettings, agent: Running) -> SimulatedMember:
        self.members.append(SimulatedMember(settings, agent, self.manager))
        return self.members[-1]

    def start(self) -> "Store":
        self.agent = Agent(load_settings(self.yaml), self.yaml, self.join)
        return self

    def close(self) -> AgentStatus:
        assert self.agent is not None
        agent, self.agent = self.agent, None
        return agent.close()

    @property
    def running(self) -> Agent:
        assert self.agent is not None
        return self.agent

    @property
    def member(self) -> SimulatedMember:
        return self.members[-1]

    def version(self) -> str:
        incumbent = self.running.adoption.incumbent("people")
        assert incumbent is not None
        return incumbent.bundle.manifest.version

    def commit(self, content: bytes, counter: int) -> None:
        """Put a version into its slot as an updater would after its trial."""
        slots = Slots(self.folder / "fleet/updates/slots", "model", NAME)
        file = self.folder / "packed.zip"
        file.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        wanted = self.manager.wants("model", NAME, content).wanted[0]
        self.member.unpack(wanted, file, slots.vacate())
        slots.offer(Version(version="x", sha256=sha256, counter=counter))
        slots.commit(sha256)

    def wait_for_frames(self, more: int = 3) -> None:
        before = {each.name: each.inferred for each in self.running.status().cameras}
        wait_until(
            lambda: all(each.inferred >= before[each.name] + more for each in self.running.status().cameras),
            60,
        )


def lost(status: AgentStatus) -> dict[str, int]:
    """Frames that were read and not looked at, but for those that nobody wanted."""
    causes = ("corrupt", "late", "replaced")
    return {
        each.name: sum(each.dropped.get(cause, 0) for cause in each.dropped if cause in causes)
        for each in status.cameras
    }
