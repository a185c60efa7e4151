"""A camera that changes its resolution in the middle, as many do at dusk: the same people, counted once."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edge_runtime.agent.models import detector_of, open_settings_model
from edge_runtime.agent.plans import LOW_SCORE
from edge_runtime.analytics.rules import Zone
from edge_runtime.analytics.tracker import TrackerOptions
from edge_runtime.contract.event import ZoneEntered
from edge_runtime.local_model import this_device
from edge_runtime.runtime.bundles import Bundles
from edge_runtime.settings import ModelSettings
from edge_runtime.video.plan import Detector
from tests.simulators.clips import Image, write_clip
from tests.simulators.watcher import Watcher, plan

FIRST, CHANGE, LAST = 60, 85, 110
EVERYWHERE = Zone(name="picture", polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))


@pytest.fixture(scope="module")
def people() -> Iterator[Detector]:
    settings = ModelSettings.model_validate({"bundle": "efficientdet-lite0", "labels": ["person"]})
    model = open_settings_model(settings, Bundles().open(settings), this_device("auto"), min_score=LOW_SCORE)
    yield detector_of(model, "people")
    model.predictor.close()


def write_part(path: Path, images: list[Image], size: tuple[int, int]) -> bytes:
    return write_clip(path, [cv2.resize(image, size) for image in images], fps=10).read_bytes()


def watch(path: Path, people: Detector) -> Watcher:
    watcher = Watcher()
    options = TrackerOptions(high_score=0.35, confirm_frames=3)
    watcher.runtime.add(plan("street", path, people, zones=(EVERYWHERE,), tracker=options))  # type: ignore[arg-type]
    watcher.finish()
    return watcher


def test_tracks_and_stays_go_on_across_a_change_of_resolution(
    shipped_clip: Path, tmp_path: Path, people: Detector
) -> None:
    with av.open(str(shipped_clip)) as container:
        frames = itertools.islice(container.decode(video=0), FIRST, LAST)
        images = [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in frames]
    before, after = images[: CHANGE - FIRST], images[CHANGE - FIRST :]
    both = tmp_path / "both.ts"
    both.write_bytes(
        write_part(tmp_path / "a.ts", before, (384, 288)) + write_part(tmp_path / "b.ts", after, (768, 576))
    )
    changed = watch(both, people)
    widths = [scene.frame.picture.width for scene in changed.scenes]
    small, large = changed.scenes[: widths.index(768)], changed.scenes[widths.index(768) :]
    known = {int(track) for scene in small[-5:] for track in scene.tracks.ids}
    seen = {int(track) for scene in large[:10] for track in scene.tracks.ids}
    assert len(known) >= 4
    assert len(known & seen) >= len(known) - 1, f"known {known}, seen again {seen}"
    assert len(seen - known) <= 1, f"known {known}, seen again {seen}"
    entered = [event for event in changed.events if isinstance(event, ZoneEntered)]
    even = watch(write_clip(tmp_path / "even.mp4", images, fps=10), people)
    assert len(entered) <= sum(isinstance(event, ZoneEntered) for event in even.events) + 1
