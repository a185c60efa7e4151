"""Clips and snapshots of a whole agent: the shipped recording at its own pace, and cameras on a network."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from edge_runtime.agent.agent import Agent
from edge_runtime.contract.event import EVENTS, LineCrossed, ZoneEntered
from edge_runtime.contract.status import AgentStatus, CameraState
from edge_runtime.settings import load_settings
from tests.simulators import rtsp
from tests.simulators.clips import moving_square, write_clip

MISSING = rtsp.available()

STORE = """
version: 1
site: shop
models:
  people: {{bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}}
cameras:
  door:
    source: {source}
    model: people
    {more}
    zones:
      all: {{polygon: [[0, 0], [1, 0], [1, 1], [0, 1]]}}
    lines:
      path: {{from: [0.7, 0.2], to: [0.7, 0.8]}}
sinks:
  - {{type: jsonl, path: events.jsonl}}
  - {{type: clips, folder: clips, events: [zone_entered], pre_s: 3, post_s: 3, longest_s: 12, {disk}}}
  - {{type: snapshots, folder: shots, events: [zone_entered], {disk}}}
"""


def shipped() -> Path:
    return Path("edge_runtime/media/pedestrians.mp4").absolute()


def store(folder: Path, source: str, more: str = "") -> Path:
    path = folder / "store.yaml"
    path.write_text(STORE.format(source=source, more=more, disk="reserve_bytes: 0"))
    return path


def run(path: Path, until: Callable[[AgentStatus], bool], timeout_s: float = 90) -> AgentStatus:
    """Run a store until it has done something."""
    stop, seen = threading.Event(), list[AgentStatus]()
    deadline = time.monotonic() + timeout_s

    def look(status: AgentStatus) -> None:
        seen.append(status)
        if until(status) or time.monotonic() > deadline:
            stop.set()

    last = Agent(load_settings(path)).run(stop, look)
    assert any(map(until, seen)), f"waited in vain: {seen[-1]}"
    return last


def clips_written(status: AgentStatus) -> int:
    return next(sink.written for sink in status.sinks if sink.name.startswith("clips"))


def payloads(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]  # type: ignore[arg-type]


def parts(packet: bytes) -> list[bytes]:
    """Give the parts (NAL units) of a packet that has their lengths in front, without parameter sets."""
    found, at = list[bytes](), 0
    while at < len(packet):
        size = int.from_bytes(packet[at : at + 4], "big")
        found.append(packet[at + 4 : at + 4 + size])
        at += 4 + size
    return [part for part in found if part[0] & 31 in {1, 5}]


def events_of(folder: Path) -> list[ZoneEntered | LineCrossed]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    events = [EVENTS.validate_json(line) for line in lines]
    return [event for event in events if isinstance(event, ZoneEntered)]


def playable_s(path: Path) -> float:
    """Decode a clip from its start to its end; give how long it is."""
    with av.open(str(path)) as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0) if not frame.is_corrupt]
    assert times == sorted(times)
    return times[-1] - times[0]


def test_the_shipped_recording_at_its_own_pace(tmp_path: Path) -> None:
    path = store(tmp_path, str(shipped()), "realtime: true")
    run(path, lambda status: clips_written(status) >= 1)
    events = events_of(tmp_path)
    (clip, *_) = sorted(tmp_path.glob("clips/*/*.mp4"))
    source = payloads(shipped())
    copied = payloads(clip)
    begin = source.index(copied[0])
    assert copied == source[begin : begin + len(copied)]
    with av.open(str(shipped())) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    began_s = float(packets[begin].pts * packets[begin].time_base)  # type: ignore[operator]
    assert began_s <= max(0.0, events[0].pts_ns / 1e9 - 3.0)
    assert playable_s(clip) >= events[0].pts_ns / 1e9 - began_s
    assert events[0].id in clip.name
    assert len(list(tmp_path.glob("shots/*/*.jpg"))) == len(events), "each has its picture"
    assert list(tmp_path.rglob(".*.part")) == []


@pytest.mark.rtsp
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_camera_on_the_network(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(shipped().read_bytes())
    with rtsp.RtspServer(film) as server:
        run(store(tmp_path, server.url), lambda status: clips_written(status) >= 1)
    (clip, *_) = sorted(tmp_path.glob("clips/*/*.mp4"))
    sent = [part for packet in payloads(film) for part in parts(packet)]
    copied = [part for packet in payloads(clip) for part in parts(packet)]
    begin = sent.index(copied[0])
    assert copied == sent[begin : begin + len(copied)], "bit for bit what the camera sent"
    assert playable_s(clip) > 3.0
    event = next(event for event in events_of(tmp_path) if event.id in clip.name)
    shown = re.match(r"\d\d-\d\d-\d\d\.\d{3}", clip.name)
    assert shown is not None
    assert event.time[11:23].replace(":", "-") == shown[0]


@pytest.mark.rtsp
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_clips_of_the_main_stream_while_the_model_sees_the_small_one(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "main.mp4", moving_square(1500, 480, 640), options={"bf": "0"})
    with rtsp.RtspServer(shipped()) as server, rtsp.RtspServer(small) as main:
        run(
            store(tmp_path, server.url, f"main: {main.url}"),
            lambda status: clips_written(status) >= 1,
        )
    (clip, *_) = sorted(tmp_path.glob("clips/*/*.mp4"))
    sent = [part for packet in payloads(small) for part in parts(packet)]
    copied = [part for packet in payloads(clip) for part in parts(packet)]
    begin = sent.index(copied[0])
    assert copied == sent[begin : begin + len(copied)]
    with av.open(str(clip)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (640, 480)


@pytest.mark.rtsp
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_main_stream_that_fails_costs_its_clips_and_is_said(tmp_path: Path) -> None:
    with rtsp.RtspServer(shipped()) as server:
        nowhere = f"rtsp://user:secret@127.0.0.1:{rtsp.free_port()}/main"
        status = run(
            store(tmp_path, server.url, f"main: {nowhere}"),
            lambda now: any(sink.dropped > 0 for sink in now.sinks if sink.name.startswith("clips")),
        )
    (clips,) = (sink for sink in status.sinks if sink.name.startswith("clips"))
    assert "camera 'door': main stream: rtsp://***@" in clips.trouble
    assert "secret" not in clips.trouble
    (camera,) = status.cameras
    assert camera.state is CameraState.ONLINE
    assert camera.inferred > 0
    assert len(events_of(tmp_path)) > 0
    assert len(list(tmp_path.glob("shots/*/*.jpg"))) > 0
