"""A decoder that says what the test wrote, whatever it reads; its sessions tell what was asked of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.tensors import Tensors, TensorSpec


class ScriptedDecoder:
    """Gives each token of a script all the probability, in turn."""

    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()
    provider = "script"

    def __init__(self, script: Sequence[int], vocabulary: int) -> None:
        self.script = script
        self.vocabulary = vocabulary
        self.readings: list[ScriptedReading] = []
        self.closed = False

    def run(self, inputs: Tensors) -> Tensors:
        raise NotImplementedError("a script has no tensors")

    def start(self) -> "ScriptedReading":
        self.readings.append(ScriptedReading(self.script, self.vocabulary))
        return self.readings[-1]

    def close(self) -> None:
        self.closed = True


class ScriptedReading:
    """Remembers every call."""

    def __init__(self, script: Sequence[int], vocabulary: int) -> None:
        self._script = iter(script)
        self._vocabulary = vocabulary
        self.calls: list[tuple[int, ...]] = []
        self.closed = False

    def read(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        self.calls.append(tuple(tokens))
        logits = np.full(self._vocabulary, -30, np.float32)
        logits[next(self._script)] = 30
        return logits

    def close(self) -> None:
        self.closed = True
