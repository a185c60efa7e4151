"""Veils: what is hidden in each camera's pictures before a sink gets them, as the settings say.

Finds nobody itself: the cameras' models do, and one for faces. Where it cannot tell what to hide, no picture
goes anywhere that asks for it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from edge_runtime.analytics.veil import Blur, Veil
from edge_runtime.contract.errors import EdgeRuntimeError, EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.scene import Scene
from edge_runtime.settings import PrivacySettings

log = logging.getLogger(__name__)

FindFaces = Callable[[Picture], Detections]


class Veils:
    """The veils of all cameras; a camera's scenes come one after the other.

    Args:
        privacy: Of the store.
        faces: Finds faces in a picture; None: nothing does, and nothing asks for it.
    """

    def __init__(self, privacy: PrivacySettings, faces: FindFaces | None = None) -> None:
        self._privacy = privacy
        self._faces = faces
        self._veils: dict[tuple[str, Blur], Veil] = {}
        self._troubles: dict[tuple[str, Blur], str] = {}

    @property
    def default(self) -> Blur:
        """What is hidden where nothing else is said."""
        return self._privacy.blur

    def mark(self, scene: Scene, wanted: frozenset[Blur]) -> Mapping[Blur, Scene]:
        """Say what is to be hidden in a scene's picture.

        Args:
            scene: As the pipeline gives it.
            wanted: Ways of hiding that somebody asks for.

        Returns:
            For each of them the scene with its `hidden`. Where it cannot be told, there is none, the picture
            must not be shown to who asks for it, and the log says so once.
        """
        marked: dict[Blur, Scene] = {}
        for blur in wanted:
            try:
                marked[blur] = self._marked(scene, blur)
            except EdgeRuntimeError as error:
                self._say(scene.frame.camera, blur, str(error))
            else:
                self._troubles.pop((scene.frame.camera, blur), None)
        return marked

    def alone(self, scene: Scene) -> Scene:
        """Mark one scene as `default` says, whatever came before it.

        Raises:
            EngineError: It cannot be told what to hide.
        """
        return self._hide(scene, self.default, self._veil(self.default))

    def forget(self, camera: str) -> None:
        """Begin anew with a camera that was stopped."""
        for blur in Blur:
            self._veils.pop((camera, blur), None)

    def _say(self, camera: str, blur: Blur, problem: str) -> None:
        if self._troubles.get((camera, blur)) != problem:
            self._troubles[camera, blur] = problem
            log.error("camera '%s': no picture with %s hidden goes anywhere: %s", camera, blur, problem)

    def _marked(self, scene: Scene, blur: Blur) -> Scene:
        key = scene.frame.camera, blur
        veil = self._veils.get(key)
        if veil is None:
            veil = self._veils[key] = self._veil(blur)
        return self._hide(scene, blur, veil)

    def _veil(self, blur: Blur) -> Veil:
        return Veil(blur, () if blur is Blur.FACES else self._privacy.labels)

    def _hide(self, scene: Scene, blur: Blur, veil: Veil) -> Scene:
        if blur is Blur.NOTHING:
            return scene
        frame = scene.frame
        found = self._find(frame.picture) if blur is Blur.FACES else scene.found
        if found is None:
            raise EngineError(
                f"camera '{frame.camera}'", expected="what the model found in its picture", got="nothing"
            )
        picture = frame.picture
        return replace(
            scene, hidden=veil.update(found, frame.pts_ns, height=picture.height, width=picture.width)
        )

    def _find(self, picture: Picture) -> Detections:
        if self._faces is None:
            raise EngineError("faces", expected="the model that `privacy.faces` names", got="none is open")
        return self._faces(picture)
