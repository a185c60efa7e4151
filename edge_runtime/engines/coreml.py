"""Core ML: `.mlpackage` and `.mlmodel` models on macOS, through coremltools.

Runs on macOS only; on other systems it says so. Takes models with tensor (MultiArray) inputs, not Image
inputs: a task prepares the pixels. Core ML does not tell which unit ran a layer, so the compute units
asked for are reported.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Tensors, TensorSpec, check_tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.modelfile import require_model
from edge_runtime.engines.pool import Pool
from edge_runtime.engines.registry import DEFAULT_PROVIDER, FORMATS
from edge_runtime.engines.vendor import brief, needs

_NAME = "coreml"
_UNITS = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")
"""Core ML's MLComputeUnits, as coremltools spells them."""

# ArrayFeatureType.ArrayDataType of Core ML's FeatureTypes.proto.
_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}


class CoreMlSession:
    """A model opened in Core ML; an MLModel is for one thread at a time, so each caller gets its own."""

    def __init__(self, model: Path, vendor: Any, units: str) -> None:
        def make() -> Any:
            return vendor.models.MLModel(str(model), compute_units=getattr(vendor.ComputeUnit, units))

        try:
            first = make()
            description = first.get_spec().description
        except Exception as error:
            raise BundleError(
                f"coreml cannot open {model}: {brief(error)}", do="Download or convert the model again"
            ) from error
        self.inputs: Sequence[TensorSpec] = [_spec(feature, model) for feature in description.input]
        self.outputs: Sequence[TensorSpec] = [_spec(feature, model) for feature in description.output]
        self.provider = units
        self._model = model
        self._pool = Pool(str(model), make, first)

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once; see `Session.run`."""
        check_tensors(inputs, self.inputs)
        with self._pool.lend() as runner:
            try:
                found = runner.predict(dict(inputs))
            except Exception as error:
                raise EngineError(f"coreml failed to run {self._model}: {brief(error)}") from error
        return {spec.name: np.array(found[spec.name], dtype=spec.dtype) for spec in self.outputs}

    def close(self) -> None:
        """Wait for runs under way and free the model."""
        self._pool.close()


class CoreMl:
    """Opens Core ML models."""

    name = _NAME
    formats: tuple[str, ...] = FORMATS[_NAME]

    def available(self) -> str | None:
        """Say why Core ML cannot run here; None when it can."""
        try:
            _load()
        except EngineError as error:
            return str(error)
        return None

    def providers(self) -> tuple[str, ...]:
        """Core ML's compute units."""
        _load()
        return _UNITS

    def open(self, variant: Path, *, options: EngineOptions) -> CoreMlSession:
        """Open an `.mlpackage` or `.mlmodel`; see `Engine.open`."""
        vendor = _load()
        require_model(variant, _NAME, (".mlpackage", ".mlmodel"))
        units = next((name for name in options.providers if name in _UNITS), None)
        if options.providers and units is None and not options.allow_fallback:
            raise EngineError(
                f"coreml compute units {', '.join(options.providers)}", expected=f"one of {', '.join(_UNITS)}"
            )
        return CoreMlSession(variant, vendor, units or DEFAULT_PROVIDER[_NAME])


def _load() -> Any:
    if sys.platform != "darwin":
        raise EngineError(f"engine '{_NAME}' runs on macOS only", got=sys.platform)
    with needs(_NAME, "coreml"):
        import coremltools  # noqa: PLC0415 - an extra, imported when it is asked for
    return coremltools


def _spec(feature: Any, model: Path) -> TensorSpec:
    kind = feature.type.WhichOneof("Type")
    array = feature.type.multiArrayType
    if kind != "multiArrayType" or array.dataType not in _DTYPES:
        raise BundleError(
            f"tensor '{feature.name}' of {model}",
            expected="a MultiArray",
            got=str(kind),
            do="Convert with ct.TensorType inputs and without a classifier configuration",
        )
    return TensorSpec(feature.name, _DTYPES[array.dataType], _shape(array))


def _shape(array: Any) -> tuple[int | None, ...]:
    flexible = array.WhichOneof("ShapeFlexibility")
    if flexible == "shapeRange":
        ranges = array.shapeRange.sizeRanges
        return tuple(int(r.lowerBound) if r.lowerBound == r.upperBound else None for r in ranges)
    if flexible == "enumeratedShapes":
        lengths = zip(*(shape.shape for shape in array.enumeratedShapes.shapes), strict=True)
        return tuple(int(axis[0]) if len(set(axis)) == 1 else None for axis in lengths)
    return tuple(int(axis) for axis in array.shape)
