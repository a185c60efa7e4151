"""Bundles: what settings name, or the version of it that a fleet has put in its place.

A version stands in for every bundle of its name; labels from a fleet stand in for those of its task. Chooses
no variant and opens no model.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_runtime.archive import open_any_bundle
from edge_runtime.bundle import ModelBundle, open_bundle, shipped_bundle, wrap_model
from edge_runtime.contract.errors import BundleError, ConfigError, StorageError
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.task import UnlabelledSpec
from edge_runtime.settings import AgentSettings, ModelSettings
from edge_runtime.update.contents import LABELS
from edge_runtime.update.slots import Slots

log = logging.getLogger(__name__)


class Bundles:
    """Opens bundles for settings.

    Args:
        trusted: Public keys (PEM files), of which one must have signed whatever was not shipped with this
            program; empty: signatures are not asked for.
        slots: Where versions from a fleet are; None: the device is in none.
    """

    def __init__(self, trusted: Sequence[Path] = (), slots: Path | None = None) -> None:
        self.trusted = tuple(trusted) or None
        self._slots = slots

    def open(self, model: ModelSettings) -> ModelBundle:
        """Open what a model is now.

        A version that the disk has damaged is said, and what was installed takes its place.

        Raises:
            BundleError: It is missing, damaged, or not signed by whom this device trusts.
            ConfigError: The model is in the cloud only, or a key cannot be read.
        """
        base = self.installed(model)
        active = self._active("model", base.manifest.name)
        if active is None or model.bundle is None:
            return self.labelled(base)
        try:
            return self.version(active)
        except BundleError as error:
            log.error("%s; what was installed is used instead", error)
            return self.labelled(base)

    def version(self, folder: Path) -> ModelBundle:
        """Open a version from a fleet.

        Args:
            folder: Of its slot.

        Raises:
            BundleError: It is missing, damaged, or not signed by whom this device trusts.
            ConfigError: A key cannot be read.
        """
        return self.labelled(open_any_bundle(folder, trusted=self.trusted))

    def installed(self, model: ModelSettings) -> ModelBundle:
        """Open what settings name, whatever a fleet has put in its place.

        Raises:
            BundleError: It is missing, damaged, or not signed by whom this device trusts.
            ConfigError: The model is in the cloud only, or a key cannot be read.
        """
        if model.file is not None and model.task is not None:
            if self.trusted is not None:
                raise BundleError(
                    f"model {model.file}",
                    expected="a signed bundle, for `bundles.trusted` names keys",
                    got="a bare file",
                    do="Build a bundle of it and sign it: edge-runtime convert --sign",
                )
            return wrap_model(model.file, model.task)
        if model.bundle is None:
            raise ConfigError("a model", expected="`bundle`, or `file` with `task`", got="neither")
        shipped = shipped_bundle(model.bundle.name) == model.bundle
        return open_any_bundle(model.bundle, trusted=None if shipped else self.trusted)

    def name_of(self, model: ModelSettings) -> str:
        """Give the name of the bundle that settings name, looking at its manifest alone where that is there.

        Raises:
            BundleError: It is missing or damaged.
            ConfigError: The model is in the cloud only.
        """
        if model.bundle is not None and model.bundle.is_dir():
            return open_bundle(model.bundle, check_files=False).manifest.name
        return self.installed(model).manifest.name

    def labelled(self, bundle: ModelBundle) -> ModelBundle:
        """Put the labels of a fleet in place of a bundle's own, where there are as many."""
        folder = self._active("labels", bundle.manifest.name)
        if folder is None:
            return bundle
        try:
            return with_labels(bundle, folder / LABELS)
        except ConfigError as error:
            log.error("%s; the bundle's own are used instead", error)
            return bundle

    def _active(self, kind: Kind, name: str) -> Path | None:
        if self._slots is None:
            return None
        try:
            active = Slots(self._slots, kind, name).active()
        except StorageError as error:
            log.error("%s; what was installed is used instead", error)
            return None
        return None if active is None else active[1]


def bundles_of(settings: AgentSettings) -> Bundles:
    """See settings as what opens their bundles."""
    slots = None if settings.fleet is None else settings.fleet.folder / "updates" / "slots"
    return Bundles(settings.bundles.trusted, slots)


def with_labels(bundle: ModelBundle, file: Path) -> ModelBundle:
    """Put other labels in place of a bundle's own.

    Args:
        bundle: The bundle.
        file: One label a line.

    Raises:
        ConfigError: The file cannot be read, or the model has another number of classes.
    """
    try:
        labels = tuple(file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"labels {file}", expected="a readable text file", got=str(error)) from error
    manifest = bundle.manifest
    task = manifest.task
    own = () if isinstance(task, UnlabelledSpec) else task.labels
    if not own or len(own) != len(labels):
        raise ConfigError(
            f"labels of model '{manifest.name}'",
            expected=f"{len(own)} of them, as the bundle has" if own else "none: it gives no classes",
            got=f"{len(labels)}",
        )
    return replace(
        bundle,
        manifest=manifest.model_copy(update={"task": task.model_copy(update={"labels": labels})}),
    )
