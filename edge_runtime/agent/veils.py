"""Veils: what is hidden in each camera's pictures before a sink gets them, as the settings say.

Finds nobody itself: the cameras' models do, and one for faces. Where it cannot tell what to hide, it raises,
and no picture goes anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from edge_runtime.analytics.veil import Blur, Veil
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.result import Detections
from edge_runtime.contract.scene import Scene
from edge_runtime.settings import PrivacySettings

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
            For each of them the scene with its `hidden`.

        Raises:
            EngineError: It cannot be told; the picture must not be shown.
        """
        return {blur: self._marked(scene, blur) for blur in wanted}

    def alone(self, scene: Scene) -> Scene:
        """Mark one scene as `default` says, whatever came before it.

        Raises:
            EngineError: As `mark`.
        """
        return self._hide(scene, self.default, self._veil(self.default))

    def forget(self, camera: str) -> None:
        """Begin anew with a camera that was stopped."""
        for blur in Blur:
            self._veils.pop((camera, blur), None)

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
