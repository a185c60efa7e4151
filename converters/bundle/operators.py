"""What a model file is made of: how often each operator is in it.

Runs no model and loads no weights; where a format's library is missing, its error says which extra has it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import BundleError, ConversionError

_LAYER = re.compile(r"<layer\b[^>]*?\btype=\"([^\"]+)\"")


def operators(model: Path, kind: Format) -> Mapping[str, int]:
    """Count the operators of a model.

    Args:
        model: What an engine opens: `edge_runtime.bundle.ModelBundle.path`.
        kind: Its format.

    Returns:
        Count by name, as the format names operators; the most frequent first.

    Raises:
        BundleError: The file is none of its format.
        ConversionError: The format's library is missing, or nothing can read this format.
    """
    reader = _READERS.get(kind)
    if reader is None:
        raise ConversionError(f"operators of a {kind} file cannot be read")
    extra, read = reader
    try:
        counted = Counter(read(model))
    except ImportError as error:
        raise ConversionError(
            f"operators of a {kind} file cannot be read here ({error})",
            do=f"Install the library: pip install 'edge-runtime[{extra}]'",
        ) from error
    except Exception as error:  # each library raises what it likes for bytes it cannot read
        raise BundleError(f"model {model}: is no readable {kind} file", got=str(error)[:200]) from error
    return dict(counted.most_common())


def _onnx(model: Path) -> Iterator[str]:
    import onnx

    loaded: Any = onnx.load(str(model), load_external_data=False)
    yield from _onnx_nodes(loaded.graph.node)
    for function in loaded.functions:
        yield from _onnx_nodes(function.node)


def _onnx_nodes(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}"
        for attribute in node.attribute:
            for graph in (*attribute.graphs, attribute.g):
                yield from _onnx_nodes(graph.node)


def _tflite(model: Path) -> Iterator[str]:
    from ai_edge_litert import schema_py_generated

    lite: Any = schema_py_generated
    content = model.read_bytes()
    if not lite.Model.ModelBufferHasIdentifier(content, 0):
        raise ValueError("it does not begin as one")
    names = _names(lite.BuiltinOperator)
    parsed = lite.Model.GetRootAs(content)
    codes = [parsed.OperatorCodes(index) for index in range(parsed.OperatorCodesLength())]
    for graph in map(parsed.Subgraphs, range(parsed.SubgraphsLength())):
        for node in map(graph.Operators, range(graph.OperatorsLength())):
            code = codes[node.OpcodeIndex()]
            custom = code.CustomCode()
            # Codes up to 127 stand in the older field as well, where files of old converters have them alone.
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            yield custom.decode() if custom else names.get(number, str(number))


def _names(enumeration: object) -> dict[int, str]:
    return {code: name for name, code in vars(enumeration).items() if isinstance(code, int)}


def _openvino(model: Path) -> Iterator[str]:
    file = next(iter(sorted(model.glob("*.xml"))), model) if model.is_dir() else model
    yield from _LAYER.findall(file.read_text("utf-8"))


def _coreml(model: Path) -> Iterator[str]:
    from coremltools.proto import Model_pb2

    spec: Any = Model_pb2.Model()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
    file = model / "Data" / "com.apple.CoreML" / "model.mlmodel" if model.is_dir() else model
    spec.ParseFromString(file.read_bytes())
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from _mil_operations(block)
    yield from (layer.WhichOneof("layer") for layer in spec.neuralNetwork.layers)


def _mil_operations(block: Any) -> Iterator[str]:
    for operation in block.operations:
        if operation.type != "const":
            yield operation.type
        for inner in operation.blocks:
            yield from _mil_operations(inner)


_READERS: Mapping[Format, tuple[str, Callable[[Path], Iterator[str]]]] = {
    Format.ONNX: ("convert", _onnx),
    Format.TFLITE: ("convert-litert", _tflite),
    Format.OPENVINO: ("convert-openvino", _openvino),
    Format.COREML: ("convert-apple", _coreml),
}
"""By format: the extra with the library, and what names each operator in turn."""
