"""OpenVINO: IR and `.onnx` models on x86 and Arm processors, Intel GPUs and NPUs.

An IR is an `.xml` beside its `.bin`, or the folder of both. Converts no file. Keeps the library from
reporting its use over the network.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Array, Tensors, TensorSpec, check_tensors
from edge_runtime.engines.base import EngineOptions
from edge_runtime.engines.modelfile import require_model
from edge_runtime.engines.pool import Pool
from edge_runtime.engines.registry import DEFAULT_PROVIDER, FORMATS
from edge_runtime.engines.vendor import brief, needs

_NAME = "openvino"
_CPU = DEFAULT_PROVIDER[_NAME]


class _Runner:
    """One infer request. Not for two threads at a time."""

    def __init__(self, compiled: Any, tensor: Any) -> None:
        self._request = compiled.create_infer_request()
        self._tensor = tensor
        self._inputs: list[Any] = list(compiled.inputs)
        self._outputs = range(len(compiled.outputs))

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        for port, array in zip(self._inputs, arrays, strict=True):
            # Shared memory has to be contiguous and writeable; other arrays are copied.
            shared = np.require(array, requirements=("C", "W"))
            self._request.set_tensor(port, self._tensor(shared, shared_memory=True))
        self._request.infer(share_outputs=True)
        # The request writes its next outputs into the same memory, so the caller gets a copy.
        return [self._request.get_output_tensor(index).data.copy() for index in self._outputs]


class OpenVinoSession:
    """A model compiled by OpenVINO: one infer request for each caller at the same time."""

    def __init__(self, model: Path, compiled: Any, vendor: Any) -> None:
        self.inputs: Sequence[TensorSpec] = [_spec(port) for port in compiled.inputs]
        self.outputs: Sequence[TensorSpec] = [_spec(port) for port in compiled.outputs]
        self.provider = ",".join(compiled.get_property("EXECUTION_DEVICES"))
        self._model = model
        self._order = [spec.name for spec in self.inputs]
        self._names = [spec.name for spec in self.outputs]

        def make() -> _Runner:
            return _Runner(compiled, vendor.Tensor)

        self._pool = Pool(str(model), make, make())

    def run(self, inputs: Tensors) -> Tensors:
        """Run the model once; see `Session.run`."""
        check_tensors(inputs, self.inputs)
        arrays = [inputs[name] for name in self._order]
        with self._pool.lend() as runner:
            try:
                outputs = runner.run(arrays)
            except RuntimeError as error:
                raise EngineError(f"openvino failed to run {self._model}: {brief(error)}") from error
        return dict(zip(self._names, outputs, strict=True))

    def close(self) -> None:
        """Wait for runs under way and free the compiled model."""
        self._pool.close()


class OpenVino:
    """Opens OpenVINO IR and ONNX models."""

    name = _NAME
    formats: tuple[str, ...] = FORMATS[_NAME]

    def available(self) -> str | None:
        """Say why OpenVINO cannot run here; None when it can."""
        try:
            _load()
        except EngineError as error:
            return str(error)
        return None

    def providers(self) -> tuple[str, ...]:
        """The devices OpenVINO sees: `CPU`, `GPU`, `GPU.1`, `NPU`."""
        return tuple(_core().available_devices)

    def open(self, variant: Path, *, options: EngineOptions) -> OpenVinoSession:
        """Open an IR or ONNX model; see `Engine.open`."""
        vendor = _load()
        file = require_model(_model_file(variant), _NAME, (".xml", ".onnx"))
        device = _choose_device(self.providers(), options)
        try:
            model = _core().read_model(file)
        except RuntimeError as error:
            raise BundleError(
                f"openvino cannot read {file}: {brief(error)}", do="Download or convert the file again"
            ) from error
        try:
            compiled = _core().compile_model(model, device, _properties(device, options))
        except RuntimeError as error:
            raise EngineError(f"openvino cannot compile {file} for {device}: {brief(error)}") from error
        return OpenVinoSession(file, compiled, vendor)


def _load() -> Any:
    # Importing openvino sends an event to a web service if it finds this module. An entry of None makes that
    # import fail, upon which openvino uses its own stub, which sends nothing.
    cast(dict[str, Any], sys.modules).setdefault("openvino_telemetry", None)
    with needs(_NAME, "openvino"):
        import openvino  # noqa: PLC0415 - an extra, imported when it is asked for
    return openvino


@cache
def _core() -> Any:
    """OpenVINO's one registry of devices; costs tens of milliseconds to make."""
    core = _load().Core()
    # Weights mapped from the file would change, or fault, when somebody replaces it under a running agent.
    core.set_property({"ENABLE_MMAP": False})
    return core


def _model_file(variant: Path) -> Path:
    """Find the `.xml` in an IR folder; anything else is the file itself."""
    if not variant.is_dir():
        return variant
    found = sorted(variant.glob("*.xml"))
    if len(found) != 1:
        raise BundleError(
            f"openvino folder {variant}",
            expected="one .xml file with its .bin",
            got=f"{len(found)} .xml files",
        )
    return found[0]


def _choose_device(present: Sequence[str], options: EngineOptions) -> str:
    """Take the first wanted device that is there; `GPU` also means `GPU.0`."""
    for wanted in options.providers:
        if any(wanted in (device, device.partition(".")[0]) for device in present):
            return wanted
    if options.providers and not options.allow_fallback:
        raise EngineError(
            f"openvino device {', '.join(options.providers)}",
            expected=f"one of {', '.join(present)}",
            do="Install the device's driver, change the provider, or set allow_fallback",
        )
    return _CPU


def _properties(device: str, options: EngineOptions) -> dict[str, Any]:
    # Names: OpenVINO documentation, "Query Device Properties", and the pages of the CPU, GPU and NPU devices.
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == _CPU:
        # A stream runs one request at a time; those of one stream wait for each other.
        properties["NUM_STREAMS"] = options.callers
        properties["INFERENCE_NUM_THREADS"] = options.callers * options.threads
        # Pinned, the first stream of every model would sit on the same core.
        properties["ENABLE_CPU_PINNING"] = False
    # Hardware with bfloat16 or float16 would use it unasked, and answer otherwise than the machine that
    # measured the receipts. An NPU calculates in float16 in any case.
    if not options.half_precision and not device.startswith("NPU"):
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if options.cache:
        properties["CACHE_DIR"] = str(options.cache)
    return properties


def _spec(port: Any) -> TensorSpec:
    shape = tuple(None if axis.is_dynamic else axis.get_length() for axis in port.get_partial_shape())
    name = port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()
    return TensorSpec(name, np.dtype(port.get_element_type().to_dtype()).name, shape)
