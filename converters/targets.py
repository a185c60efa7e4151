"""Targets: tables of what can be made of what, by which step, in which tool, and how large it will be.

Data and look-ups only; `plan` chooses among it. A new target is a row here and a module with its step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from converters.recipe import SourceKind
from converters.step import Options
from edge_runtime.contract.bundle import Format, Precision
from edge_runtime.contract.device import DeviceProfile


@dataclass(frozen=True, slots=True)
class Make:
    """How a model file comes about.

    Args:
        function: The step's.
        tool: The row of `toolchain.TOOLS`.
        of: Format of the model it is made from; None: of the source itself.
    """

    function: str
    tool: str
    of: Format | None = None


_EXPORT = "converters.export."
_QUANTIZE = "converters.quantize."
_TORCH = {
    Format.ONNX: Make(f"{_EXPORT}torch_onnx:export", "torch"),
    Format.TFLITE: Make(f"{_EXPORT}torch_litert:export", "litert-torch"),
    Format.COREML: Make(f"{_EXPORT}torch_coreml:export", "coreml"),
    Format.AIMODEL: Make(f"{_EXPORT}torch_coreai:export", "coreai"),
}
_KERAS = {
    Format.ONNX: Make(f"{_EXPORT}keras:export_onnx", "tensorflow"),
    Format.TFLITE: Make(f"{_EXPORT}keras:export_tflite", "tensorflow"),
    Format.COREML: Make(f"{_EXPORT}keras:export_coreml", "tensorflow"),
    Format.TFJS: Make(f"{_EXPORT}tfjs:export", "tensorflowjs"),
}
_TABLES = {Format.ONNX: Make(f"{_EXPORT}tables:export_onnx", "tables")}
_ONNX_COREML = Make(f"{_EXPORT}onnx_coreml:export", "coreml", Format.ONNX)

FIRST: Mapping[SourceKind, Mapping[Format, Make]] = {
    SourceKind.TORCH: _TORCH,
    SourceKind.TORCH_EXPORT: _TORCH,
    SourceKind.HUGGING_FACE: {
        Format.ONNX: Make(f"{_EXPORT}hugging_face:export_onnx", "torch"),
        Format.TFLITE: Make(f"{_EXPORT}hugging_face:export_litert", "litert-torch"),
        Format.COREML: Make(f"{_EXPORT}hugging_face:export_coreml", "coreml"),
        Format.AIMODEL: Make(f"{_EXPORT}hugging_face:export_coreai", "coreai"),
    },
    SourceKind.ONNX: {
        Format.ONNX: Make(f"{_EXPORT}onnx_source:normalize", "onnx"),
        Format.TFLITE: Make(f"{_EXPORT}onnx_tflite:export", "litert-torch", Format.ONNX),
        Format.COREML: _ONNX_COREML,
        Format.AIMODEL: Make(f"{_EXPORT}torch_coreai:export_onnx", "coreai", Format.ONNX),
    },
    SourceKind.KERAS: _KERAS,
    SourceKind.SAVED_MODEL: _KERAS,
    SourceKind.TFLITE: {
        Format.TFLITE: Make(f"{_EXPORT}tflite:take", "litert"),
        Format.ONNX: Make(f"{_EXPORT}tflite:export_onnx", "tensorflow"),
        Format.COREML: _ONNX_COREML,
    },
    SourceKind.SKLEARN: _TABLES,
    SourceKind.XGBOOST: _TABLES,
    SourceKind.LIGHTGBM: _TABLES,
}
"""Source kind, format -> how the first, float model of the format is made."""

FURTHER: Mapping[Format, Make] = {
    Format.OPENVINO: Make(f"{_EXPORT}onnx_openvino:export", "openvino", Format.ONNX),
    Format.ORT: Make(f"{_QUANTIZE}onnx_ort:convert", "onnx", Format.ONNX),
}
"""Formats that are made of another format, whatever the source is."""

SMALLER: Mapping[tuple[Format, Precision], Make] = {
    (Format.ONNX, Precision.FP16): Make(f"{_QUANTIZE}onnx_half:convert", "onnx"),
    (Format.ONNX, Precision.INT8): Make(f"{_QUANTIZE}onnx_static:convert", "onnx"),
    (Format.ONNX, Precision.MIXED): Make(f"{_QUANTIZE}onnx_mixed:convert", "onnx"),
    (Format.ONNX, Precision.INT8_DYNAMIC): Make(f"{_QUANTIZE}onnx_dynamic:convert", "onnx"),
    (Format.ONNX, Precision.INT4): Make(f"{_QUANTIZE}onnx_int4:convert", "onnx"),
    (Format.TFLITE, Precision.FP16): Make(f"{_QUANTIZE}litert:convert", "litert"),
    (Format.TFLITE, Precision.INT8): Make(f"{_QUANTIZE}litert:convert", "litert"),
    (Format.TFLITE, Precision.MIXED): Make(f"{_QUANTIZE}litert:convert", "litert"),
    (Format.TFLITE, Precision.INT8_DYNAMIC): Make(f"{_QUANTIZE}litert:convert", "litert"),
    (Format.TFLITE, Precision.INT16X8): Make(f"{_QUANTIZE}litert:convert", "litert"),
    (Format.COREML, Precision.INT8): Make(f"{_QUANTIZE}coreml:convert", "coreml"),
    (Format.COREML, Precision.INT4): Make(f"{_QUANTIZE}coreml:convert", "coreml"),
    (Format.COREML, Precision.PALETTIZED): Make(f"{_QUANTIZE}coreml:convert", "coreml"),
    (Format.OPENVINO, Precision.FP16): Make(f"{_QUANTIZE}openvino:convert", "openvino"),
    (Format.OPENVINO, Precision.INT8): Make(f"{_QUANTIZE}openvino:convert", "openvino"),
    (Format.OPENVINO, Precision.MIXED): Make(f"{_QUANTIZE}openvino:convert", "openvino"),
}
"""Format, precision -> how it is made of the first model of the format."""

ON_REQUEST = frozenset({Format.AIMODEL})
"""Formats that a plan has where a recipe names them only: their tool is a beta, and large."""

FLOAT: Mapping[Format, Precision] = {Format.COREML: Precision.FP16}
"""What the first model of a format is, where it is not fp32: Core ML runs fp16 on all its processors."""

SHARE: Mapping[Precision, float] = {
    Precision.FP32: 1.0,
    Precision.FP16: 0.5,
    Precision.INT8: 0.27,
    Precision.INT8_DYNAMIC: 0.27,
    Precision.INT16X8: 0.27,
    Precision.MIXED: 0.35,
    Precision.INT4: 0.18,
    Precision.PALETTIZED: 0.2,
}
"""Expected size by that of fp32: weights in 8 bits with scales, biases and what is left in float."""
PALETTE_BITS = 6
"""Of the palettes that `SHARE` tells the size of: what a recipe gets that asks for no other number."""

QUANTIZED = frozenset(SHARE) - {Precision.FP32, Precision.FP16}
CALIBRATED = frozenset({Precision.INT8, Precision.MIXED, Precision.INT16X8})
"""Their activations get fixed ranges, which need real samples. Core ML's int8 is of weights alone."""
SMALL_BYTES = 1 << 30
"""With no more memory than this for the runtime, an app ships onnxruntime's small build, that reads
`.ort`."""
OPSET = 18
"""Of ONNX models made from torch: what its exporter writes; every engine of the profiles takes it."""
OLD_OPSET, RAISED_OPSET = 13, 17
"""ONNX sources below the first are raised to the second: older operators keep axes where no step looks."""
APPLE_TARGETS: Mapping[Precision, str] = {Precision.INT4: "iOS18"}
"""The oldest system whose Core ML has a precision, where it is not the exporter's own choice."""
NO_KERNELS: tuple[str, Options] = ("", {})
"""Where the kind of kernels makes no difference."""

