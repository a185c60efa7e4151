"""LiteRT: `.tflite` models on the CPU, through XNNPACK where it takes the graph.

Uses `ai-edge-litert`, or `tflite-runtime` where only that exists. Loads no external delegate.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Array, Quantization, Tensors, TensorSpec, check_tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.modelfile import require_model
from edge_runtime.engines.pool import Pool
from edge_runtime.engines.registry import DEFAULT_PROVIDER, FORMATS
from edge_runtime.engines.vendor import brief, needs

_NAME = "litert"
_XNNPACK = DEFAULT_PROVIDER[_NAME]
_BUILTIN = "CPU"
_IDENTIFIER = b"TFL3"  # file_identifier of the TensorFlow Lite FlatBuffers schema, at byte 4


class _Runner:
    """One interpreter with the input shapes it is allocated for. Not for two threads at a time."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self.inputs: list[dict[str, Any]] = interpreter.get_input_details()
        self._shapes = [tuple(map(int, tensor["shape"])) for tensor in self.inputs]
        try:
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError):
            if not any(None in _shape(tensor) for tensor in self.inputs):
                raise
            self._shapes = []  # the file's lengths of open axes are placeholders; the first run knows better
        # LiteRT 2.3 knows the shapes of outputs only once tensors are allocated.
        self.outputs: list[dict[str, Any]] = interpreter.get_output_details()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            for tensor, shape in zip(self.inputs, shapes, strict=True):
                self.interpreter.resize_tensor_input(tensor["index"], shape)
            self.interpreter.allocate_tensors()
            self._shapes = shapes
        for tensor, array in zip(self.inputs, arrays, strict=True):
            self.interpreter.set_tensor(tensor["index"], array)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(tensor["index"]) for tensor in self.outputs]


class LiteRtSession:
    """A model opened in LiteRT: one interpreter for each caller at the same time, the file read once."""

    def __init__(self, model: Path, content: bytes, vendor: Any, options: EngineOptions) -> None:
        builtin = options.providers[:1] == (_BUILTIN,)
        resolvers = vendor.OpResolverType
        resolver = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if builtin else resolvers.AUTO

        def make() -> _Runner:
            # Content, not path: a file replaced under a running agent must not change the model.
            return _Runner(
                vendor.Interpreter(
                    model_content=content,
                    num_threads=options.threads,
                    experimental_op_resolver_type=resolver,
                )
            )

        try:
            first = make()
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"litert cannot open {model}: {brief(error)}", do="Download or convert the file again"
            ) from error
        self.inputs: Sequence[TensorSpec] = [_spec(tensor) for tensor in first.inputs]
        self.outputs: Sequence[TensorSpec] = [_spec(tensor) for tensor in first.outputs]
        self.provider = _really_runs(first.interpreter)
        self._model = model
        self._order = [spec.name for spec in self.inputs]
        self._names = [spec.name for spec in self.outputs]
        self._pool = Pool(str(model), make, first)

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once; see `Session.run`."""
        check_tensors(inputs, self.inputs)
        arrays = [inputs[name] for name in self._order]
        with self._pool.lend() as runner:
            try:
                outputs = runner.run(arrays)
            except (ValueError, RuntimeError) as error:
                raise EngineError(f"litert failed to run {self._model}: {brief(error)}") from error
        return dict(zip(self._names, outputs, strict=True))

    def close(self) -> None:
        """Wait for runs under way and free every interpreter."""
        self._pool.close()


class LiteRt:
    """Opens TensorFlow Lite models."""

    name = _NAME
    formats: tuple[str, ...] = FORMATS[_NAME]

    def available(self) -> str | None:
        """Say why LiteRT cannot run here; None when it can."""
        try:
            _load()
        except EngineError as error:
            return str(error)
        return None

    def providers(self) -> tuple[str, ...]:
        """XNNPACK, and the builtin kernels without it as `CPU`."""
        _load()
        return (_XNNPACK, _BUILTIN)

    def open(self, variant: Path, *, options: EngineOptions) -> LiteRtSession:
        """Open a `.tflite` file; see `Engine.open`."""
        vendor = _load()
        content = require_model(variant, _NAME, (".tflite",)).read_bytes()
        if content[4:8] != _IDENTIFIER:
            raise BundleError(
                f"model {variant}",
                expected="a TensorFlow Lite file (TFL3 at byte 4)",
                got=repr(content[:8]),
                do="Download or convert the file again",
            )
        strangers = set(options.providers) - {_XNNPACK, _BUILTIN}
        if strangers and not options.allow_fallback:
            raise EngineError(
                f"litert provider {', '.join(sorted(strangers))}",
                expected=f"{_XNNPACK} or {_BUILTIN}",
                do="Change the provider, or set allow_fallback",
            )
        session = LiteRtSession(variant, content, vendor, options)
        if session.provider not in options.providers and options.providers and not options.allow_fallback:
            session.close()
            raise EngineError(
                f"{variant} would run on {session.provider}: {_XNNPACK} takes no part of it",
                do=f"Set provider {_BUILTIN}, or allow_fallback",
            )
        return session


def _load() -> Any:
    with needs(_NAME, "litert"):
        try:
            from ai_edge_litert import interpreter  # noqa: PLC0415 - an extra, imported when it is asked for
        except ImportError as error:
            return _load_older(error)
    return interpreter


def _load_older(error: ImportError) -> Any:
    """Import tflite-runtime, for systems without ai-edge-litert; without either, raise the latter's error."""
    try:
        import tflite_runtime.interpreter as older  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    except ImportError:
        raise error from None
    return cast(Any, older)


def _really_runs(interpreter: Any) -> str:
    # The library has no public way to ask; a delegated part of the graph is an op of this name.
    operations = interpreter._get_ops_details()
    return _XNNPACK if any(op["op_name"] == "DELEGATE" for op in operations) else _BUILTIN


def _shape(tensor: dict[str, Any]) -> tuple[int | None, ...]:
    # Without a dynamic axis `shape_signature` may be empty and `shape` tells.
    signature = tensor["shape_signature"] if len(tensor["shape_signature"]) else tensor["shape"]
    return tuple(None if axis < 0 else int(axis) for axis in signature)


def _spec(tensor: dict[str, Any]) -> TensorSpec:
    found = tensor["quantization_parameters"]
    quantization = None
    if len(found["scales"]):
        quantization = Quantization(
            scale=tuple(float(scale) for scale in found["scales"]),
            zero_point=tuple(int(zero) for zero in found["zero_points"]),
            axis=int(found["quantized_dimension"]) if len(found["scales"]) > 1 else None,
        )
    return TensorSpec(tensor["name"], np.dtype(tensor["dtype"]).name, _shape(tensor), quantization)
