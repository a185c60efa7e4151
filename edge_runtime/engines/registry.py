"""Engines by name. An adapter is imported when somebody asks for it, never before.

Says nothing about whether an engine can run here (`Engine.available` does) nor which is best (`select`).
"""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import ConfigError
from edge_runtime.engines.base import Engine

ENGINES: dict[str, str] = {
    "onnxruntime": "edge_runtime.engines.onnxruntime:OnnxRuntime",
    "litert": "edge_runtime.engines.litert:LiteRt",
    "openvino": "edge_runtime.engines.openvino:OpenVino",
    "coreml": "edge_runtime.engines.coreml:CoreMl",
    "genai": "edge_runtime.engines.genai:GenAi",
}
"""Name -> `module:Class`, in the order in which equals are preferred."""

FORMATS: Mapping[str, tuple[Format, ...]] = MappingProxyType(
    {
        "onnxruntime": (Format.ONNX, Format.ORT),
        "litert": (Format.TFLITE,),
        "openvino": (Format.OPENVINO, Format.ONNX),
        "coreml": (Format.COREML,),
        "genai": (Format.GENAI,),
    }
)
"""The formats each engine opens, best first."""

DEFAULT_PROVIDER: Mapping[str, str] = MappingProxyType(
    {
        "onnxruntime": "CPUExecutionProvider",
        "litert": "XNNPACK",
        "openvino": "CPU",
        "coreml": "ALL",
        "genai": "cpu",
    }
)
"""What an engine runs on when nobody names a provider."""


def load_engine(name: str) -> Engine:
    """Import the adapter of an engine and make one.

    Args:
        name: A key of `ENGINES`.

    Returns:
        The engine; its vendor library may still be absent (see `Engine.available`).

    Raises:
        ConfigError: No engine has this name.
    """
    if name not in ENGINES:
        near = get_close_matches(name, ENGINES, n=1)
        raise ConfigError(
            "engine",
            expected=f"one of {', '.join(ENGINES)}",
            got=repr(name),
            do=f"Did you mean '{near[0]}'?" if near else None,
        )
    module, _, cls = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), cls)()
    return engine
