"""Weights of a torch module: read without running what is in the file, put into the module, looked at.

Builds no module: `torch_source` does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge_runtime.contract.errors import ConversionError
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from torch import Tensor, nn

_WRAPPINGS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
"""Keys under which training scripts keep the state dict in a checkpoint."""
_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""
_NAMED = 5


def read_weights(file: Path, *, trust: bool) -> "dict[str, Tensor] | nn.Module":
    """Read a weights file.

    Args:
        file: Safetensors, or what `torch.save` wrote.
        trust: Also load a pickle that can run code, as one of a whole module does.

    Returns:
        The state dict, taken out of a checkpoint; or, with `trust`, the module that was saved.

    Raises:
        ConversionError: The file is missing, damaged, no weights, or a pickle that is not trusted.
    """
    if not file.is_file():
        raise ConversionError(
            f"weights {file}", expected="a file", got="a folder" if file.is_dir() else "nothing"
        )
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    from torch import nn

    found = _read_torch(file, trust=trust)
    if isinstance(found, nn.Module):
        return found
    return _state_of(found, file)


def fill(module: "nn.Module", state: "Mapping[str, Tensor]", file: Path) -> None:
    """Put weights into a module.

    Raises:
        ConversionError: Keys are missing or too many, or a shape differs; names up to five.
    """
    have = module.state_dict()
    missing = sorted(set(have) - set(state))
    # Counters of batch normalisation were added to torch later, and inference does not use them.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    unexpected = sorted(set(state) - set(have))
    if missing or unexpected:
        words = [
            f"{len(keys)} {what} ({_some(keys)})"
            for keys, what in ((missing, "missing"), (unexpected, "too many"))
            if keys
        ]
        raise ConversionError(
            f"weights {file} do not belong to {type(module).__name__}",
            expected=f"the module's {len(have)} keys",
            got=" and ".join(words),
            do="Check `module` and its `arguments`: is it the variant these weights were trained for?",
        )
    for key, tensor in state.items():
        if tensor.shape != have[key].shape:
            raise ConversionError(
                f"weight '{key}' of {file}",
                expected=str(tuple(have[key].shape)),
                got=str(tuple(tensor.shape)),
                layer=key.rpartition(".")[0],
                do="Check the `arguments` of the module, the number of classes above all",
            )
    module.load_state_dict(dict(state), strict=False)


def check_numbers(module: "nn.Module") -> None:
    """Refuse weights that are no numbers. Infinity is fine in a buffer that is a mask.

    Raises:
        ConversionError: Names the tensor.
    """
    import torch

    parameters = {name for name, _ in module.named_parameters()}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_floating_point():
            continue
        nan = int(torch.isnan(tensor).sum())
        strict = name in parameters or name.endswith(("running_mean", "running_var"))
        infinite = int(torch.isinf(tensor).sum()) if strict else 0
        if nan or infinite:
            raise ConversionError(
                f"weight '{name}'",
                expected="numbers",
                got=f"{nan} NaN and {infinite} infinite of {tensor.numel()}",
                layer=name.rpartition(".")[0],
                do="Take a checkpoint from before the training diverged",
            )


def _read_safetensors(file: Path) -> "dict[str, Tensor]":
    import safetensors.torch as vendor

    try:
        return cast("Any", vendor).load_file(file)
    except Exception as error:  # the library raises its own bare class
        raise ConversionError(
            f"weights {file}: {brief(error)}", expected="safetensors", do="Copy the file again"
        ) from error


def _read_torch(file: Path, *, trust: bool) -> Any:
    import pickle

    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _could_be_pickle(file):
            raise _damaged(file, "something else") from error
        if trust:
            return _read_pickle(file)
        raise ConversionError(
            f"weights {file} are a pickle that can run any code when it is loaded",
            expected="a state dict, or safetensors",
            got=_stranger(str(error)),
            do="Save `module.state_dict()` alone; or, if you know who made the file, pass --trust-source",
        ) from error
    except Exception as error:
        if "TorchScript" in str(error):
            raise ConversionError(
                f"weights {file}",
                expected="a state dict, or safetensors",
                got="a TorchScript program",
                do="Save the state dict of the module it was made of",
            ) from error
        raise _damaged(file, brief(error)) from error


def _damaged(file: Path, got: str) -> ConversionError:
    expected = "a file that torch.save wrote, or safetensors"
    return ConversionError(f"weights {file}", expected=expected, got=got, do="Copy the file again")


def _could_be_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(1) in {b"P", b"\x80"}  # of a zip archive, of a bare pickle


def _read_pickle(file: Path) -> Any:
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ConversionError(
            f"weights {file}: {brief(error)}",
            do="The classes it was saved with must be importable: start in the folder of the training code",
        ) from error


def _stranger(text: str) -> str:
    import re

    found = re.search(r"(?:GLOBAL|global) ([\w.]+)", text)
    return f"a pickle of {found[1]}" if found else "a pickle of Python objects"


def _state_of(found: Any, file: Path) -> "dict[str, Tensor]":
    from torch import Tensor

    for _ in range(3):  # {"model": {"state_dict": …}} is as deep as it gets
        if not isinstance(found, Mapping):
            break
        entries = cast("Mapping[Any, Any]", found)
        tensors = {str(key): value for key, value in entries.items() if isinstance(value, Tensor)}
        # A state dict may carry extra state that is no tensor; a checkpoint has its tensors one floor down.
        inside = next((entries[key] for key in _WRAPPINGS if isinstance(entries.get(key), Mapping)), None)
        if tensors and inside is None:
            return _without_prefix(tensors)
        found = inside
    raise ConversionError(
        f"weights {file}",
        expected="a state dict: names with tensors",
        got=f"a {type(found).__name__} without",
        do="Save `module.state_dict()`",
    )


def _without_prefix(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_NAMED]) + (", …" if len(keys) > _NAMED else "")
