"""ONNX Runtime: `.onnx` and `.ort` models on the CPU, and on GPUs and NPUs through execution providers.

The library falls back to the CPU with a warning when a provider cannot work; here that is an error, unless
allowed. Converts and optimises no file.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

from edge_runtime.contract.errors import BundleError, EngineError, InputError
from edge_runtime.contract.tensors import Tensors, TensorSpec, check_tensors, format_shape
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.modelfile import require_model
from edge_runtime.engines.pool import Gate
from edge_runtime.engines.registry import DEFAULT_PROVIDER, FORMATS
from edge_runtime.engines.vendor import brief, needs

_NAME = "onnxruntime"
_CPU = DEFAULT_PROVIDER[_NAME]
_DIRECTML = "DmlExecutionProvider"

# onnxruntime's names of the ONNX tensor types (ONNX specification, TensorProto.DataType).
_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(uint8)": "uint8",
}

# What onnxruntime raises when the file is at fault; everything else is the engine's or a provider's trouble.
_FILE_ERRORS = {"InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoModel", "NoSuchFile"}


# How onnxruntime says that the values or lengths of a tensor do not suit an operator; its exception is `Fail`
# or `RuntimeException` then, as for everything else that fails.
_MISFIT = re.compile(
    "out of (data )?bounds|Attempting to broadcast|Can broadcast 0|Shape mismatch"
    "|dimensions must match|cannot be reshaped|[Ii]ncompatible dimensions"
    "|dimension with value zero|non.concatenable|cannot broadcast",
)
# Where in onnxruntime's own sources it happened: file, line and signature, and a condition that was false.
_WHERE = re.compile(r"/\S+:\d+ (?:.*? was false\. |.*?\) )?")
_REASON_CHARACTERS = 200
_TOKEN_DTYPES = ("int32", "int64")
_MANY_TOKENS = 2048
"""Giving memory back made runs of 1024 tokens 10 % slower; larger ones are rare and took gigabytes."""


class OnnxRuntimeSession:
    """A model opened in ONNX Runtime, which is safe to run from several threads."""

    def __init__(self, model: Path, vendor: Any, provider: str) -> None:
        self.inputs: Sequence[TensorSpec] = [_spec(node, model) for node in vendor.get_inputs()]
        self.outputs: Sequence[TensorSpec] = [_spec(node, model) for node in vendor.get_outputs()]
        self.provider = provider
        self._model = model.name  # where it lies is no business of whoever asks
        self._vendor: Any = vendor
        self._names = [spec.name for spec in self.outputs]
        dynamic = all(spec.dtype in _TOKEN_DTYPES and None in spec.shape for spec in self.inputs)
        self._shrinking = _shrinking() if dynamic and provider == _CPU else None
        self._shared = _shared_axes(vendor.get_inputs())
        self._gate = Gate(model.name)
        # DirectML: "does not support multi-threaded calls to Run on the same inference session"
        # (onnxruntime documentation, DirectML Execution Provider).
        self._turn: AbstractContextManager[Any] = Lock() if provider == _DIRECTML else nullcontext()

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once; see `Session.run`."""
        with self._gate, self._turn:
            check_tensors(inputs, self.inputs)
            for axis, places in self._shared.items():
                _check_axis(inputs, axis, places)
            try:
                outputs = self._vendor.run(self._names, inputs, self._how(inputs))
            except Exception as error:
                # Its frames hold the vendor's session: whoever keeps the error would keep the model's memory.
                error.__traceback__ = None
                raise self._failure(error) from error
        return dict(zip(self._names, outputs, strict=True))

    def _how(self, inputs: Tensors) -> Any:
        """Give the options of a run: after a large one, the memory that small ones do not need goes back."""
        large = max((array.size for array in inputs.values()), default=0) > _MANY_TOKENS
        return self._shrinking if large else None

    def bind(self) -> Any:
        """Make an IO binding, for callers that keep tensors in the vendor's memory from run to run.

        Raises:
            EngineError: The session is closed.
        """
        with self._gate:
            return self._vendor.io_binding()

    def run_bound(self, binding: Any) -> None:
        """Run the model once on what is bound.

        Args:
            binding: Of `bind`, for this caller alone.

        Raises:
            EngineError: The engine failed, or the session is closed.
        """
        with self._gate, self._turn:
            try:
                self._vendor.run_with_iobinding(binding)
            except Exception as error:
                raise EngineError(f"onnxruntime failed to run {self._model}: {_reason(error)}") from error

    def close(self) -> None:
        """Wait for runs under way and free the model."""
        self._gate.close()
        self._vendor = None

    def _failure(self, error: Exception) -> InputError | EngineError:
        """Tell whose fault it was that a run failed."""
        reason = _reason(error)
        if type(error).__name__ == "InvalidArgument" or _MISFIT.search(str(error)):
            return InputError(
                "the inputs do not fit the model's operators",
                expected="values and lengths that the model was made for",
                got=reason,
                do="Check the ids of tokens and the lengths of the tensors",
            )
        return EngineError(f"onnxruntime failed to run {self._model}: {reason}")


