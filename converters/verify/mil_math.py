"""MIL operations on numbers: element by element, comparisons, reductions, products. No layers, no shapes.

Definitions: Core ML Tools, "MIL Ops" reference. Each function takes the torch module and the operation's
inputs by name; constants come as NumPy scalars, Python values or tensors.
"""

# torch comes in as an argument, untyped on purpose: importing a table must not import it.
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from collections.abc import Callable, Mapping
from typing import Any


def ints(value: Any) -> list[int]:
    """Give a constant vector of whole numbers as a list."""
    return [int(one) for one in (value.tolist() if hasattr(value, "tolist") else value)]


def _unary(name: str) -> Callable[..., Any]:
    return lambda torch, x: getattr(torch, name)(torch.as_tensor(x))


def _binary(name: str) -> Callable[..., Any]:
    return lambda torch, x, y: getattr(torch, name)(torch.as_tensor(x), torch.as_tensor(y))


def _divide(torch: Any, x: Any, y: Any) -> Any:
    return torch.true_divide(torch.as_tensor(x).float(), torch.as_tensor(y).float())


def _reduce(name: str) -> Callable[..., Any]:
    def reduce(torch: Any, x: Any, axes: Any = None, keep_dims: Any = False) -> Any:
        dims = list(range(x.dim())) if axes is None else ints(axes)
        return getattr(torch, name)(x, dim=dims, keepdim=bool(keep_dims))

    return reduce


def _reduce_prod(torch: Any, x: Any, axes: Any = None, keep_dims: Any = False) -> Any:
    dims = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in ints(axes)]
    for axis in sorted(dims, reverse=True):
        x = torch.prod(x, dim=axis, keepdim=bool(keep_dims))
    return x


def _reduce_arg(name: str) -> Callable[..., Any]:
    def reduce(torch: Any, x: Any, axis: Any = -1, keep_dims: Any = False, **_: Any) -> Any:
        return getattr(torch, name)(x, dim=int(axis), keepdim=bool(keep_dims))

    return reduce


def _norm(torch: Any, x: Any, axes: Any = None, keep_dims: Any = False) -> Any:
    return torch.sqrt(_reduce("sum")(torch, x * x, axes, keep_dims))


def _log_sum_exp(torch: Any, x: Any, axes: Any = None, keep_dims: Any = False) -> Any:
    dims = list(range(x.dim())) if axes is None else ints(axes)
    return torch.logsumexp(x, dim=dims, keepdim=bool(keep_dims))


def _matmul(torch: Any, x: Any, y: Any, transpose_x: Any = False, transpose_y: Any = False) -> Any:
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    x = x.transpose(-1, -2) if transpose_x else x
    return torch.matmul(x, y.transpose(-1, -2) if transpose_y else y)


