"""Whether a recipe's samples are called as the source's inputs are, which is known once both were read.

Reads names alone: shapes and numbers are for those who take the samples.
"""

import zipfile
from collections.abc import Collection
from pathlib import Path

from edge_runtime.contract.errors import ConversionError
from edge_runtime.tasks.names import plain_name

_OTHERS = frozenset({"labels", "pairs"})
"""Arrays among the samples that are no inputs; see `step.SAMPLES_FILE`."""


def check_names(path: Path, stored: Path, inputs: Collection[str]) -> str | None:
    """Compare names.

    Args:
        path: Of the recipe, for the message.
        stored: What the samples step left.
        inputs: The source's.

    Returns:
        A warning; None where the names are the same.

    Raises:
        ConversionError: Nobody could tell which array is for which input.
    """
    with zipfile.ZipFile(stored) as file:
        arrays = dict.fromkeys(name.removesuffix(".npy").partition("#")[0] for name in file.namelist())
    have, want = [name for name in arrays if name not in _OTHERS], list(inputs)
    if set(map(plain_name, have)) == set(map(plain_name, want)):
        return None
    if len(have) == len(want) == 1:
        return f"the samples' array '{have[0]}' was taken for the source's only input, '{want[0]}'"
    raise ConversionError(
        f"samples {path}",
        expected=f"an array for each input: {', '.join(want)}",
        got=", ".join(have) or "none",
        do="Call the arrays as the source's inputs are called",
    )
