"""The seam to models that generate: a decoder reads tokens and remembers what it read.

Samples nothing and knows no text. The adapters are table rows, imported when they are asked for.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import ConfigError
from edge_runtime.engines.base import EngineOptions, Session

DECODERS: Mapping[str, str] = MappingProxyType(
    {
        "onnxruntime": "edge_runtime.engines.onnxruntime_decoder:open_decoder",
        "genai": "edge_runtime.engines.genai:open_decoder",
    }
)
"""Engine -> `module:function` of those that can generate."""


class Reading(Protocol):
    """One text on its way through a decoder, with the past of its attention. For one thread at a time."""

    def read(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read on.

        Args:
            tokens: What comes next; at least one.

        Returns:
            (vocabulary,) float32, the logits of the token after these.

        Raises:
            EngineError: The engine failed, or the model is closed.
        """
        ...

    def close(self) -> None:
        """Give the memory of the past back. Idempotent."""
        ...


class Decoder(Session, Protocol):
    """An opened model that generates. Several texts may be read at once, each on its own thread."""

    def start(self) -> Reading:
        """Begin a text.

        Raises:
            EngineError: The model is closed.
        """
        ...


def open_decoder(engine: str, model: Path, options: EngineOptions) -> Decoder:
    """Open a model that generates.

    Args:
        engine: A key of `DECODERS`.
        model: Its file or folder.
        options: How.

    Raises:
        ConfigError: The engine cannot generate.
        BundleError: The model is missing, corrupt, or no decoder.
        EngineError: The engine is not available, or no wanted provider runs.
    """
    if engine not in DECODERS:
        raise ConfigError("engine", expected=f"one that generates: {', '.join(DECODERS)}", got=engine)
    module, _, name = DECODERS[engine].partition(":")
    opener: Callable[[Path, EngineOptions], Decoder] = getattr(importlib.import_module(module), name)
    return opener(model, options)
