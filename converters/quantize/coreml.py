"""Smaller weights in Core ML packages: 8 bits by channel, 4 by block, or palettes; it calculates in fp16.

Activations stay as they are: Core ML Tools measures their ranges on Apple systems only. Runs no model. fp16
is made by the export step: a float32 package cannot be turned afterwards.
"""

import shutil
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from converters.export.coreml_package import make_reproducible
from converters.export.torch_capture import hushed
from converters.quantize.trial import read_precision
from converters.step import MODEL_FILES, Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.vendor import brief

PRECISIONS = ("fp16", "int8", "int4", "palettized")
_PALETTE_BITS = (4, 6)
_BLOCK = 32
"""Weights along the inputs that share a scale in 4 bits; Core ML Tools' own choice."""
_GROUP = 16
"""Output channels that share a palette, where the target knows more than one a tensor."""
_SMALLEST = 2048
"""Numbers in a weight below which nothing is saved; Core ML Tools' own choice."""
_BLOCKS_FROM = "iOS18"
"""The first target with scales by block and palettes by group; also macOS 15."""
_COMPRESSED = "constexpr_"
"""How the names of the operations begin that unpack weights."""


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the weights of a package smaller.

    Args:
        inputs: `model` (folder with a float package).
        out: Gets `model.mlpackage`.
        options: `precision`: `fp16` (the package must be that already), `int8`, `int4` (iOS 18 or later; what
            does not divide into blocks becomes int8) or `palettized` with `bits` (4 or 6; 6 where absent).
        tell: Progress.

    Returns:
        `tools`, `precision`, `weights`: how many became what; `bits` of a palette.

    Raises:
        ConversionError: An option is wrong, the package is no float ML Program, its minimum target is too
            old, or it has no weights worth it.
    """
    precision = read_precision(options, PRECISIONS)
    bits = _read_bits(options) if precision == "palettized" else None
    source, package = (folder / MODEL_FILES["coreml"] for folder in (inputs["model"], out))
    tell(0.0, "reading the package")
    spec = _load(source)
    _require_float(spec, source)
    if precision == "fp16":
        _require_half(spec, source)
        shutil.copytree(source, package)
        return {"tools": _tools(), "precision": precision}
    _require_target(spec, precision)
    tell(0.1, "compressing weights")
    with hushed(), _one_thread():
        model = _compress(_open(source), spec, precision, bits)
        model.save(str(package))
    make_reproducible(package)
    became = _compressed(_load(package))
    if not became:
        raise ConversionError(
            "the model has no weight that is worth compressing",
            expected=f"at least one of {_SMALLEST} numbers",
            do="Ship it in fp16",
        )
    tell(1.0, "done")
    facts: Facts = {"tools": _tools(), "precision": precision, "weights": became}
    return facts if bits is None else {**facts, "bits": bits}


def _compress(model: Any, spec: Any, precision: str, bits: int | None) -> Any:
    from coremltools.optimize import coreml

    vendor: Any = coreml

    def linear(**how: Any) -> Any:
        config = vendor.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=_SMALLEST, **how)
        return vendor.OptimizationConfig(global_config=config)

    def palette(**how: Any) -> Any:
        config = vendor.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=_SMALLEST, **how)
        return vendor.OptimizationConfig(global_config=config)

    # Each second pass takes the weights that do not divide into blocks or groups, which the first leaves.
    try:
        if bits is not None:
            if _is_new(spec):
                groups = palette(granularity="per_grouped_channel", group_size=_GROUP)
                model = vendor.palettize_weights(model, groups)
            return vendor.palettize_weights(model, palette(granularity="per_tensor"))
        if precision == "int4":
            blocks = linear(dtype="int4", granularity="per_block", block_size=_BLOCK)
            model = vendor.linear_quantize_weights(model, blocks)
        return vendor.linear_quantize_weights(model, linear(dtype="int8", granularity="per_channel"))
    except Exception as error:
        raise ConversionError(
            f"Core ML Tools failed: {brief(error)}", do="Take another precision, or ship the model in fp16"
        ) from error


@contextmanager
def _one_thread() -> Generator[None]:
    """Let k-means add up in one order, so that the same weights give the same palette."""
    from threadpoolctl import threadpool_limits

    vendor: Any = threadpool_limits
    with vendor(limits=1):
        yield


def _load(package: Path) -> Any:
    import coremltools

    vendor: Any = coremltools
    try:
        spec = vendor.utils.load_spec(str(package))
    except Exception as error:
        raise ConversionError(f"model {package}: {brief(error)}", do="Export it again") from error
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise ConversionError(
            f"model {package}", expected="an ML Program", got=str(kind), do="Export it for iOS 15 or later"
        )
    return spec


def _open(package: Path) -> Any:
    import coremltools

    vendor: Any = coremltools
    return vendor.models.MLModel(str(package), skip_model_load=True)


def _operations(spec: Any) -> Generator[Any]:
    waiting = [
        block for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
    ]  # fmt: skip
    while waiting:
        for operation in waiting.pop().operations:
            waiting += operation.blocks
            yield operation


def _compressed(spec: Any) -> dict[str, JsonValue]:
    found = Counter(
        operation.type.removeprefix(_COMPRESSED)
        for operation in _operations(spec)
        if operation.type.startswith(_COMPRESSED)
    )
    return dict(sorted(found.items()))


def _require_float(spec: Any, package: Path) -> None:
    kinds = _compressed(spec)
    if kinds:
        raise ConversionError(
            f"model {package} is compressed already",
            expected="float weights",
            got=", ".join(kinds),
            do="Give the float model it was made from, or ship it as it is",
        )


def _require_half(spec: Any, package: Path) -> None:
    from coremltools.proto import MIL_pb2

    vendor: Any = MIL_pb2
    large = [
        output.name
        for operation in _operations(spec)
        for output in operation.outputs
        if operation.type == "const"
        and output.type.tensorType.dataType == vendor.FLOAT32
        and output.type.tensorType.rank > 1
    ]
    if large:
        raise ConversionError(
            f"model {package}",
            expected="fp16 weights",
            got=f"float32 in '{large[0]}'",
            do="Export it with precision fp16: a package cannot be turned afterwards",
        )


def _is_new(spec: Any) -> bool:
    import coremltools

    vendor: Any = coremltools
    return bool(spec.specificationVersion >= vendor.target[_BLOCKS_FROM].value)


def _require_target(spec: Any, precision: str) -> None:
    import coremltools

    vendor: Any = coremltools
    if precision == "int4" and not _is_new(spec):
        names = [one.name for one in vendor.target if one.value == spec.specificationVersion]
        raise ConversionError(
            "int4 weights of a Core ML package",
            expected=f"minimum target {_BLOCKS_FROM} or macOS15",
            got=" or ".join(names) or f"specification {spec.specificationVersion}",
            do=f"Export it with minimum_target {_BLOCKS_FROM}, or take int8 or palettized",
        )


def _read_bits(options: Options) -> int:
    told = options.get("bits", _PALETTE_BITS[-1])
    bits = next((bits for bits in _PALETTE_BITS if told == bits), None)
    if bits is None:
        raise ConversionError("option 'bits'", expected=" or ".join(map(str, _PALETTE_BITS)), got=repr(told))
    return bits


def _tools() -> dict[str, JsonValue]:
    return {name: version(name) for name in ("coremltools", "numpy", "scikit-learn")}
