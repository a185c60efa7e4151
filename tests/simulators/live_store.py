"""A store with the local page, run in this process: the shipped clip as a live camera, again and again."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.agent import Agent
from edge_runtime.settings import load_settings
from edge_runtime.sinks.timeline import Timeline

CLIP = Path(__file__).parents[2] / "edge_runtime" / "media" / "pedestrians.mp4"
PASSWORD = "correct horse battery"
STORE = """\
version: 1
site: corner-shop   # the one at the corner

page: {port: 0, password: "%s"}
door: {port: 0}
models:
  people: {bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}

cameras:
  # the yard
  yard:
    source: %s
    model: people
    realtime: true
    loop: true
    zones:
      # where they cross
      crossing: {polygon: [[0.4, 0.34], [0.66, 0.34], [0.66, 0.6], [0.4, 0.5]], settle_s: 0}   # asphalt
    lines:
      path: {from: [0.7, 0.2], to: [0.7, 0.8], a_to_b: leftwards, b_to_a: rightwards}
# the end
"""


@dataclass
class LiveStore:
    """What runs.

    Args:
        url: Of its page.
        file: Its settings.
        agent: That runs.
        timeline: What it remembers.
    """

    url: str
    file: Path
    agent: Agent
    timeline: Timeline


@contextmanager
def live_store(folder: Path, *, password: str = PASSWORD) -> Generator[LiveStore]:
    """Run a store until the block ends; without a password nobody has to log in."""
    file = folder / "store.yaml"
    text = STORE % (password, CLIP)
    file.write_text(text if password else text.replace(', password: ""', ""))
    stop = threading.Event()
    agent = Agent(load_settings(file), file)
    assert agent.page is not None
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    try:
        yield LiveStore(agent.page.url, file, agent, agent.page.timeline)
    finally:
        stop.set()
        thread.join()
