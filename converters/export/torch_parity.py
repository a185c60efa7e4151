"""How far an exported model is from its torch module, on the example inputs; the gate judges."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.export.torch_net import Net
from edge_runtime.engines.base import Session

if TYPE_CHECKING:
    from torch import Tensor


def relative_error(
    net: Net, session: Session, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> float:
    """Run both once.

    Args:
        net: What was exported.
        session: The exported model, opened.
        inputs: Name in the net -> name in the model.
        outputs: The same for outputs.

    Returns:
        The largest difference by the largest value, of the worst output of real numbers; 0 without one.
    """
    import torch

    with torch.no_grad():
        wanted: dict[str, Tensor] = net.module(*net.examples.values())
    specs = {spec.name: spec for spec in session.inputs}
    found = session.run(
        {
            inputs[name]: tensor.numpy().astype(specs[inputs[name]].dtype)
            for name, tensor in net.examples.items()
            if inputs.get(name) in specs
        }
    )
    worst = 0.0
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and tensor.numel():
            want: Any = tensor.numpy()
            difference = float(np.abs(found[outputs[name]] - want).max())
            worst = max(worst, difference / max(float(np.abs(want).max()), 1e-12))
    return worst
