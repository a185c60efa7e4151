"""Source: what kind of model was handed over, and what can be told of it without loading it.

Refuses what cannot be one: missing, empty, cut off, or a pickle nobody vouched for. Loads nothing: that is
the first step's work, in its own process.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from converters.planned import SourceFacts
from converters.quantize.wide import by_config
from converters.recipe import Source, SourceKind
from converters.source_facts import Header, read_onnx, read_safetensors, read_tflite
from edge_runtime.contract.errors import ConversionError, InputError
from edge_runtime.contract.task import TaskSpec, TextSpec

SUFFIXES: Mapping[str, SourceKind] = {
    ".onnx": SourceKind.ONNX,
    ".tflite": SourceKind.TFLITE,
    ".lite": SourceKind.TFLITE,
    ".keras": SourceKind.KERAS,
    ".h5": SourceKind.KERAS,
    ".hdf5": SourceKind.KERAS,
    ".pt2": SourceKind.TORCH_EXPORT,
    ".pt": SourceKind.TORCH,
    ".pth": SourceKind.TORCH,
    ".bin": SourceKind.TORCH,
    ".ckpt": SourceKind.TORCH,
    ".safetensors": SourceKind.TORCH,
    ".pkl": SourceKind.SKLEARN,
    ".pickle": SourceKind.SKLEARN,
    ".joblib": SourceKind.SKLEARN,
    ".json": SourceKind.XGBOOST,
    ".ubj": SourceKind.XGBOOST,
    ".txt": SourceKind.LIGHTGBM,
}
"""What a file is by its suffix; a folder is told by what is in it."""

_ONNX_FIELDS = tuple(bytes([key]) for key in b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca")
"""What a ModelProto can begin with: number and type of its fields (onnx.proto of the ONNX project)."""
_BEGINNINGS: Mapping[str, tuple[int, tuple[bytes, ...], str]] = {
    ".onnx": (0, _ONNX_FIELDS, "an ONNX model"),
    ".tflite": (4, (b"TFL3",), "a TensorFlow Lite model"),
    ".lite": (4, (b"TFL3",), "a TensorFlow Lite model"),
    ".keras": (0, (b"PK\x03\x04",), "a Keras archive"),
    ".h5": (0, (b"\x89HDF",), "an HDF5 file"),
    ".hdf5": (0, (b"\x89HDF",), "an HDF5 file"),
    ".pt2": (0, (b"PK\x03\x04",), "an archive of torch.export.save"),
    ".txt": (0, (b"tree\n", b"tree\r\n"), "a LightGBM model in text"),
    ".json": (0, (b"{",), "an XGBoost model in JSON"),
}  # fmt: skip
"""Where a file of that suffix has which bytes, and what it would be."""

_HEADERS: Mapping[str, Callable[[Path], Header]] = {
    ".onnx": read_onnx,
    ".tflite": read_tflite,
    ".lite": read_tflite,
    ".safetensors": read_safetensors,
}
_PICKLES = frozenset({SourceKind.SKLEARN, SourceKind.TORCH_EXPORT})
_TEXT_TOKENIZER = "tokenizer.json"


def examine(source: Source, module: Path | None, task: TaskSpec) -> SourceFacts:
    """Look at a source.

    Args:
        source: Of the recipe, its path absolute.
        module: The Python file of `file.py:Class`.
        task: Of the recipe.

    Raises:
        InputError: It is missing, empty, or not what its name says.
        ConversionError: It is of no kind that can be converted, a pickle that nobody vouched for, or a module
            whose inputs nobody told.
    """
    kind = source.kind or detect(source)
    files: dict[str, Path] = {}
    if module is not None:
        files["module"] = module
    elif source.module is not None and (code := _code_of(source.module)) is not None:
        files["code"] = code
    path = source.path
    if path is None:
        _check_inputs(source, kind)
        return SourceFacts(kind, files)
    _check(path, kind)
    _check_trust(source, path, kind)
    _check_inputs(source, kind)
    files["source"] = path
    header = _header(path, kind)
    files |= _beside(path, header)
    size = sum(_size(file) for name, file in files.items() if name.startswith("source"))
    tokenizer = path / _TEXT_TOKENIZER
    return SourceFacts(
        kind,
        files,
        size,
        (header.float_bytes if header else 0) or size,
        header.precision if header else None,
        tokenizer if isinstance(task, TextSpec) and tokenizer.is_file() else None,
        header.opset if header else 0,
        header.wide if header else False,
    )


def detect(source: Source) -> SourceKind:
    """Tell the kind of a source from its path.

    Raises:
        InputError: There is nothing.
        ConversionError: It is of no known kind.
    """
    path = source.path
    if path is None or source.module is not None:
        return SourceKind.TORCH
    if not path.exists():
        raise InputError(f"source {path}", expected="a file or a folder", got="nothing there")
    if path.is_dir():
        if (path / "config.json").is_file():
            return SourceKind.HUGGING_FACE
        if (path / "saved_model.pb").is_file():
            return SourceKind.SAVED_MODEL
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:5])
        raise ConversionError(
            f"source {path}",
            expected="a folder with config.json and safetensors, or with saved_model.pb",
            got=names or "an empty folder",
        )
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ConversionError(
            f"source {path}",
            expected=f"one of {', '.join(SUFFIXES)}, or a folder",
            got=f"a {path.suffix} file" if path.suffix else "a file without a suffix",
            do="A SavedModel is given by its folder"
            if path.suffix == ".pb"
            else "Name its `kind` in the recipe",
        )
    return kind


def _check(path: Path, kind: SourceKind) -> None:
    try:
        if path.is_dir():
            return
        with path.open("rb") as stream:
            beginning = stream.read(64)
    except OSError as error:
        raise InputError(f"source {path}", expected="a readable file", got=error.strerror) from error
    if not beginning:
        raise InputError(
            f"source {path}", expected="a model", got="0 bytes", do="Copy or download the file again"
        )
    known = _BEGINNINGS.get(path.suffix.lower())
    if known and SUFFIXES.get(path.suffix.lower()) is kind:
        at, wanted, what = known
        if not beginning[at:].startswith(wanted):
            got = (
                "a Git LFS pointer" if beginning.startswith(b"version https://git-lfs") else "something else"
            )
            raise InputError(f"source {path}", expected=what, got=got, do="Copy or download the file again")


def _check_trust(source: Source, path: Path, kind: SourceKind) -> None:
    whole = kind is SourceKind.TORCH and source.module is None and path.suffix.lower() != ".safetensors"
    if source.trust or not (kind in _PICKLES or whole):
        return
    do = "With --trust-source (`trust: true`) it is loaded: only if you know who made it"
    if whole:
        do = f"Give `module` with the class, so that only weights are read; {do[0].lower()}{do[1:]}"
    raise ConversionError(f"source {path} is a pickle, which can run any code when it is loaded", do=do)


def _check_inputs(source: Source, kind: SourceKind) -> None:
    """Refuse weights without a module, and a module without inputs: it is traced with examples of them."""
    if kind is not SourceKind.TORCH:
        return
    if source.module is None and source.path is not None and source.path.suffix.lower() == ".safetensors":
        raise ConversionError(
            f"source {source.path}: weights alone are no model",
            expected="the class they belong to",
            do="Give package.module:Class or file.py:Class as the source, and this file as --weights",
        )
    if not source.inputs:
        raise ConversionError(
            f"source {source.module or source.path}",
            expected="what the module takes: a name and a shape for each of its inputs",
            got="none",
            do="Give --input image=1x3x224x224, once for each input (`inputs` of the recipe's source)",
        )


def _header(path: Path, kind: SourceKind) -> Header | None:
    if kind is SourceKind.HUGGING_FACE:
        found = Header()
        for file in sorted(path.glob("*.safetensors")):
            header = _read(file, read_safetensors)
            found.wide |= header.wide
            for name, count in header.by_type.items():
                found.by_type[name] = found.by_type.get(name, 0) + count
        found.wide |= by_config(_config(path))
        return found
    reader = _HEADERS.get(path.suffix.lower())
    return _read(path, reader) if reader and path.is_file() else None


def _config(path: Path) -> Mapping[str, object]:
    file = path / "config.json"
    try:
        found: object = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"source {file}", expected="a configuration in JSON", got=str(error)) from error
    if not isinstance(found, dict):
        raise InputError(f"source {file}", expected="a JSON object", got=type(found).__name__)
    return cast(Mapping[str, object], found)


def _read(path: Path, reader: Callable[[Path], Header]) -> Header:
    try:
        return reader(path)
    except (ValueError, KeyError, OSError) as error:
        raise InputError(
            f"source {path} is damaged", got=str(error) or None, do="Copy or download the file again"
        ) from error


def _beside(path: Path, header: Header | None) -> Mapping[str, Path]:
    """Find the files that hold the rest of a model."""
    files: dict[str, Path] = {}
    for name in sorted(header.beside) if header else ():
        file = path.parent / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"source {path}", expected="external data in its own folder", got=f"'{name}'")
        if not file.is_file():
            raise InputError(
                f"source {path}: its external data '{name}' is missing",
                expected=f"the file {file}",
                do="Copy the data file beside the model",
            )
        files[f"source-{name}"] = file
    return files


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _code_of(module: str) -> Path | None:
    """Find the file of `package.module:Class` below the working directory, without importing anything."""
    file = Path(*module.partition(":")[0].split(".")).with_suffix(".py").absolute()
    return file if file.is_file() else None
