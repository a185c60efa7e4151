"""`.ort`: onnxruntime's own file, optimised, for builds without an ONNX parser. Changes no precision."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.quantize.onnx_subject import tools
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError

_ALIGNMENT = 16
"""What lies behind the new front keeps its place in units of the largest alignment in the file."""
_MODEL_FIELD = 6
"""Where the root's list of fields has the model (onnxruntime, core/flatbuffers/schema/ort.fbs)."""


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Write a model of any precision as `.ort`.

    Args:
        inputs: `model` (folder with `model.onnx`).
        out: Gets `model.ort`.
        options: `arch` of the devices' processor: `aarch64`, `armv7l`, `wasm32` or `x86_64`; absent: any.
        tell: Progress.

    Returns:
        Facts.

    Raises:
        ConversionError: onnxruntime cannot open the model.
    """
    import onnxruntime

    vendor: Any = onnxruntime
    source, target = inputs["model"] / MODEL_FILES["onnx"], out / MODEL_FILES["ort"]
    chosen = vendor.SessionOptions()
    chosen.optimized_model_filepath = str(target)
    # Blocked layouts (NCHWc) are of the machine that converts; everything below is the same on all.
    chosen.graph_optimization_level = vendor.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    chosen.log_severity_level = 3
    chosen.add_session_config_entry("session.save_model_format", "ORT")
    if str(options.get("arch", "")).startswith(("a", "wasm")):
        # Keep s8 activations: otherwise they are rewritten as u8, which x86 likes
        # (onnxruntime, tools/convert_onnx_models_to_ort.py, target platform arm).
        chosen.add_session_config_entry("session.qdqisint8allowed", "1")
    tell(0.0, "optimising and writing")
    try:
        vendor.InferenceSession(str(source), chosen, ["CPUExecutionProvider"])
    except Exception as error:  # the library's own classes derive from Exception
        raise ConversionError(
            f"onnxruntime cannot open {source}: {str(error).splitlines()[0]}",
            do="Check the model with onnx.checker, or export it again",
        ) from error
    tell(0.9, "writing again, in order")
    target.write_bytes(ordered(target.read_bytes()))
    tell(1.0, "done")
    return {"tools": tools()}


def ordered(content: bytes) -> bytes:
    """Make a file the same at every conversion: sort the part that onnxruntime writes as a hash map gives it.

    That part says which types a kernel is chosen by. A flatbuffer is written from its end to its front,
    the model before this part, and refers to what was written earlier only: so the model's bytes stay as
    they are, and a new root with the sorted part is put in front of them.

    Args:
        content: A file that onnxruntime wrote.
    """
    import flatbuffers
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import InferenceSession

    vendor: Any = InferenceSession
    root = vendor.InferenceSession.GetRootAsInferenceSession(content, 0)
    resolver, model = root.KernelTypeStrResolver(), root.Model()._tab
    if resolver is None:
        return content
    # A table's list of fields lies before it, or is shared with a table written earlier.
    fields = model.Pos - struct.unpack_from("<i", content, model.Pos)[0]
    kept = min(model.Pos, fields)
    builder: Any = flatbuffers.Builder(1024)
    version = builder.CreateString(root.OrtVersion())
    sorted_part = _resolver(builder, resolver)
    vendor.Start(builder)
    vendor.AddOrtVersion(builder, version)
    vendor.AddKernelTypeStrResolver(builder, sorted_part)
    vendor.AddModel(builder, sorted_part)  # any place that exists; the true one is filled in below
    builder.Finish(vendor.End(builder), file_identifier=content[4:8])
    front = bytearray(builder.Output())
    front += bytes((kept - len(front)) % _ALIGNMENT)
    table = vendor.InferenceSession.GetRootAsInferenceSession(front, 0)._tab
    field = table.Pos + table.Offset(_MODEL_FIELD)
    struct.pack_into("<I", front, field, len(front) + model.Pos - kept - field)
    return bytes(front) + content[kept:]


def _resolver(builder: Any, old: Any) -> int:
    """Write the part again: operators by name, their types by name."""
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs import (
        ArgTypeAndIndex,
        KernelTypeStrArgsEntry,
        KernelTypeStrResolver,
        OpIdKernelTypeStrArgsEntry,
    )

    argument, kind, operator, whole = _fields(
        ArgTypeAndIndex, KernelTypeStrArgsEntry, OpIdKernelTypeStrArgsEntry, KernelTypeStrResolver
    )

    def vector(parts: list[int]) -> int:
        builder.StartVector(4, len(parts), 4)
        for part in reversed(parts):
            builder.PrependUOffsetTRelative(part)
        return builder.EndVector()

    def write_argument(one: Any) -> int:
        argument.Start(builder)
        argument.AddArgType(builder, one.ArgType())
        argument.AddIndex(builder, one.Index())
        return argument.End(builder)

    def write_kind(one: Any) -> int:
        arguments = vector([write_argument(one.Args(at)) for at in range(one.ArgsLength())])
        name = builder.CreateString(one.KernelTypeStr())
        kind.Start(builder)
        kind.AddKernelTypeStr(builder, name)
        kind.AddArgs(builder, arguments)
        return kind.End(builder)

    def write_operator(one: Any) -> int:
        kinds = [one.KernelTypeStrArgs(at) for at in range(one.KernelTypeStrArgsLength())]
        parts = vector([write_kind(each) for each in sorted(kinds, key=lambda each: each.KernelTypeStr())])
        name = builder.CreateString(one.OpId())
        operator.Start(builder)
        operator.AddOpId(builder, name)
        operator.AddKernelTypeStrArgs(builder, parts)
        return operator.End(builder)

    operators = [old.OpKernelTypeStrArgs(at) for at in range(old.OpKernelTypeStrArgsLength())]
    parts = vector([write_operator(each) for each in sorted(operators, key=lambda each: each.OpId())])
    whole.Start(builder)
    whole.AddOpKernelTypeStrArgs(builder, parts)
    return whole.End(builder)


def _fields(*modules: Any) -> tuple[Any, ...]:
    return modules
