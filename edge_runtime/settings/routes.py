"""What no single block about requests can know: a route to the cloud needs a cloud, a store something to do.

Opens nothing and reads no file.
"""

from collections.abc import Iterator

from edge_runtime.settings.document import Document
from edge_runtime.settings.model import AgentSettings
from edge_runtime.settings.problems import Problem


def purpose(document: Document) -> Iterator[Problem]:
    """Find a store that has nothing to do; works on raw data, so that other mistakes do not hide it."""
    if not document.value(("cameras",)) and document.value(("door",)) is None:
        yield Problem(("cameras",), "is missing", do="Add it, or a `door` for requests.")


def routes(settings: AgentSettings) -> Iterator[Problem]:
    """Find routes that lead nowhere."""
    for name, model in settings.models.items():
        route, keys = model.route, ("models", name, "route")
        if settings.cloud is None and route.policy not in {None, "local_only"}:
            yield Problem(
                (*keys, "policy"),
                f"{route.policy} needs a `cloud`, and there is none",
                do="Add the block `cloud` with its url, or take local_only.",
            )
        if route.audit_rate and (route.policy in {"local_only", "cloud_only"} or settings.cloud is None):
            yield Problem(
                (*keys, "audit_rate"),
                "nothing to compare the device's answers with",
                "a `cloud`, and a policy under which both sides may answer",
                do="Take local_first, cascade or fastest, or leave audit_rate out.",
            )
        if route.threshold_file is not None and route.policy != "cascade":
            yield Problem((*keys, "threshold_file"), "only a cascade has a threshold", do="Drop it.")
    for name, camera in settings.cameras.items():
        used = settings.models.get(camera.model)
        if used is not None and not used.here:
            yield Problem(
                ("cameras", name, "model"),
                f"'{camera.model}' is in the cloud only",
                "a model with a bundle or a file",
                do="Cameras look with a model of the device.",
            )
