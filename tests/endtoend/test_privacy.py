"""Nobody can be recognized in what a store keeps: the shipped clip through the shipped detector."""

import threading
from pathlib import Path

import av
import numpy as np
import pytest

from edge_runtime.agent import Agent
from edge_runtime.contract.errors import ConfigError
from edge_runtime.settings import load_settings
from edge_runtime.sinks.drawing import picture_of

CLIP = Path(__file__).parents[2] / "edge_runtime/media/pedestrians.mp4"

STORE = """
version: 1
site: store-1
models:
  people: {{bundle: efficientdet-lite0, min_score: 0.4, labels: [{label}]}}
cameras:
  door: {{source: {clip}, model: people, fps: 2{camera}}}
privacy: {{blur: {blur}}}
sinks:
  - {{type: video, folder: as-the-store-says}}
  - {{type: video, folder: open, blur: nothing}}
"""

FACES = """
kind: detection
labels: [face]
input: {layout: nhwc}
head: {format: ssd}
"""


def write(folder: Path, *, blur: str, label: str = "person", camera: str = "") -> Path:
    path = folder / "store.yaml"
    path.write_text(STORE.format(blur=blur, label=label, clip=CLIP, camera=camera), "utf-8")
    return path


def watch(path: Path) -> Agent:
    agent = Agent(load_settings(path))
    agent.run(threading.Event())
    return agent


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


@pytest.mark.parametrize("blur", ["persons", "heads"])
def test_people_lose_their_detail_and_the_street_keeps_it(tmp_path: Path, blur: str) -> None:
    agent = watch(write(tmp_path, blur=blur))
    last = agent.last_scene("door")
    assert last is not None
    assert len(last.hidden) >= len(last.tracks) > 0, "what the fleet may take a picture of is covered, too"
    whole = picture_of(last, last.frame.picture.height)
    for x1, y1, x2, y2 in np.rint(last.hidden).astype(int).tolist():
        colours = np.unique(whole[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].reshape(-1, 3), axis=0)
        overlapping = 36 * len(last.hidden)
        assert len(colours) <= overlapping, "squares of one colour, and nothing else"
    hidden, shown = (
        pictures(tmp_path / folder / "door.mp4")[-1].astype(int) for folder in ("as-the-store-says", "open")
    )
    scale = shown.shape[0] / last.frame.picture.height
    street = np.ones(shown.shape, np.bool_)
    for x1, y1, x2, y2 in np.rint(last.hidden * scale).astype(int).tolist():
        street[max(0, y1 - 20) : y2 + 20, max(0, x1 - 20) : x2 + 20] = False
    changed = np.abs(hidden - shown)
    assert changed[street].mean() < 3
    assert changed[~street].mean() > 6


def test_a_region_that_is_never_looked_at_is_in_no_picture_even_an_open_one(tmp_path: Path) -> None:
    region = ", never_look: [[[0, 0], [1, 0], [1, 0.5], [0, 0.5]]]"
    watch(write(tmp_path, blur="nothing", camera=region))
    picture = pictures(tmp_path / "open/door.mp4")[-1]
    above = picture[60 : picture.shape[0] // 2 - 40, 10:-10]
    assert np.percentile(above, 90) <= 18, "black, but for what is drawn over it"


def test_a_store_that_cannot_find_its_people_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"people are to be blurred.*gives no person"):
        Agent(load_settings(write(tmp_path, blur="persons", label="car")))


def test_faces_need_a_model_that_finds_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)privacy.faces.*no model finds them"):
        load_settings(write(tmp_path, blur="faces"))


def test_the_audit_says_by_which_policy_the_agent_ran(tmp_path: Path) -> None:
    agent = watch(write(tmp_path, blur="heads"))
    (started,) = agent.audit.trail.newest()
    assert (started["act"], started["who"], started["blur"]) == ("started", "agent", "heads")
    assert [sink["blur"] for sink in started["sinks"]] == ["heads", "nothing"]


def test_where_faces_cannot_be_found_no_picture_is_kept_and_all_else_goes_on(tmp_path: Path) -> None:
    store = write(tmp_path, blur="faces")
    text = store.read_text("utf-8").replace("blur: faces}", "blur: faces, faces: faces}")
    faces = "  faces: {file: faces.onnx, task: faces.yaml}\n"
    store.write_text(text.replace("cameras:\n", f"{faces}cameras:\n", 1), "utf-8")
    (tmp_path / "faces.onnx").write_bytes(b"no model")
    (tmp_path / "faces.yaml").write_text(FACES, "utf-8")
    watch(store)
    assert not (tmp_path / "as-the-store-says").exists(), "a picture in which faces may be seen"
    assert pictures(tmp_path / "open/door.mp4"), "a sink that hides nothing has its pictures all the same"


def test_the_pages_own_way_of_hiding_is_checked_too(tmp_path: Path) -> None:
    store = write(tmp_path, blur="nothing")
    store.write_text(store.read_text("utf-8") + "page: {blur: faces, port: 0}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"(?s)privacy.faces.*no model finds them"):
        load_settings(store)
