"""ONNX Runtime GenAI: folders with a `genai_config.json`, decoders that the library runs with their past.

Uses the library for running only: tokenizing, sampling and stopping are this project's own, the same for
every decoder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import BundleError, EngineError, InputError
from edge_runtime.contract.tensors import Tensors, TensorSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.pool import Gate
from edge_runtime.engines.registry import DEFAULT_PROVIDER, FORMATS
from edge_runtime.engines.vendor import brief, needs

_NAME = "genai"
CONFIG = "genai_config.json"
"""The file that makes a folder one of this library."""


class GenAiDecoder:
    """A model folder opened in ONNX Runtime GenAI."""

    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()

    def __init__(self, model: Path, vendor: Any, opened: Any, context_length: int) -> None:
        self.provider = DEFAULT_PROVIDER[_NAME]
        self._vendor = vendor
        self._opened = opened
        self._context_length = context_length
        self._gate = Gate(str(model))

    def run(self, inputs: Tensors) -> Tensors:
        """Refuse: the library keeps the model's tensors to itself."""
        raise InputError(
            "tensors", expected="a prompt: this model only generates", got=", ".join(inputs) or "none"
        )

    def start(self) -> "GenAiReading":
        """Begin a text; see `Decoder.start`."""
        with self._gate:
            params = self._vendor.GeneratorParams(self._opened)
            params.set_search_options(max_length=self._context_length, batch_size=1)
            return GenAiReading(self._gate, self._vendor.Generator(self._opened, params))

    def close(self) -> None:
        """Wait for runs under way and free the model."""
        self._gate.close()
        self._opened = None


class GenAiReading:
    """One text; the library's generator holds its past."""

    def __init__(self, gate: Gate, generator: Any) -> None:
        self._gate = gate
        self._generator = generator

    def read(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read on; see `Reading.read`."""
        with self._gate:
            if self._generator is None:
                raise EngineError("this text is closed", do="Start another one")
            try:
                self._generator.append_tokens(np.array([tokens], np.int32))
                logits = self._generator.get_logits()
            except Exception as error:
                raise EngineError(f"onnxruntime-genai failed: {brief(error)}") from error
        row: NDArray[np.float32] = np.asarray(logits).reshape(-1, logits.shape[-1])[-1].astype(np.float32)
        return row

    def close(self) -> None:
        """Let go of the past."""
        self._generator = None


class GenAi:
    """Opens folders of ONNX Runtime GenAI."""

    name = _NAME
    formats = FORMATS[_NAME]

    def available(self) -> str | None:
        """Say why the library cannot run here; None when it can."""
        try:
            _load()
        except EngineError as error:
            return str(error)
        return None

    def providers(self) -> tuple[str, ...]:
        """What a folder runs on: its own configuration says so, and the CPU is in every build."""
        _load()
        return (DEFAULT_PROVIDER[_NAME],)

    def open(self, variant: Path, *, options: EngineOptions) -> GenAiDecoder:
        """Open a folder; see `Engine.open`."""
        vendor = _load()
        context_length = _context_length(variant)
        if options.providers not in {(), (DEFAULT_PROVIDER[_NAME],)} and not options.allow_fallback:
            raise EngineError(
                f"provider {', '.join(options.providers)} of engine '{_NAME}'",
                expected=DEFAULT_PROVIDER[_NAME],
                do=f"Name it in the folder's {CONFIG}",
            )
        try:
            config = vendor.Config(str(variant))
            opened = vendor.Model(config)
        except Exception as error:
            raise BundleError(
                f"onnxruntime-genai cannot open {variant}: {brief(error)}",
                do=f"Check its {CONFIG}, or build the folder again",
            ) from error
        return GenAiDecoder(variant, vendor, opened, context_length)


def open_decoder(model: Path, options: EngineOptions) -> GenAiDecoder:
    """Open a folder; see `decoder.open_decoder`."""
    return GenAi().open(model, options=options)


def _load() -> Any:
    with needs(_NAME, "genai"):
        import onnxruntime_genai  # noqa: PLC0415 - an extra, imported when it is asked for
    return onnxruntime_genai


def _context_length(folder: Path) -> int:
    try:
        return int(json.loads((folder / CONFIG).read_bytes())["model"]["context_length"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(
            f"model {folder}",
            expected=f"a folder with {CONFIG} that names model.context_length",
            got=brief(error),
            do="Give the folder that onnxruntime-genai's model builder wrote",
        ) from error
