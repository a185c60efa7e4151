"""MilSession: runs the MIL program of a saved `.mlpackage` where Core ML itself does not exist, to check it.

Reads the package as it was written (weights in int8, int4 or palettes included) and evaluates operation by
operation in float32; what the program stores as float16 is rounded to float16 after every operation, as a
device stores it. A device adds rounding inside its operations, and an accelerator its own order of summing,
which this does not show. No speed: it says nothing about latency. Knows ML Programs only, neither older
neural networks nor pipelines, and only the operations in `OPERATIONS`; `tests/unit/test_mil_evaluator.py`
holds each of them against the source framework.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from converters.verify.mil_layers import LAYERS
from converters.verify.mil_math import MATH
from converters.verify.mil_shapes import SHAPES
from edge_runtime.contract.errors import BundleError, ConversionError, EngineError
from edge_runtime.contract.tensors import Tensors, TensorSpec, check_tensors

OPERATIONS: Mapping[str, Any] = {**MATH, **SHAPES, **LAYERS}
"""Name of a MIL operation -> function of its inputs by name; tensors in and out are torch's."""

PROVIDER = "MIL evaluator"
_INPUT_DTYPES = {65568: "float32", 65552: "float16", 131104: "int32"}
"""ArrayFeatureType.ArrayDataType of Core ML's FeatureTypes.proto."""


class MilSession:
    """An opened `.mlpackage`; see `edge_runtime.engines.base.Session`.

    Args:
        package: The `.mlpackage` folder.

    Raises:
        BundleError: It is no ML Program, or damaged.
        ConversionError: It has operations that the evaluator does not know; all are named.
    """

    def __init__(self, package: Path) -> None:
        program, description = _load(package)
        self._function = program.functions["main"]
        unknown = sorted(unknown_operations(self._function))
        if unknown:
            raise ConversionError(
                f"the evaluator of Core ML programs does not know {', '.join(unknown)}",
                operator=unknown[0],
                expected="operations it was checked on",
                got=package.name,
                do="Check this variant on a Mac: edge-runtime bench BUNDLE --receipt",
            )
        self.inputs: Sequence[TensorSpec] = [_spec(feature) for feature in description.input]
        self.outputs: Sequence[TensorSpec] = [_spec(feature) for feature in description.output]
        self.provider = PROVIDER
        self._constants = _constants(self._function)
        self._lock = threading.Lock()
        self._closed = False

    def run(self, inputs: Tensors) -> Tensors:
        """Evaluate once; see `Session.run`. Callers take turns."""
        check_tensors(inputs, self.inputs)
        with self._lock:
            if self._closed:
                raise EngineError("session of the MIL evaluator is closed", do="Open the model again")
            values = evaluate(self._function, inputs, self._constants)
        return {spec.name: values[spec.name].numpy().astype(spec.dtype) for spec in self.outputs}

    @property
    def operations(self) -> Sequence[Any]:
        """The program's operations in order, as Core ML Tools gives them."""
        return list(self._function.operations)

    def trace(self, inputs: Tensors) -> dict[str, Any]:
        """Evaluate once and give every value of the program by its name, as arrays; for comparisons."""
        check_tensors(inputs, self.inputs)
        with self._lock:
            values = evaluate(self._function, inputs, self._constants)
        return {name: value.numpy() for name, value in values.items() if hasattr(value, "numpy")}

    def close(self) -> None:
        """Free the model. Idempotent."""
        with self._lock:
            self._closed = True
            self._constants = {}


def unknown_operations(function: Any) -> set[str]:
    """Name the operations of a program that are not in the table."""
    return {
        op.op_type
        for op in function.operations
        if op.op_type != "const" and not _is_weight(op) and op.op_type not in OPERATIONS
    }


