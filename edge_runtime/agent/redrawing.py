"""Redrawing: a drawing of the page into the settings file, and the agent on with it.

The loader and the agent judge the new text before it becomes the file, at once and whole; comments stay.
"""

import hashlib
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from edge_runtime.agent.running import Running
from edge_runtime.atomic import cannot_write, flush_folder
from edge_runtime.contract.errors import ConfigError, RefusedError
from edge_runtime.protocol.drawing import Drawing, DrawnLine, DrawnZone
from edge_runtime.settings import AgentSettings, CameraSettings, SettingsError, load_with, sent_settings
from edge_runtime.settings.problems import dotted
from edge_runtime.settings.redraw import redraw
from edge_runtime.web.page.ports import DrawingError, Drawn, FileChangedError


class Redrawing:
    """Changes one store's file. Safe to share between threads.

    Args:
        agent: That runs by it.
        store: The file; None: there is none.
    """

    def __init__(self, agent: Running, store: Path | None) -> None:
        self._agent = agent
        self._store = None if store is None else store.resolve()
        self._saving = threading.Lock()

    def drawn(self, camera: str) -> Drawn:
        """Give what the file has of a camera.

        Raises:
            ConfigError: There is no such camera, or the file cannot be read.
        """
        locked = self._locked()
        if locked or self._store is None:
            return Drawn("", drawing_of(_camera(self._agent.settings, camera)), locked)
        version = _version(self._read())
        settings = load_with(self._store, None)
        return Drawn(version, drawing_of(_camera(settings, camera)))

    def draw(self, camera: str, version: str, drawing: Drawing) -> Drawn:
        """Change what the file has of a camera.

        Raises:
            FileChangedError: The file is not of that version any more.
            DrawingError: The drawing is wrong; says where. Nothing has changed.
            RefusedError: The file does not decide here.
            StorageError: The file cannot be written. Nothing has changed.
        """
        locked = self._locked()
        if locked or self._store is None:
            raise RefusedError("the drawing", got=locked)
        with self._saving:
            before = self._read()
            if _version(before) != version:
                raise FileChangedError(
                    f"{self._store.name} has changed meanwhile", do="Load the page again, and draw anew"
                )
            self._replace(self._store, camera, drawing, before.decode("utf-8"))
        return self.drawn(camera)

    def _replace(self, store: Path, camera: str, drawing: Drawing, text: str) -> None:
        part = store.with_name(f".{store.name}.{os.getpid()}.part")
        try:
            new = redraw(text, camera, drawing)
            with part.open("wb") as stream:
                stream.write(new.encode())
                stream.flush()
                os.fsync(stream.fileno())
            shutil.copymode(store, part)
            settings = load_with(part, None)
            self._agent.check(settings)
            part.replace(store)
            flush_folder(store.parent)
        except SettingsError as error:
            raise _explained(error, camera, part, store) from error
        except ConfigError as error:
            raise DrawingError(str(error), ()) from error
        except OSError as error:
            raise cannot_write(store, error) from error
        finally:
            with suppress(OSError):  # where it was never made, or is in its place
                part.unlink()
        self._agent.apply(settings)

    def _locked(self) -> str:
        """Say why nothing can be changed here; empty: it can."""
        if self._store is None:
            return "the store was not started from a file"
        fleet = self._agent.settings.fleet
        if fleet is not None and sent_settings(fleet.folder) is not None:
            return "the fleet's manager says what this store's cameras look at"
        return ""

    def _read(self) -> bytes:
        try:
            return b"" if self._store is None else self._store.read_bytes()
        except OSError as error:
            raise ConfigError(f"{self._store}: cannot be read: {error.strerror}") from error


def drawing_of(camera: CameraSettings) -> Drawing:
    """Give what is drawn over a camera's picture."""
    return Drawing(
        zones=[
            DrawnZone(was=name, name=name, polygon=list(zone.polygon), dwell_s=zone.dwell_s)
            for name, zone in camera.zones.items()
        ],
        lines=[
            DrawnLine(
                was=name, name=name, start=line.start, end=line.end, a_to_b=line.a_to_b, b_to_a=line.b_to_a
            )
            for name, line in camera.lines.items()
        ],
        masks=[list(polygon) for polygon in camera.motion.masks],
        never_look=[list(polygon) for polygon in camera.never_look],
    )


def _camera(settings: AgentSettings, name: str) -> CameraSettings:
    camera = settings.cameras.get(name)
    if camera is None:
        raise ConfigError(f"camera '{name}'", expected="one of the file", got="another")
    return camera


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _explained(error: SettingsError, camera: str, part: Path, store: Path) -> DrawingError:
    said = str(error).replace(str(part), store.name)
    here = ("cameras", camera)
    places = [(dotted(keys[2:]), text) for keys, text in error.places if keys[:2] == here]
    return DrawingError(said, places)