class OnnxRuntime:
    """Opens ONNX models."""

    name = _NAME
    formats: tuple[str, ...] = FORMATS[_NAME]

    def available(self) -> str | None:
        """Say why ONNX Runtime cannot run here; None when it can."""
        try:
            _load()
        except EngineError as error:
            return str(error)
        return None

    def providers(self) -> tuple[str, ...]:
        """The execution providers of this build. One of them may still fail to load its libraries."""
        return tuple(_load().get_available_providers())

    def open(self, variant: Path, *, options: EngineOptions) -> OnnxRuntimeSession:
        """Open an ONNX or ORT file; see `Engine.open`."""
        vendor = _load()
        require_model(variant, _NAME, (".onnx", ".ort"))
        wanted = [provider for provider in options.providers if provider != _CPU]
        present = [provider for provider in wanted if provider in vendor.get_available_providers()]
        cpu_will_do = options.allow_fallback or _CPU in options.providers or not wanted
        if not present and not cpu_will_do:
            raise EngineError(
                f"provider {', '.join(wanted)} is not in this onnxruntime",
                expected=f"one of {', '.join(vendor.get_available_providers())}",
                do="Install a build that has it (pip install 'edge-runtime[onnx-gpu]'), or allow_fallback",
            )
        providers = [(provider, _provider_options(provider, options)) for provider in present] + [(_CPU, {})]
        try:
            session = vendor.InferenceSession(
                str(variant), _session_options(vendor, present, options), providers=providers
            )
        except Exception as error:
            problem = f"onnxruntime cannot open {variant}: {brief(error)}"
            if type(error).__name__ in _FILE_ERRORS:
                raise BundleError(
                    problem, do="Check the file with onnx.checker, or export it again"
                ) from error
            raise EngineError(problem) from error
        session.disable_fallback()  # otherwise a failing run would quietly go on with the CPU
        provider = _really_runs(session, present)
        if provider == _CPU and not cpu_will_do:
            raise EngineError(
                f"{variant} would run on the CPU: {', '.join(wanted)} did not load or takes no part of it",
                do="Check the driver and its libraries, or set allow_fallback",
            )
        return OnnxRuntimeSession(variant, session, provider)


def _load() -> Any:
    with needs(_NAME, "onnx"):
        import onnxruntime  # noqa: PLC0415 - an extra, imported when it is asked for
    onnxruntime.disable_telemetry_events()  # Windows builds report usage otherwise
    return onnxruntime


def _session_options(vendor: Any, present: Sequence[str], options: EngineOptions) -> Any:
    chosen = vendor.SessionOptions()
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = vendor.ExecutionMode.ORT_SEQUENTIAL
    chosen.log_severity_level = 3  # errors; a provider that fails to load is found and told below
    # Waiting threads sleep: spinning steals the core from the next camera.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if present:
        chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if _DIRECTML in present:
        chosen.enable_mem_pattern = False  # DirectML refuses to open a model otherwise
    return chosen


def _provider_options(provider: str, options: EngineOptions) -> dict[str, str]:
    # Keys: onnxruntime documentation, one page for each execution provider.
    cache = str(options.cache) if options.cache else None
    if provider == "TensorrtExecutionProvider":
        half = {"trt_fp16_enable": "1"} if options.half_precision else {}
        return half | ({"trt_engine_cache_enable": "1", "trt_engine_cache_path": cache} if cache else {})
    if provider == "OpenVINOExecutionProvider":
        return {"num_of_threads": str(options.threads)} | ({"cache_dir": cache} if cache else {})
    return {}


def _really_runs(session: Any, present: Sequence[str]) -> str:
    """Name the wanted provider that runs most of the graph; the CPU's where none runs a node."""
    loaded = [provider for provider in present if provider in session.get_providers()]
    if not loaded:
        return _CPU
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before onnxruntime 1.24
        return loaded[0]
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    best = max(loaded, key=lambda provider: nodes[provider])
    return best if nodes[best] else _CPU


def _shrinking() -> Any:
    options = _load().RunOptions()
    # onnxruntime_run_options_config_keys.h
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _shared_axes(nodes: Sequence[Any]) -> Mapping[str, Sequence[tuple[str, int]]]:
    """Find the axes of inputs that the model calls by one name: (input, axis) of each, by that name."""
    places: dict[str, list[tuple[str, int]]] = {}
    for node in nodes:
        for at, axis in enumerate(node.shape):
            if isinstance(axis, str) and axis:
                places.setdefault(axis, []).append((node.name, at))
    return {axis: where for axis, where in places.items() if len(where) > 1}


def _check_axis(inputs: Tensors, axis: str, places: Sequence[tuple[str, int]]) -> None:
    if len({inputs[name].shape[at] for name, at in places}) > 1:
        shapes = {name: format_shape(inputs[name].shape) for name, _ in places}
        raise InputError(
            "inputs",
            expected=f"one length of '{axis}' in {', '.join(shapes)}",
            got=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
        )


def _reason(error: Exception) -> str:
    """Give what onnxruntime says went wrong, without the places of files."""
    said = " ".join(str(error).split())
    said = _WHERE.sub("", said.rpartition("Status Message: ")[2])
    return (
        said.rpartition("[ONNXRuntimeError] : ")[2][:_REASON_CHARACTERS].rstrip(". ") or type(error).__name__
    )


def _spec(node: Any, model: Path) -> TensorSpec:
    if node.type not in _DTYPES:
        raise BundleError(
            f"tensor '{node.name}' of {model}",
            expected=f"one of {', '.join(_DTYPES)}",
            got=node.type,
            do="Export plain tensors (scikit-learn: zipmap=False)",
        )
    shape = tuple(axis if isinstance(axis, int) and axis >= 0 else None for axis in node.shape)
    return TensorSpec(node.name, _DTYPES[node.type], shape)
