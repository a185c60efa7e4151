"""Whether the entrances that the settings name are lines of their cameras. Opens nothing."""

from collections.abc import Iterator, Mapping

from edge_runtime.settings.camera import CameraSettings
from edge_runtime.settings.counts import CountsSettings
from edge_runtime.settings.problems import Problem, did_you_mean


def wrong_entrances(counts: CountsSettings, cameras: Mapping[str, CameraSettings]) -> Iterator[Problem]:
    """Find entrances that are no line of a camera, or one that is another entrance already."""
    taken: dict[tuple[str, str], str] = {}
    for name, entrance in counts.entrances.items():
        keys = ("counts", "entrances", name)
        camera = cameras.get(entrance.camera)
        if camera is None:
            problem = f"no camera is called '{entrance.camera}'"
            yield Problem((*keys, "camera"), problem, do=did_you_mean(entrance.camera, cameras))
            continue
        line = camera.lines.get(entrance.line)
        if line is None:
            problem = f"camera '{entrance.camera}' has no line '{entrance.line}'"
            yield Problem((*keys, "line"), problem, do=did_you_mean(entrance.line, camera.lines))
            continue
        words = (line.a_to_b, line.b_to_a)
        if entrance.inwards not in words:
            problem = f"the line has no word '{entrance.inwards}'"
            yield Problem((*keys, "in"), problem, f"one of {' and '.join(words)}")
        first = taken.setdefault((entrance.camera, entrance.line), name)
        if first != name:
            yield Problem((*keys, "line"), f"it is entrance '{first}' already", do="Name each line once.")
