"""Names that cross a wire: dtypes of the Open Inference Protocol v2.

Source: KServe, Open Inference Protocol, "Tensor Data Types". Encodes no bytes.
"""

from edge_runtime.contract.errors import InputError

V2_DATATYPES: dict[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "str": "BYTES",
}
"""NumPy dtype name -> v2 datatype."""


def v2_datatype(dtype: str) -> str:
    """Give the v2 name of a NumPy dtype.

    Raises:
        InputError: The protocol has no name for it.
    """
    try:
        return V2_DATATYPES[dtype]
    except KeyError:
        raise InputError("tensor dtype", expected=f"one of {', '.join(V2_DATATYPES)}", got=dtype) from None
