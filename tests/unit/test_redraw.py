"""A drawing goes into store.yaml: what changed changes, and not one other byte where it can be helped."""

from pathlib import Path

import pytest

from edge_runtime.agent.redrawing import drawing_of
from edge_runtime.contract.errors import ConfigError
from edge_runtime.protocol.drawing import Drawing, DrawnLine, DrawnZone
from edge_runtime.settings import load_settings
from edge_runtime.settings.redraw import redraw

STORE = """\
version: 1   # of the format
site: test

# what looks
models:
  people: {bundle: efficientdet-lite0}

cameras:
  door:   # the door
    source: rtsp://u:${PASSWORD}@10.0.0.5/s   # in the environment
    model: people
    zones:
      # the mat
      mat:
        polygon:
          - [0, 0]
          - [1, 0]
          - [1, 1]  # far
        labels: ["person"]
    # who comes and goes
    lines:
      way: {from: [0, 0], to: [1, 1], a_to_b: in, b_to_a: out}   # inwards

  # the second one
  till: {source: b.mp4, model: people}

sinks: []
# the end
"""
MAT = DrawnZone(was="mat", name="mat", polygon=[(0, 0), (1, 0), (1, 1)])
WAY = DrawnLine(was="way", name="way", start=(0, 0), end=(1, 1), a_to_b="in", b_to_a="out")
NEW = DrawnZone(name="shelf", polygon=[(0.1, 0.1), (0.5, 0.123456), (0.5, 0.5)], dwell_s=5)


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def changed(before: str, after: str) -> set[str]:
    return set(before.splitlines()) ^ set(after.splitlines())


def test_the_same_drawing_is_the_same_file() -> None:
    assert redraw(STORE, "door", Drawing(zones=[MAT], lines=[WAY])) == STORE


def test_a_new_zone_is_one_new_line() -> None:
    after = redraw(STORE, "door", Drawing(zones=[MAT, NEW], lines=[WAY]))
    line = "      shelf: {polygon: [[0.1, 0.1], [0.5, 0.1235], [0.5, 0.5]], dwell_s: 5}"
    assert changed(STORE, after) == {line}
    assert comments(after) == comments(STORE)
    assert after.index("shelf") < after.index("# who comes")


def test_a_moved_corner_keeps_the_rest_of_its_zone() -> None:
    moved = MAT.model_copy(update={"polygon": [(0, 0), (1, 0), (0.9, 1)]})
    after = redraw(STORE, "door", Drawing(zones=[moved], lines=[WAY]))
    assert '        polygon: [[0, 0], [1, 0], [0.9, 1]]\n        labels: ["person"]\n' in after
    assert set(comments(STORE)) - set(comments(after)) == {" far"}


def test_a_renamed_zone_keeps_all_but_its_name() -> None:
    after = redraw(STORE, "door", Drawing(zones=[MAT.model_copy(update={"name": "entrance"})], lines=[WAY]))
    assert changed(STORE, after) == {"      mat:", "      entrance:"}


def test_what_is_deleted_goes_with_its_own_comments() -> None:
    after = redraw(STORE, "door", Drawing())
    assert "zones" not in after
    assert "lines" not in after
    assert set(comments(STORE)) - set(comments(after)) == {
        " the mat",
        " far",
        " who comes and goes",
        " inwards",
    }


def test_regions_and_masks_get_their_blocks() -> None:
    corners = [(0.0, 0.0), (0.2, 0.0), (0.2, 0.2)]
    for camera, drawing in (("door", Drawing(zones=[MAT], lines=[WAY])), ("till", Drawing())):
        wanted = drawing.model_copy(update={"masks": [corners], "never_look": [corners]})
        after = redraw(STORE, camera, wanted)
        assert comments(after) == comments(STORE)
        assert "masks: [[[0, 0], [0.2, 0], [0.2, 0.2]]]" in after
        assert redraw(after, camera, wanted) == after
        assert redraw(after, camera, drawing).count("[0.2, 0.2]") == 0


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two zones are called 'shelf'"):
        redraw(STORE, "door", Drawing(zones=[NEW, NEW]))


def test_a_camera_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="camera 'garden'"):
        redraw(STORE, "garden", Drawing())


def test_names_that_change_places_keep_their_zones() -> None:
    text = STORE.replace("    # who comes", "      rug: {polygon: [[0, 0], [1, 0], [0, 1]]}\n    # who comes")
    swapped = [
        MAT.model_copy(update={"name": "rug"}),
        DrawnZone(was="rug", name="mat", polygon=[(0, 0), (1, 0), (0, 1)]),
    ]
    after = redraw(text, "door", Drawing(zones=swapped, lines=[WAY]))
    assert "      rug:\n        polygon:\n          - [0, 0]" in after
    assert "      mat: {polygon: [[0, 0], [1, 0], [0, 1]]}" in after


def test_a_block_that_others_share_is_refused() -> None:
    text = STORE.replace("    zones:\n", "    zones: &zones\n").replace(
        "till: {source: b.mp4, model: people}", "till: {source: b.mp4, model: people, zones: *zones}"
    )
    with pytest.raises(ConfigError, match="shares"):
        redraw(text, "door", Drawing(zones=[MAT, NEW], lines=[WAY]))


@pytest.mark.parametrize("shipped", ["demo.yaml", "live.yaml"])
def test_shipped_files_survive(shipped: str, repository: Path, tmp_path: Path) -> None:
    text = (repository / "edge_runtime" / shipped).read_text()
    (tmp_path / "store.yaml").write_text(text)
    camera = load_settings(tmp_path / "store.yaml").cameras["east"]
    assert redraw(text, "east", drawing_of(camera)) == text
