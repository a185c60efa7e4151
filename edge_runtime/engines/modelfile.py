"""A model file before an engine sees it: is it there, is it empty, is it of a kind the engine takes?

Reads no more than that; whether the content is sound is for the engine to say.
"""

from pathlib import Path

from edge_runtime.contract.errors import BundleError


def require_model(path: Path, engine: str, suffixes: tuple[str, ...]) -> Path:
    """Refuse a path that cannot be a model of this engine.

    Args:
        path: A file, or a folder for the formats that are one.
        engine: The engine's name, for the message.
        suffixes: What a path of this engine's formats ends in, e.g. `(".onnx", ".ort")`.

    Returns:
        The same path.

    Raises:
        BundleError: It is missing, empty, unreadable or of another kind.
    """
    if path.suffix.lower() not in suffixes:
        raise BundleError(
            f"model {path}",
            expected=f"a {' or '.join(suffixes)} model for engine '{engine}'",
            got=f"a {path.suffix} file" if path.suffix else "a path without a suffix",
            do="Choose the engine that takes this format, or convert the model",
        )
    try:
        empty = not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
    except OSError as error:
        raise BundleError(f"model {path}", expected="a readable file", got=str(error)) from error
    if empty:
        raise BundleError(
            f"model {path}", expected="a model", got="0 bytes", do="Copy or download the file again"
        )
    return path
