"""What `store.yaml` may say of recordings, and what it means for cameras that come and go."""

from pathlib import Path

import pytest

from edge_runtime.agent.recordings import Recordings
from edge_runtime.analytics.veil import Blur
from edge_runtime.settings import (
    AgentSettings,
    CameraSettings,
    ClipsSinkSettings,
    SettingsError,
    SnapshotsSinkSettings,
    load_settings,
)
from tests.simulators import rtsp

STORE = """
version: 1
site: shop
models:
  people: {{bundle: efficientdet-lite0}}
cameras:
  door: {{source: door.mp4, model: people{camera}}}
sinks:
{sinks}
"""


def load(folder: Path, *sinks: str, camera: str = "") -> AgentSettings:
    path = folder / "store.yaml"
    path.write_text(STORE.format(camera=camera, sinks="\n".join(f"  - {{{sink}}}" for sink in sinks)))
    return load_settings(path)


def test_folders_are_beside_the_file_and_blur_is_the_stores(tmp_path: Path) -> None:
    settings = load(tmp_path, "type: clips, folder: a", "type: snapshots, folder: b, blur: heads")
    clips, snapshots = settings.sinks
    assert isinstance(clips, ClipsSinkSettings)
    assert isinstance(snapshots, SnapshotsSinkSettings)
    assert (clips.folder, clips.blur) == (tmp_path / "a", None)
    assert snapshots.blur is Blur.HEADS


@pytest.mark.parametrize(
    ("sinks", "camera", "said"),
    [
        (["type: clips, folder: a, events: [zone_enter]"], "", "no event is a 'zone_enter'"),
        (["type: clips, folder: a, longest_s: 5"], "", "one clip takes 10 s"),
        (["type: clips, folder: a, events: []"], "", "events"),
        (["type: clips, folder: a, cameras: [dor]"], "", "no camera is called 'dor'"),
        (["type: clips, folder: a", "type: snapshots, folder: a"], "", "records into this folder already"),
        (["type: clips, folder: a"], ", main: other.mp4", "a file or device as `main`"),
        (["type: clips, folder: a"], ", main: 'rstp://x/y'", "Did you mean 'rtsp://'?"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, sinks: list[str], camera: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(tmp_path, *sinks, camera=camera)
    assert said in str(error.value)


def test_the_password_of_a_main_stream_is_not_shown(tmp_path: Path) -> None:
    camera = load(
        tmp_path, "type: clips, folder: a", camera=", main: 'rtsp://user:secret@10.0.0.5/1'"
    ).cameras["door"]
    assert "secret" not in repr(camera)


def camera_of(**more: object) -> CameraSettings:
    return CameraSettings.model_validate({"source": "door.mp4", "model": "people", **more})


def test_nothing_is_kept_of_a_camera_whose_clips_nobody_asks_for(tmp_path: Path) -> None:
    recordings = Recordings()
    recordings.snapshots(SnapshotsSinkSettings(type="snapshots", folder=tmp_path / "b"), {})
    assert recordings.tape("door") is None
    sink = ClipsSinkSettings(type="clips", folder=tmp_path / "a", cameras=("door",))
    recordings.clips(sink, Blur.NOTHING)
    assert recordings.tape("yard") is None
    assert recordings.tape("door") is recordings.tape("door")
    recordings.close()


def test_a_main_stream_is_read_as_long_as_its_camera_is_there(tmp_path: Path) -> None:
    recordings = Recordings()
    clips = recordings.clips(ClipsSinkSettings(type="clips", folder=tmp_path / "a"), Blur.NOTHING)
    main = camera_of(main=f"rtsp://127.0.0.1:{rtsp.free_port()}/x")
    recordings.watch({"door": main}, {})
    tape = recordings.tape("door")
    assert tape is not None
    assert tape.own_reader
    assert tape.exact_s > 0
    recordings.watch({"door": camera_of()}, {}, away=["door"])
    assert recordings.tape("door") is tape
    assert not tape.own_reader, "its clips are of its own stream from now on"
    recordings.watch({}, {}, away=["door"])
    assert recordings.tape("door") is not tape
    clips.close()
    recordings.close()
