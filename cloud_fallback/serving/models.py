"""The served models as this side of the cloud sees them, and how they are made from the settings.

A seam: tests put others in their place.
"""

from typing import Protocol

from cloud_fallback.serving.backend import ServedModels, ServingOptions
from cloud_fallback.serving.dispatcher import Observer
from cloud_fallback.serving.repository import Repository
from cloud_fallback.serving.settings import ServeSettings
from edge_runtime.protocol.backend import Backend


class Models(Backend, Protocol):
    """A backend that is started and closed."""

    async def start(self) -> None:
        """Load what should be loaded; what cannot be stands in the index with its reason."""
        ...

    async def close(self) -> None:
        """Answer what is under way, then free everything."""
        ...


def models_for(
    settings: ServeSettings, observer: Observer, kind: type[ServedModels] = ServedModels
) -> ServedModels:
    """Make the models of a repository; nothing is read yet.

    Args:
        settings: Where they are and what they may use.
        observer: Counts what they do.
        kind: How they are loaded.
    """
    repository = Repository(settings.bundles, trusted=settings.trust or None)
    options = ServingOptions(instances=settings.instances, threads=settings.threads)
    return kind(repository, options, observer=observer)
