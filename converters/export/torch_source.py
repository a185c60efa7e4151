"""From a recipe's torch source to a Net: the module built, filled with its weights, run once.

Exports nothing. Runs the code that the recipe names as `module`; a pickle only with `trust`.
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from converters.export.torch_net import Net, layer_path
from converters.export.torch_weights import check_numbers, fill, read_weights
from converters.recipe import Source, SourceKind, TensorExample
from edge_runtime.contract.errors import ConversionError
from edge_runtime.contract.task import ImageInput
from edge_runtime.engines.vendor import brief

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(
    source: Source,
    files: Mapping[str, Path],
    *,
    image: ImageInput | None = None,
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
) -> Net:
    """Make the net of a source.

    Args:
        source: `module` with `arguments`, `inputs`, `outputs`, `trust`.
        files: `source`: the weights or the exported program; `module`: the file of `file.py:Class`.
        image: How a picture becomes the input, for a vision task; the first input that fits is the picture.
        size: (height, width) that the picture input gets; None: as `inputs` or `image` say.
        dynamic: Keep the axes open that the source's `inputs` declare so.

    Raises:
        ConversionError: Module or weights cannot be loaded or do not belong together, a weight is no number,
            or the module cannot run on such inputs; names the layer.
    """
    import torch

    file = files.get("source")
    if source.kind is SourceKind.TORCH_EXPORT or (source.module is None and _is_program(file)):
        module, found = _load_program(file, trust=source.trust)
    else:
        module, found = _load_module(source, files), None
    warnings: list[str] = []
    if file is None and any(True for _ in module.parameters()):
        warnings.append("no weights were given: the module's own first values were converted")
    if any(tensor.dtype in {torch.float16, torch.bfloat16, torch.float64} for tensor in module.parameters()):
        module = module.float()
        warnings.append("weights were not float32: converted to it")
    check_numbers(module)
    examples = _examples(source.inputs, found, image, size, dynamic=dynamic)
    if size is not None and image is not None:
        if _picture(examples, image) is None:
            raise ConversionError(
                "the module takes no picture that could get another size",
                expected="(1, 3, height, width)" if image.layout == "nchw" else "(1, height, width, 3)",
                got=", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in examples.items()),
                do="Correct `layout` in the task's input, or leave out `size`",
            )
        image = image.model_copy(update={"size": size})
    return make_net(
        module,
        examples,
        outputs=source.outputs,
        dynamic={example.name: example.dynamic for example in source.inputs if dynamic and example.dynamic},
        image=image,
        warnings=warnings,
    )


def make_net(
    module: "nn.Module",
    examples: "Mapping[str, Tensor]",
    *,
    outputs: Sequence[str] = (),
    dynamic: Mapping[str, tuple[int, ...]] | None = None,
    image: ImageInput | None = None,
    warnings: Sequence[str] = (),
) -> Net:
    """Run a module once and name what it gives.

    Args:
        module: In eval mode; takes the examples in their order.
        examples: Name -> tensor.
        outputs: Names for what it gives; empty: the keys it gives them under, or `output_0` …
        dynamic: Name -> open axes.
        image: How a picture becomes the input.
        warnings: What was noted before.

    Raises:
        ConversionError: It does not run, gives something else than tensors, or another number of them.
    """
    import torch

    from converters.export.torch_modules import Named, flatten

    with torch.no_grad(), run_guard(module, examples):
        given = module(*examples.values())
        found = list(flatten(given))
        again = [tensor for _, tensor in flatten(module(*examples.values()))]
    if not found:
        raise ConversionError("the module gives nothing", expected="tensors", got=type(given).__name__)
    _check_steady([tensor for _, tensor in found], again)
    names = tuple(outputs) or tuple(name for name, _ in found)
    if len(names) != len(found):
        raise ConversionError(
            "names for the outputs",
            expected=f"{len(found)}, one for each of {', '.join(f'{n} {tuple(t.shape)}' for n, t in found)}",
            got=", ".join(names),
            do="Correct `outputs` in the recipe's source",
        )
    picture = _picture(examples, image) if image is not None else None
    return Net(
        Named(module, tuple(examples), names),
        examples,
        names,
        dynamic or {},
        picture=picture,
        image=image if picture is not None else None,
        warnings=tuple(warnings),
    )


def _check_steady(found: "Sequence[Tensor]", again: "Sequence[Tensor]") -> None:
    import torch

    for one, other in zip(found, again, strict=True):
        # Threads may sum in another order.
        if one.shape != other.shape or not torch.allclose(
            one.double(), other.double(), rtol=1e-3, atol=1e-4, equal_nan=True
        ):
            raise ConversionError(
                "the module answers the same input in different ways",
                expected="the same numbers each time",
                do="Take chance and memory out of `forward`: dropout that is always on, noise, counters",
            )


@contextmanager
def run_guard(module: "nn.Module", examples: "Mapping[str, Tensor]") -> Generator[None]:
    """Turn what a module raises on its examples into a sentence that names the layer.

    Raises:
        ConversionError: Whatever was raised inside, unless it was one already.
    """
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        layer, kind = failing_layer(error, module)
        where = f" at layer '{layer}' ({kind})" if layer else ""
        raise ConversionError(
            f"the module does not run on the example inputs{where}: {brief(error)}",
            layer=layer or None,
            got=", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in examples.items()),
            do="Correct `inputs` (name, shape, dtype, order) in the recipe's source, or `size`",
        ) from error


def failing_layer(error: BaseException, module: "nn.Module") -> tuple[str, str]:
    """Find the innermost module that was running when an error was raised.

    Returns:
        Its path and class; empty where it was none of the module's.
    """
    children: Any = cast("Any", module).named_modules()
    names = {id(child): (layer_path(path), type(child).__name__) for path, child in children}
    found = ("", "")
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = names.get(id(frame.f_locals.get("self")), found)
    return found


def _is_program(file: Path | None) -> bool:
    return file is not None and file.suffix == ".pt2"


def _load_module(source: Source, files: Mapping[str, Path]) -> "nn.Module":
    file = files.get("source")
    weights = None if file is None else read_weights(file, trust=source.trust)
    if source.module is None:
        if weights is None or isinstance(weights, dict):
            raise ConversionError(
                f"weights {file} alone are no model",
                expected="`module: package.module:Class` or `file.py:Class` in the recipe's source",
                got=f"{len(weights or ())} tensors",
            )
        return weights.eval()
    module = _build(source, files.get("module"))
    if isinstance(weights, dict) and file is not None:
        fill(module, weights, file)
    elif weights is not None:
        raise ConversionError(
            f"weights {file}", expected=f"a state dict for {source.module}", got="a whole module",
            do="Leave out `module`, or save `module.state_dict()`",
        )  # fmt: skip
    return module.eval()


def _build(source: Source, file: Path | None) -> "nn.Module":
    from torch import nn

    where, _, name = (source.module or "").rpartition(":")
    if not where or not name:
        raise ConversionError(
            "source.module", expected="package.module:Class or file.py:Class", got=repr(source.module)
        )
    make = _find(where, name, file)
    try:
        made = make(**source.arguments)
    except Exception as error:
        raise ConversionError(
            f"{source.module} cannot be called with these arguments: {brief(error)}",
            expected=_signature(make),
            got=", ".join(f"{key}={value!r}" for key, value in source.arguments.items()) or "none",
            do="Correct `arguments` in the recipe's source",
        ) from error
    if not isinstance(made, nn.Module):
        raise ConversionError(
            f"{source.module} gave something else", expected="a torch.nn.Module", got=type(made).__name__
        )
    return made


def _find(where: str, name: str, file: Path | None) -> Callable[..., Any]:
    # After all installed packages, so that a file of the user's called `json.py` hides nothing.
    folder = str(file.resolve().parent if file else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        if file is None:
            found = importlib.import_module(where)
        else:
            spec = importlib.util.spec_from_file_location(file.stem, file)
            if spec is None or spec.loader is None:
                raise ImportError(f"{file} is no Python file")
            found = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(file.stem, found)
            spec.loader.exec_module(found)
    except Exception as error:
        raise ConversionError(
            f"{where} cannot be imported: {brief(error)}",
            do="Install what it needs beside this tool, and start in the folder it is imported from",
        ) from error
    make = getattr(found, name, None)
    if not callable(make):
        here = ", ".join(sorted(key for key, value in vars(found).items() if inspect.isclass(value))[:8])
        raise ConversionError(f"{where} has no '{name}' to call", expected=here or "a class or a function")
    return cast("Callable[..., Any]", make)


def _signature(make: Callable[..., Any]) -> str:
    try:
        return f"{make.__name__}{inspect.signature(make)}"
    except (TypeError, ValueError):
        return getattr(make, "__name__", "other arguments")


def _load_program(file: Path | None, *, trust: bool) -> "tuple[nn.Module, dict[str, Tensor]]":
    """Load what `torch.export.save` wrote; its module, and its own example inputs by name."""
    import torch

    if file is None or not file.is_file():
        raise ConversionError(f"program {file}", expected="a .pt2 file of torch.export.save", got="nothing")
    if not trust:
        # torch.export.load falls back to full pickles and evaluates shape expressions as Python.
        raise ConversionError(
            f"program {file} can run any code when it is loaded",
            do="If you know who made it, pass --trust-source; or convert from the module and a state dict",
        )
    try:
        program = torch.export.load(file)
        module = program.module()
    except Exception as error:
        raise ConversionError(
            f"program {file}: {brief(error)}",
            expected="a .pt2 file that this torch can read",
            got=f"torch {torch.__version__}",
            do="Export it again with this version of torch",
        ) from error
    args, kwargs = program.example_inputs or ((), {})
    given = [*args, *kwargs.values()]
    if not all(isinstance(tensor, torch.Tensor) for tensor in given):
        raise ConversionError(
            f"program {file}", expected="tensors as its inputs", got="other values", do="Export it with those"
        )
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    return module, {name: tensor.clone() for name, tensor in zip(names, given, strict=True)}


def _examples(
    declared: Sequence[TensorExample],
    found: "Mapping[str, Tensor] | None",
    image: ImageInput | None,
    size: tuple[int, int] | None,
    *,
    dynamic: bool,
) -> "dict[str, Tensor]":
    if not declared and found:
        return dict(found)
    if not declared and image is not None and (side := size or image.size):
        shape = (1, 3, *side) if image.layout == "nchw" else (1, *side, 3)
        declared, size = (TensorExample(name="image", shape=shape),), None
    if not declared:
        raise ConversionError(
            "nothing says what the module takes",
            expected="`inputs` with name, shape and dtype in the recipe's source",
            got="none",
        )
    examples: dict[str, Tensor] = {}
    for index, one in enumerate(declared):
        shape = list(one.shape)
        first = {"nchw": 2, "nhwc": 1}[image.layout] if image else 2
        if size is not None and image is not None and _is_picture(shape, image):
            shape[first : first + 2] = size
        if dynamic:
            # An open axis of length 1 would be taken for one that is always 1.
            shape = [
                2 if axis in one.dynamic and length == 1 else length for axis, length in enumerate(shape)
            ]
        examples[one.name] = _example(shape, one.dtype, index)
    return examples


def _example(shape: Sequence[int], dtype: str, seed: int) -> "Tensor":
    import torch

    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(kind)
    # 1 is a token of any vocabulary, a true of any mask, and a dark pixel.
    return torch.ones(*shape, dtype=kind)


def _is_picture(shape: Sequence[int], image: ImageInput) -> bool:
    return len(shape) == 4 and shape[1 if image.layout == "nchw" else 3] == 3


def _picture(examples: "Mapping[str, Tensor]", image: ImageInput) -> str | None:
    return next((name for name, tensor in examples.items() if _is_picture(tensor.shape, image)), None)
