"""CoreAiSession: runs a Core AI asset with Apple's own runtime, to check it; Linux has it, too.

Runs in the environment of the tool `coreai` only. On Linux the runtime calculates on the processor in its own
way, so it says nothing of a device's speed or memory.
"""

import asyncio
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Tensors, TensorSpec, check_tensors
from edge_runtime.engines.vendor import brief

PROVIDER = "Core AI runtime"
_FUNCTION = "main"


class CoreAiSession:
    """An opened `.aimodel`; see `edge_runtime.engines.base.Session`.

    Args:
        asset: The `.aimodel` folder.

    Raises:
        BundleError: It is damaged, or does not compile here.
    """

    def __init__(self, asset: Path) -> None:
        # By name: only the tool's own environment has them.
        authoring: Any = import_module("coreai.authoring")
        runtime: Any = import_module("coreai.runtime")
        self._array: Any = runtime.NDArray
        self.provider = PROVIDER
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._opened: Any = None
        try:
            opened = authoring.AIModelAsset.load(asset.absolute()).executable()
            model = self._loop.run_until_complete(opened.__aenter__())
            self._opened = opened
            self._run: Any = model.load_function(_FUNCTION)
        except Exception as error:
            self.close()
            raise BundleError(f"model {asset}: {brief(error)}", do="Convert it again") from error
        about: Any = self._run.desc
        self.inputs: Sequence[TensorSpec] = [
            _spec(name, about.input_descriptor(name)) for name in about.input_names
        ]
        self.outputs: Sequence[TensorSpec] = [
            _spec(name, about.output_descriptor(name)) for name in about.output_names
        ]

    def run(self, inputs: Tensors) -> Tensors:
        """Calculate once; see `Session.run`. Callers take turns."""
        check_tensors(inputs, self.inputs)
        with self._lock:
            if self._opened is None:
                raise EngineError("session of Core AI is closed", do="Open the model again")
            given = {name: self._array(np.ascontiguousarray(array)) for name, array in inputs.items()}
            try:
                found: Any = self._loop.run_until_complete(self._run(given))
            except RuntimeError as error:
                raise EngineError(f"Core AI failed: {brief(error)}") from error
            return {spec.name: found[spec.name].numpy().copy() for spec in self.outputs}

    def close(self) -> None:
        """Free the model. Idempotent."""
        with self._lock:
            if self._opened is not None:
                opened, self._opened, self._run = self._opened, None, None
                self._loop.run_until_complete(opened.__aexit__(None, None, None))
            self._loop.close()


def _spec(name: str, about: Any) -> TensorSpec:
    return TensorSpec(name, str(about.dtype), tuple(about.shape))
