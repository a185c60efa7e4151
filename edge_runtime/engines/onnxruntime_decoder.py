"""Decoders in ONNX with their past as tensors, run by ONNX Runtime. Samples nothing.

What a run gives as present is bound as the past of the next one: the same memory, which never passes through
NumPy and is never copied by this loop (a graph that joins past and present copies inside).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Array, Tensors, TensorSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.onnxruntime import OnnxRuntime, OnnxRuntimeSession

IDS, MASK, POSITIONS, LOGITS = "input_ids", "attention_mask", "position_ids", "logits"
_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_LENGTH_AXIS = 2
"""Of (batch, heads, length, size), where the shape does not tell."""
_DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
"""Where the past lives, so that it does not travel; the CPU's memory for all other providers."""


class OnnxRuntimeDecoder:
    """A decoder opened in ONNX Runtime."""

    def __init__(self, session: OnnxRuntimeSession) -> None:
        """Find the past among the model's inputs, and its present among the outputs.

        Raises:
            BundleError: They are not those of a decoder.
        """
        self._session = session
        self.inputs: Sequence[TensorSpec] = session.inputs
        self.outputs: Sequence[TensorSpec] = session.outputs
        self.provider = session.provider
        self._plain = {one.name: one for one in session.inputs if one.name in {IDS, MASK, POSITIONS}}
        self._past = {one.name: one for one in session.inputs if _PAST.fullmatch(one.name)}
        self._present = {name: name.replace("past_key_values", "present", 1) for name in self._past}
        _check(session, self._plain, self._past, self._present)

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once on all its tensors, past included; see `Session.run`."""
        return self._session.run(inputs)

    def start(self) -> "OnnxRuntimeReading":
        """Begin a text; see `Decoder.start`."""
        empty = {name: _empty(spec) for name, spec in self._past.items()}
        return OnnxRuntimeReading(self._session, self._plain, self._present, empty)

    def close(self) -> None:
        """Wait for runs under way and free the model."""
        self._session.close()


class OnnxRuntimeReading:
    """One text; the past stays in the memory that ONNX Runtime gave it."""

    def __init__(
        self,
        session: OnnxRuntimeSession,
        plain: dict[str, TensorSpec],
        present: dict[str, str],
        empty: dict[str, Array],
    ) -> None:
        self._session = session
        self._plain = plain
        self._present = present
        self._device = _DEVICES.get(session.provider, "cpu")
        self._binding: Any = session.bind()
        self._past: dict[str, Any] = empty
        self._length = 0

    def read(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read on; see `Reading.read`."""
        if self._binding is None:
            raise EngineError("this text is closed", do="Start another one")
        binding, length = self._binding, self._length + len(tokens)
        given = {
            IDS: np.array([tokens]),
            MASK: np.ones((1, length)),
            POSITIONS: np.arange(self._length, length)[None],
        }
        binding.clear_binding_inputs()
        # The binding points into these arrays, so they live as long as the run.
        plain = {name: given[name].astype(spec.dtype) for name, spec in self._plain.items()}
        for name, array in plain.items():
            binding.bind_cpu_input(name, array)
        for name, value in self._past.items():
            if self._length:
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, value)
        # Bound anew each time: a bound output is otherwise written where the past of this run lies.
        binding.clear_binding_outputs()
        binding.bind_output(LOGITS, "cpu")
        for name in self._present.values():
            binding.bind_output(name, self._device)
        self._session.run_bound(binding)
        logits, *present = binding.get_outputs()
        self._past = dict(zip(self._present, present, strict=True))
        self._length = length
        row: NDArray[np.float32] = logits.numpy()[0, -1].astype(np.float32)
        return row

    def close(self) -> None:
        """Let go of the past."""
        self._binding = None
        self._past = {}


def open_decoder(model: Path, options: EngineOptions) -> OnnxRuntimeDecoder:
    """Open an ONNX decoder; see `decoder.open_decoder`."""
    session = OnnxRuntime().open(model, options=options)
    try:
        return OnnxRuntimeDecoder(session)
    except Exception:
        session.close()
        raise


def _check(
    session: OnnxRuntimeSession,
    plain: dict[str, TensorSpec],
    past: dict[str, TensorSpec],
    present: dict[str, str],
) -> None:
    strangers = [one for one in session.inputs if one.name not in plain and one.name not in past]
    given = {one.name: one for one in session.outputs}
    missing = [name for name in (LOGITS, *present.values()) if name not in given]
    wrong = [one for one in plain.values() if one.dtype not in {"int32", "int64"} or len(one.shape) != 2]
    if IDS not in plain or not past or strangers or missing or wrong:
        raise BundleError(
            "a decoder",
            expected=f"inputs {IDS} (integers), {MASK} and {POSITIONS} if it wants them,"
            " past_key_values.N.key and .value, and outputs {LOGITS}, present.N.key and .value",
            got=_said(session, strangers, missing, wrong),
            do="Export the model with a past (optimum: task text-generation-with-past)",
        )
    if len(given[LOGITS].shape) != 3:
        raise BundleError(
            f"output '{LOGITS}'", expected=f"{LOGITS} (1, length, vocabulary)", got=str(given[LOGITS])
        )


def _said(
    session: OnnxRuntimeSession, strangers: list[TensorSpec], missing: list[str], wrong: list[TensorSpec]
) -> str:
    if missing:
        return f"no output {', '.join(missing[:3])}"
    if strangers or wrong:
        return f"input {', '.join(map(str, [*strangers, *wrong][:3]))}"
    return f"inputs {', '.join(one.name for one in session.inputs[:6])}"


def _empty(spec: TensorSpec) -> Array:
    """The past of a text that has not begun: no length, batch 1."""
    open_axes = [axis for axis, size in enumerate(spec.shape) if axis and size is None]
    length = open_axes[0] if len(open_axes) == 1 else _LENGTH_AXIS
    shape = [1, *spec.shape[1:]]
    if len(shape) > length:
        shape[length] = 0
    sizes = [size for size in shape if size is not None]
    if len(sizes) != len(shape) or len(shape) < 3:
        raise BundleError(
            f"input '{spec.name}' of a decoder",
            expected="(batch, heads, length, size) with heads and size fixed",
            got=str(spec),
            do="Export the model with fixed heads",
        )
    return np.zeros(sizes, spec.dtype)
