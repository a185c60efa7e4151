"""Places: what callers are told names no folder of the server; its log and its console do.

Looks at the words of errors only, at no file.
"""

import re
from collections.abc import Callable

from edge_runtime.contract.errors import BundleError, EdgeRuntimeError, EngineError, StorageError
from edge_runtime.contract.tensors import Tensors

_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\",;()]+/)+|(?<!\w)[A-Za-z]:\\(?:[^\s\\:'\",;()]+\\)+")


def placeless(text: str, root: str) -> str:
    """Leave the last part of every path in a text.

    Args:
        text: For a caller.
        root: Where the repository is, as the server was told; it may be relative.
    """
    for separator in ("/", "\\"):
        if root.strip("./\\"):
            text = text.replace(root.rstrip("/\\") + separator, "")
    return _FOLDERS.sub("", text)


def placeless_error(error: EdgeRuntimeError, root: str) -> EdgeRuntimeError:
    """Give an error that names no folder; one whose words are the caller's own stays as it is.

    Args:
        error: Of an engine, a bundle or a disk.
        root: As `placeless`.
    """
    kind = type(error)
    if kind not in {BundleError, EngineError, StorageError}:
        return error
    told = (None if part is None else placeless(part, root) for part in (error.expected, error.got, error.do))
    expected, got, do = told
    return kind(placeless(error.problem, root), expected=expected, got=got, do=do)


def placeless_run(run: Callable[[Tensors], Tensors], root: str) -> Callable[[Tensors], Tensors]:
    """Make the errors of an engine's runs name no folder.

    Args:
        run: Runs a model.
        root: As `placeless`.
    """

    def running(tensors: Tensors) -> Tensors:
        try:
            return run(tensors)
        except EngineError as error:
            raise placeless_error(error, root) from error

    return running