def _linear(torch: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    return torch.nn.functional.linear(x, torch.as_tensor(weight), bias)


def _einsum(torch: Any, values: Any, equation: Any) -> Any:
    return torch.einsum(str(equation), *values)


def _gelu(torch: Any, x: Any, mode: Any = "EXACT") -> Any:
    if str(mode) == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return torch.nn.functional.gelu(x, approximate="none" if str(mode) == "EXACT" else "tanh")


def _clip(torch: Any, x: Any, alpha: Any, beta: Any) -> Any:
    return torch.clamp(x, float(alpha), float(beta))


def _cast(torch: Any, x: Any, dtype: Any) -> Any:
    x = torch.as_tensor(x)
    match str(dtype):
        case "bool":
            return x != 0
        case "fp16":
            return x.to(torch.float16).to(torch.float32)
        case "fp32":
            return x.to(torch.float32)
        case _:
            return torch.trunc(x.to(torch.float64)).to(torch.int64)


def _inverse(torch: Any, x: Any, epsilon: Any = 1e-4) -> Any:
    return 1.0 / (x + float(epsilon))


def _rsqrt(torch: Any, x: Any, epsilon: Any = 1e-12) -> Any:
    return torch.rsqrt(x + float(epsilon))


def _log(torch: Any, x: Any, epsilon: Any = 1e-45) -> Any:
    return torch.log(x + float(epsilon))


def _select(torch: Any, cond: Any, a: Any, b: Any) -> Any:
    return torch.where(torch.as_tensor(cond).bool(), torch.as_tensor(a), torch.as_tensor(b))


def _cumsum(torch: Any, x: Any, axis: Any = 0, exclusive: Any = False, reverse: Any = False) -> Any:
    axis = int(axis)
    x = x.flip(axis) if reverse else x
    summed = torch.cumsum(x, axis)
    summed = summed - x if exclusive else summed
    return summed.flip(axis) if reverse else summed


MATH: Mapping[str, Callable[..., Any]] = {
    **{name: _unary(name) for name in ("abs", "ceil", "cos", "erf", "exp", "floor", "round", "sign", "sin")},
    **{name: _unary(name) for name in ("sqrt", "square", "tan", "tanh", "acos", "asin", "atan", "exp2")},
    "add": _binary("add"),
    "sub": _binary("sub"),
    "mul": _binary("mul"),
    "real_div": _divide,
    "floor_div": _binary("floor_divide"),
    "mod": _binary("remainder"),
    "pow": _binary("pow"),
    "maximum": _binary("maximum"),
    "minimum": _binary("minimum"),
    "equal": _binary("eq"),
    "not_equal": _binary("ne"),
    "less": _binary("lt"),
    "less_equal": _binary("le"),
    "greater": _binary("gt"),
    "greater_equal": _binary("ge"),
    "logical_and": _binary("logical_and"),
    "logical_or": _binary("logical_or"),
    "logical_xor": _binary("logical_xor"),
    "logical_not": _unary("logical_not"),
    "reduce_mean": _reduce("mean"),
    "reduce_sum": _reduce("sum"),
    "reduce_max": _reduce("amax"),
    "reduce_min": _reduce("amin"),
    "reduce_prod": _reduce_prod,
    "reduce_l2_norm": _norm,
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_argmax": _reduce_arg("argmax"),
    "reduce_argmin": _reduce_arg("argmin"),
    "matmul": _matmul,
    "linear": _linear,
    "einsum": _einsum,
    "relu": lambda torch, x: torch.relu(x),
    "relu6": lambda torch, x: torch.nn.functional.relu6(x),
    "leaky_relu": lambda torch, x, alpha: torch.nn.functional.leaky_relu(x, float(alpha)),
    "elu": lambda torch, x, alpha: torch.nn.functional.elu(x, float(alpha)),
    "prelu": lambda torch, x, alpha: torch.nn.functional.prelu(x, torch.as_tensor(alpha).float()),
    "clamped_relu": lambda torch, x, alpha, beta: torch.clamp(
        torch.where(x < 0, float(alpha) * x, x), max=float(beta)
    ),
    "thresholded_relu": lambda torch, x, alpha: torch.where(x >= float(alpha), x, 0.0),
    "sigmoid": lambda torch, x: torch.sigmoid(x),
    "sigmoid_hard": lambda torch, x, alpha, beta: torch.clamp(float(alpha) * x + float(beta), 0, 1),
    "silu": lambda torch, x: torch.nn.functional.silu(x),
    "softplus": lambda torch, x: torch.nn.functional.softplus(x),
    "softsign": lambda torch, x: torch.nn.functional.softsign(x),
    "softmax": lambda torch, x, axis=-1: torch.softmax(x, int(axis)),
    "gelu": _gelu,
    "clip": _clip,
    "threshold": lambda torch, x, alpha: torch.clamp(x, min=float(alpha)),
    "inverse": _inverse,
    "rsqrt": _rsqrt,
    "log": _log,
    "cast": _cast,
    "select": _select,
    "cumsum": _cumsum,
}
