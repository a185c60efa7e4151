"""The recordings the benchmark reads: 1080p25 H.264 as a shop camera sends it, made once by ffmpeg.

Two clips: a crowd, upscaled from the project's pedestrian recording, and the same street with nobody in it.
Serves no stream; `lives.py` does.
"""

import hashlib
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "bench"
SOURCE = HERE.parent / "edge_runtime" / "media" / "pedestrians.mp4"

FPS = 25
WIDTH, HEIGHT = 1920, 1080
CROP = "crop=768:432:0:100"
"""A 16:9 cut of the 768x576 recording, so that people keep their shape."""
SENSOR = "noise=alls=4:allf=t"
"""Light sensor noise: upscaled pictures would otherwise be far cheaper to decode than a camera's."""
CAMERA_ENCODER = (
    # One reference-chained GOP of two seconds, no B-frames, one slice: what IP cameras send by default.
    *("-c:v", "libx264", "-preset", "medium", "-profile:v", "main", "-bf", "0", "-g", "50"),
    *("-x264-params", "scenecut=0:slices=1:sliced-threads=0"),
    # One quality, capped: about 4 Mbit/s for the crowd, a fraction of it while nothing moves.
    *("-crf", "22", "-maxrate", "5M", "-bufsize", "8M", "-pix_fmt", "yuv420p", "-r", str(FPS)),
)


def crowd(seconds: int = 20) -> Path:
    """People walking through the picture; `seconds` * 25 frames."""
    picture = f"setpts=N/{FPS}/TB,{CROP},scale={WIDTH}:{HEIGHT}:flags=bicubic,{SENSOR}"
    return _encode("crowd", ("-i", str(SOURCE), "-vf", picture, "-frames:v", str(seconds * FPS)))


def end(first: int) -> Path:
    """The crowd from one frame of the recording on: what training did not see, as a camera sends it."""
    picture = (
        f"select='gte(n,{first})',setpts=N/{FPS}/TB,{CROP},scale={WIDTH}:{HEIGHT}:flags=bicubic,{SENSOR}"
    )
    return _encode("end", ("-i", str(SOURCE), "-vf", picture))


def empty(seconds: int = 20) -> Path:
    """The same street with nobody in it: the per-pixel median of the recording, under light sensor noise."""
    still = CACHE / "empty-street.png"
    if not still.exists():
        _median_picture(still)
    picture = f"scale={WIDTH}:{HEIGHT}:flags=bicubic,{SENSOR}"
    return _encode(
        "empty",
        (
            "-loop",
            "1",
            "-framerate",
            str(FPS),
            "-i",
            str(still),
            "-vf",
            picture,
            "-frames:v",
            str(seconds * FPS),
        ),
    )


def small(seconds: int = 20) -> Path:
    """The crowd at 640x360: a substream, for the parts that load the model and not the decoder."""
    picture = f"setpts=N/{FPS}/TB,{CROP},scale=640:360:flags=bicubic"
    return _encode("small", ("-i", str(SOURCE), "-vf", picture, "-frames:v", str(seconds * FPS)))


def endless(clip: Path, times: int = 8) -> Path:
    """The same packets again and again, for a server to play for minutes."""
    target = clip.with_stem(f"{clip.stem}-x{times}")
    if not target.exists():
        partial = target.with_suffix(".partial.mp4")
        _ffmpeg("-stream_loop", str(times - 1), "-i", str(clip), "-c", "copy", str(partial))
        partial.replace(target)
    return target


EVERY = 2
"""Of the recording's frames, every second one is labelled."""


def frames(folder: Path, *, every: int = EVERY) -> list[Path]:
    """Write every n-th frame of the 16:9 recording at its own resolution as JPEG; give them in order."""
    done = sorted(folder.glob("*.jpg"))
    if not done:
        folder.mkdir(parents=True, exist_ok=True)
        picture = f"{CROP},select='not(mod(n,{every}))'"
        _ffmpeg("-i", str(SOURCE), "-vf", picture, "-fps_mode", "vfr", "-q:v", "2", str(folder / "%04d.jpg"))
        done = sorted(folder.glob("*.jpg"))
    return done


def _median_picture(target: Path) -> None:
    import cv2
    import numpy as np

    pictures = [cv2.imread(str(path)) for path in frames(CACHE / "frames")[::10]]
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), np.median(np.stack(pictures), axis=0).astype(np.uint8))


def _encode(name: str, arguments: tuple[str, ...]) -> Path:
    spelled = repr((arguments, CAMERA_ENCODER)).replace(str(SOURCE), "").replace(str(CACHE), "")
    recipe = hashlib.sha256(spelled.encode() + SOURCE.read_bytes()).hexdigest()[:8]
    target = CACHE / f"{name}-{recipe}.mp4"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial.mp4")
        _ffmpeg(*arguments, *CAMERA_ENCODER, str(partial))
        partial.replace(target)
    return target


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(("ffmpeg", "-v", "error", "-nostdin", "-y", *arguments), check=True)