def evaluate(function: Any, inputs: Tensors, constants: Mapping[str, Any]) -> dict[str, Any]:
    """Run a program.

    Args:
        function: A PyMIL function.
        inputs: By name.
        constants: By name of the variable.

    Returns:
        Every value that is no constant, by name: torch tensors, float32 where the program has floats.

    Raises:
        EngineError: An operation failed; names it.
    """
    import torch

    values: dict[str, Any] = {
        name: _tensor(torch, np.asarray(array), _kind(function.inputs[name]))
        for name, array in inputs.items()
    }
    with torch.no_grad():
        for op in function.operations:
            if op.op_type == "const" or _is_weight(op):
                continue
            given = {
                key: _resolve(var, values, constants) for key, var in op.inputs.items() if var is not None
            }
            try:
                made = OPERATIONS[op.op_type](torch, **given)
            except Exception as error:
                raise EngineError(
                    f"the MIL evaluator failed at {op.op_type} '{op.name}': {type(error).__name__}: {error}"
                ) from error
            results: tuple[Any, ...] = cast("tuple[Any, ...]", made) if isinstance(made, tuple) else (made,)
            for variable, result in zip(op.outputs, results, strict=True):
                values[variable.name] = _stored(torch, result, _kind(variable))
    return values


def _load(package: Path) -> tuple[Any, Any]:
    import coremltools
    from coremltools.converters.mil.frontend.milproto import load as reader

    load = cast(Any, reader).load
    try:
        spec: Any = coremltools.utils.load_spec(str(package))
    except Exception as error:
        raise BundleError(f"model {package}: {error}", do="Convert it again") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise BundleError(
            f"model {package}",
            expected="an ML Program",
            got=str(spec.WhichOneof("Type")),
            do="Convert it again",
        )
    weights = package / "Data" / "com.apple.CoreML" / "weights"
    program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))
    return program, spec.description


def _spec(feature: Any) -> TensorSpec:
    array = feature.type.multiArrayType
    dtype = _INPUT_DTYPES.get(array.dataType)
    if dtype is None:
        raise BundleError(
            f"tensor '{feature.name}'",
            expected="a MultiArray of float32, float16 or int32",
            got=str(feature.type),
        )
    return TensorSpec(feature.name, dtype, tuple(int(axis) for axis in array.shape))


def _is_weight(op: Any) -> bool:
    return bool(op.op_type.startswith("constexpr_"))


def _constants(function: Any) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {}
    for op in function.operations:
        if op.op_type == "const":
            value = op.outputs[0].val
        elif _is_weight(op):
            value = op.materialized_val_inference()
        else:
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.ndim:
            value = _tensor(torch, value, str(cast(Any, value).dtype.kind))
        found[op.outputs[0].name] = value
    return found


def _resolve(variable: Any, values: Mapping[str, Any], constants: Mapping[str, Any]) -> Any:
    if isinstance(variable, (list, tuple)):
        return [_resolve(one, values, constants) for one in variable]  # pyright: ignore[reportUnknownVariableType]
    return values[variable.name] if variable.name in values else constants[variable.name]


def _kind(variable: Any) -> str:
    """`f16`, `f32`, `i` or `b`: how the program stores a variable."""
    from coremltools.converters.mil.mil import types

    dtype = np.dtype(types.nptype_from_builtin(variable.dtype))
    return {"f": f"f{8 * dtype.itemsize}", "i": "i", "u": "i", "b": "b"}[dtype.kind]


def _tensor(torch: Any, array: Any, kind: str) -> Any:
    if kind[0] == "f":
        return _stored(torch, torch.from_numpy(np.ascontiguousarray(array, np.float32)), kind)
    return torch.from_numpy(np.ascontiguousarray(array, np.bool_ if kind == "b" else np.int64))


def _stored(torch: Any, value: Any, kind: str) -> Any:
    tensor = torch.as_tensor(value)
    match kind:
        case "f16":
            return tensor.to(torch.float16).to(torch.float32)
        case "i":
            return tensor.to(torch.int64)
        case "b":
            return tensor.to(torch.bool)
        case _:
            return tensor.to(torch.float32)
