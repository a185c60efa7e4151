"""Opening a bundle's `tokenizer.json`, and refusing what is no text. Encodes nothing.

Needs the library `tokenizers`, imported when the first text model is opened.
"""

from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import BundleError, EngineError, InputError


def load_tokenizer(file: Path) -> Any:
    """Open a tokenizer that neither pads nor cuts of itself.

    Args:
        file: A `tokenizer.json` of Hugging Face's library.

    Returns:
        A `tokenizers.Tokenizer`; threads may share it as long as nobody changes it. Its declared padding is
        still there to be read.

    Raises:
        BundleError: The file is missing or no tokenizer.
        EngineError: The library `tokenizers` is missing.
    """
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra, imported when it is asked for
    except ImportError as error:
        raise EngineError(
            f"text models need the library 'tokenizers' ({error})",
            do="Install it: pip install 'edge-runtime[text]'",
        ) from error
    try:
        tokenizer: Any = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(
            f"tokenizer {file}", expected="a tokenizer.json of Hugging Face tokenizers", got=str(error)[:200]
        ) from error
    tokenizer.no_truncation()
    return tokenizer


def require_text(text: object) -> str:
    """Refuse what is no text.

    Args:
        text: What a caller gave.

    Raises:
        InputError: It is no string, or one that no UTF-8 can hold (half of a surrogate pair).
    """
    if not isinstance(text, str):
        raise InputError("text", expected="a string", got=type(text).__name__)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "text", expected="characters that UTF-8 has", got=f"{text[error.start]!r} at {error.start}"
        ) from error
    return text
