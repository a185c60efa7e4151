"""Reading the outputs of a model: which is which, real numbers instead of stored ones, and no nonsense.

Knows shapes and names only; what the numbers mean is the heads' business.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import BundleError, EngineError
from edge_runtime.contract.tensors import Tensors, TensorSpec, format_shape

_SCORE_SLACK = 0.01
"""Scores may leave [0, 1] by this much: rounding of quantized models."""


class Output:
    """One output of a model, by its role in the task."""

    def __init__(self, role: str, spec: TensorSpec) -> None:
        self.role = role
        self.spec = spec
        quantization = spec.quantization
        self._quantization = quantization if np.dtype(spec.dtype).kind in "iu" else None
        if quantization is not None and len(quantization.scale) != 1:
            raise BundleError(
                f"output '{spec.name}' ({role})",
                expected="one quantization scale",
                got=f"{len(quantization.scale)} scales",
                do="Export the model with float outputs",
            )

    def read(self, tensors: Tensors) -> NDArray[np.float32]:
        """Take this output as real numbers, whatever the model stores.

        Raises:
            EngineError: The model did not give it.
        """
        array = tensors.get(self.spec.name)
        if array is None:
            raise EngineError(f"output '{self.spec.name}' ({self.role})", got=", ".join(tensors) or "none")
        if self._quantization is None:
            return array.astype(np.float32, copy=False)
        real = array.astype(np.float32)
        real -= self._quantization.zero_point[0]
        real *= self._quantization.scale[0]
        return real

    def misfit(self, expected: str, got: Sequence[int | None] | str, do: str) -> BundleError:
        """Make the error for an output that is not what the declaration says."""
        text = got if isinstance(got, str) else format_shape(got)
        return BundleError(f"output '{self.spec.name}' ({self.role})", expected=expected, got=text, do=do)

    def require(self, shape: Sequence[int | None], *wanted: tuple[int | None, ...]) -> None:
        """Refuse a shape that can be none of the wanted ones; None stands for any length on both sides.

        Raises:
            BundleError: Names the output, what was expected and what came.
        """
        if not any(_may_be(shape, want) for want in wanted):
            expected = " or ".join(format_shape(want) for want in wanted)
            raise self.misfit(expected, shape, "Correct the head or the labels in the task")

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Refuse scores that are no probabilities; cut what rounding put over 1.

        Args:
            scores: Any shape. Negative ones pass: exporters fill unused rows with them.

        Raises:
            EngineError: The model gave NaN.
            BundleError: A score is well over 1.
        """
        if scores.size == 0:
            return scores
        top = float(scores.max())
        self.finite(top)
        if top > 1 + _SCORE_SLACK:
            raise self.misfit(
                "scores in [0, 1]",
                f"{top:.3g}",
                "Export the model with its sigmoid or softmax, or declare the head it really has",
            )
        return np.minimum(scores, np.float32(1)) if top > 1 else scores

    def finite(self, values: NDArray[np.float32] | float) -> None:
        """Refuse NaN and infinity.

        Raises:
            EngineError: Names the output.
        """
        if not np.isfinite(values).all():
            raise EngineError(
                f"output '{self.spec.name}' ({self.role})",
                expected="numbers",
                got="NaN or infinity",
                do="Run another variant of the model; this one overflows in its precision",
            )


def _may_be(shape: Sequence[int | None], want: Sequence[int | None]) -> bool:
    return len(shape) == len(want) and all(
        a is None or b is None or a == b for a, b in zip(shape, want, strict=True)
    )


def assign_outputs(
    roles: Mapping[str, str | None], outputs: Sequence[TensorSpec], optional: frozenset[str] = frozenset()
) -> dict[str, Output]:
    """Find the output for each role of a head.

    Args:
        roles: Role -> declared tensor name; unnamed roles take what is left, in the model's order.
        outputs: What the model gives.
        optional: Roles that may stay without an output.

    Raises:
        BundleError: A name is not among the outputs, or there are too few.
    """
    by_name = {spec.name: spec for spec in outputs}
    for role, name in roles.items():
        if name is not None and name not in by_name:
            raise BundleError(
                f"head tensor '{role}'",
                expected=f"one of {', '.join(by_name)}",
                got=name,
                do="Correct the name in the task's head",
            )
    left = iter([spec for spec in outputs if spec.name not in roles.values()])
    found: dict[str, Output] = {}
    for role, name in roles.items():
        spec = next(left, None) if name is None else by_name[name]
        if spec is not None:
            found[role] = Output(role, spec)
        elif role not in optional:
            raise BundleError(
                "model outputs",
                expected=f"{', '.join(roles)}",
                got=", ".join(map(str, outputs)) or "none",
                do="Declare the head that this model has",
            )
    return found
