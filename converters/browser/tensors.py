"""Tensors of a model as a browser's engine names them. Opens the model in this host's engine to see them.

LiteRT.js goes by the names of the model's signature, the rest of this project by those of its tensors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.browser.manifest import WebEngine, WebTensor
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import TensorSpec
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.registry import load_engine

FORMATS: Mapping[str, tuple[Format, ...]] = {
    "onnxruntime-web": (Format.ONNX, Format.ORT),
    "litertjs": (Format.TFLITE,),
}
"""The formats each engine of browsers opens, best first."""
_HOST = {"onnxruntime-web": "onnxruntime", "litertjs": "litert"}
_TYPES: Mapping[str, frozenset[str]] = {
    "litertjs": frozenset({"float32", "int32", "uint8"}),
    "onnxruntime-web": frozenset(
        {"bool", "float16", "float32", "float64"}
        | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    ),
}
"""Types of inputs and outputs: those of @litertjs/core 2.5.3 (its DATATYPES), of onnxruntime-web's Tensor."""


def describe(model: Path, engine: WebEngine) -> tuple[tuple[WebTensor, ...], tuple[WebTensor, ...]]:
    """Give a model's inputs and outputs, in its own order.

    Args:
        model: The model's file; its format is one that the engine opens.
        engine: The browser's.

    Raises:
        BundleError: The file is missing or corrupt.
        EngineError: The browser's engine does not take one of its types, or the host has no engine to look.
    """
    session = load_engine(_HOST[engine]).open(model, options=EngineOptions())
    try:
        inputs, outputs = session.inputs, session.outputs
    finally:
        session.close()
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            if spec.dtype not in _TYPES[engine]:
                raise EngineError(
                    f"{engine} cannot run {model.name}: {kind} '{spec.name}'",
                    expected=" or ".join(sorted(_TYPES[engine])),
                    got=spec.dtype,
                    do="Convert it with float inputs and outputs; its weights may stay int8",
                )
    taken, given = _signature(model) if engine == "litertjs" else ({}, {})
    return _named(inputs, taken), _named(outputs, given)


def _named(specs: Sequence[TensorSpec], keys: Mapping[str, str]) -> tuple[WebTensor, ...]:
    return tuple(
        WebTensor(name=spec.name, key=keys.get(spec.name, spec.name), dtype=spec.dtype, shape=spec.shape)
        for spec in specs
    )


def _signature(model: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Names of tensors -> names in the first signature; empty where the model has none."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        vendor: Any = Interpreter(str(model))
        signatures = vendor.get_signature_list()
        if not signatures:
            return {}, {}
        runner = vendor.get_signature_runner(next(iter(signatures)))
        taken, given = runner.get_input_details(), runner.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"the signature of {model} cannot be read: {error}") from error
    return {one["name"]: key for key, one in taken.items()}, {one["name"]: key for key, one in given.items()}
