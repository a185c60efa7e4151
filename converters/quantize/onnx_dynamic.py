"""Dynamic int8: weights of matrix products in 8 bits, activations measured at every run; needs no samples.

Never for convolutions: dynamic ones were measured 5 to 14 times slower than float in onnxruntime.
"""

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from converters.quantize.onnx_graph import LARGEST, Network, open_network, save, weights_bytes
from converters.quantize.onnx_subject import tools
from converters.quantize.onnx_tables import shrink_tables
from converters.step import Facts, Options, Tell
from edge_runtime.contract.errors import ConversionError

PRODUCTS = ("Gemm", "MatMul")


def convert(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Quantize the matrix products and the lookup tables of a model.

    Args:
        inputs: `model` (folder).
        out: Gets `model.onnx`.
        options: `reduce_range` for x86 processors without VNNI.
        tell: Progress.

    Returns:
        Facts; `tables` says how many lookup tables became int8.

    Raises:
        ConversionError: The model has no matrix product with weights.
    """
    tell(0.0, "reading the model")
    network = open_network(inputs["model"])
    require_products(network, "static int8, or float")
    model, tables = shrink_tables(network)
    tell(0.3, "quantizing")
    save(quantized(model, reduce_range=bool(options.get("reduce_range", False))), out)
    tell(1.0, "done")
    return {"tools": tools(), "tables": tables}


def require_products(network: Network, instead: str) -> None:
    """Refuse a model without what can be quantized.

    Raises:
        ConversionError: No layer is a matrix product.
    """
    if not any(network.nodes[layer].op_type in PRODUCTS for layer in network.layers):
        raise ConversionError(
            "the model has no matrix product with weights",
            expected=" or ".join(PRODUCTS),
            got="convolutions" if network.layers else "no layer with weights",
            do=f"Ship it as {instead}",
        )


def quantized(model: Any, *, reduce_range: bool = False) -> Any:
    """Quantize matrix products dynamically, weights by channel.

    Args:
        model: A float `onnx.ModelProto`; used up.
        reduce_range: Weights of 7 bits.
    """
    import onnx
    from onnxruntime import quantization

    with quiet(), TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        vendor: Any = quantization
        vendor.quantize_dynamic(
            model,
            made,
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=vendor.QuantType.QInt8,
            use_external_data_format=weights_bytes(model) >= LARGEST,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(made)


@contextmanager
def quiet() -> Generator[None]:
    """Keep the tool's advice to preprocess, which was followed, out of a person's sight."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