HOST_KERNELS: Mapping[str, frozenset[str]] = {
    "x86_64": frozenset({"", "r7"}),
    "AMD64": frozenset({"", "r7"}),
    "aarch64": frozenset({"", "s8"}),
    "arm64": frozenset({"", "s8"}),
}
"""Machine as `platform` names it -> kinds of kernels whose speed it can show."""


def make_first(kind: SourceKind, format_: Format) -> Make | None:
    """Give the row that makes the first model of a format; None where there is none."""
    found = FIRST[kind].get(format_) or FURTHER.get(format_)
    if found is not None and found.of is not None and make_first(kind, found.of) is None:
        return None
    return found


def kernels_of(profile: DeviceProfile) -> tuple[str, Options]:
    """Say how a profile's processor likes static int8 of onnxruntime.

    Returns:
        A name for variants' ids, empty for the usual; and the options of the quantizing step.
    """
    providers = [name for engine in profile.engines for name in engine.providers]
    if "TensorrtExecutionProvider" in providers:
        return "trt", {"activation": "int8", "symmetric": True}
    if profile.cpu.arch in {"aarch64", "armv7l"}:
        return "s8", {"activation": "int8"}
    if profile.cpu.arch == "x86_64" and not any("vnni" in feature for feature in profile.cpu.features):
        # Without VNNI, sums of 8 bit products overflow 16 bits: weights get 7.
        return "r7", {"activation": "uint8", "reduce_range": True}
    return "", {"activation": "uint8"}
