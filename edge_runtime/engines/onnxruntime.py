"""ONNX Runtime: `.onnx` and `.ort` models on the CPU, and on GPUs and NPUs through execution providers.

The library falls back to the CPU with a warning when a provider cannot work; here that is an error, unless
allowed. Converts and optimises no file.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Tensors, TensorSpec, check_tensors
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


class OnnxRuntimeSession:
    """A model opened in ONNX Runtime, which is safe to run from several threads."""

    def __init__(self, model: Path, vendor: Any, provider: str) -> None:
        self.inputs: Sequence[TensorSpec] = [_spec(node, model) for node in vendor.get_inputs()]
        self.outputs: Sequence[TensorSpec] = [_spec(node, model) for node in vendor.get_outputs()]
        self.provider = provider
        self._model = model
        self._vendor: Any = vendor
        self._names = [spec.name for spec in self.outputs]
        self._gate = Gate(str(model))
        # DirectML: "does not support multi-threaded calls to Run on the same inference session"
        # (onnxruntime documentation, DirectML Execution Provider).
        self._turn: AbstractContextManager[Any] = Lock() if provider == _DIRECTML else nullcontext()

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once; see `Session.run`."""
        with self._gate, self._turn:
            check_tensors(inputs, self.inputs)
            try:
                outputs = self._vendor.run(self._names, inputs)
            except Exception as error:
                raise EngineError(f"onnxruntime failed to run {self._model}: {brief(error)}") from error
        return dict(zip(self._names, outputs, strict=True))

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
                raise EngineError(f"onnxruntime failed to run {self._model}: {brief(error)}") from error

    def close(self) -> None:
        """Wait for runs under way and free the model."""
        self._gate.close()
        self._vendor = None


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
