"""Toolchain: which tool runs a step, what it needs, and how to tell that it works; one table, a row a tool.

Makes no environment and starts nothing: `environments` does, when a step needs an isolated tool.
"""

import hashlib
import importlib.util
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from edge_runtime.contract.errors import ConversionError

ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool chain that steps run in.

    Args:
        name: What `Step.tool` says.
        isolation: `in-process`: the interpreter that runs the conversion has it. `overlay`: an environment
            that sees the packages of that interpreter beneath its own. `own`: one that sees nothing else.
        requirements: In-process: distributions whose versions matter to a result. Isolated: what pip
            installs.
        bare: Installed afterwards without their dependencies and whatever Python they ask for.
        modules: What must be importable; in an isolated environment its smoke test shows it.
        extras: Extras of this project that bring what an in-process tool needs.
        over: Overlay: the rows whose modules it needs beneath it.
        smoke: Python code that raises where the tool does not work here. It may write to the current folder.
    """

    name: str
    isolation: Literal["in-process", "overlay", "own"]
    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    smoke: str
    bare: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    over: tuple[str, ...] = ()


_TORCH_NET = """
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
example = (torch.randn(1, 3, 8, 8),)
"""
_ONNX_NET = """
import numpy
from onnx import TensorProto, helper, numpy_helper, save
weight = numpy_helper.from_array(numpy.ones((4, 3, 3, 3), numpy.float32), "w")
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["y"])], "net",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])], [weight])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
"""

_ROWS = (
    Tool("base", "in-process", ("numpy", "opencv-python-headless"), ("numpy", "cv2"), "import cv2, numpy"),
    Tool(
        # Engines that are not there are no error here: a receipt says which were.
        "engines",
        "in-process",
        (
            "ai-edge-litert",
            "coremltools",
            "numpy",
            "onnxruntime",
            "opencv-python-headless",
            "openvino",
            "torch",
        ),
        ("numpy",),
        "import edge_runtime.engines.registry",
    ),
    Tool(
        "onnx",
        "in-process",
        ("numpy", "onnx", "onnxruntime", "onnxscript", "onnxslim"),
        ("onnx", "onnxruntime", "onnxslim"),
        _ONNX_NET
        + "import onnxruntime, onnxslim\n"
        + "onnxslim.slim('net.onnx', 'slim.onnx')\n"
        + "onnxruntime.InferenceSession('slim.onnx', providers=['CPUExecutionProvider'])\n",
        extras=("convert",),
    ),
    Tool(
        "torch",
        "in-process",
        ("numpy", "onnx", "onnxscript", "onnxslim", "safetensors", "tokenizers", "torch", "transformers"),
        ("onnx", "onnxscript", "onnxslim", "safetensors", "torch", "transformers"),
        _TORCH_NET + "torch.onnx.export(net, example, dynamo=True).save('net.onnx')\n",
        extras=("convert",),
    ),
    Tool(
        "litert",
        "in-process",
        ("ai-edge-litert", "ai-edge-quantizer", "numpy"),
        ("ai_edge_litert", "ai_edge_quantizer"),
        "import ai_edge_quantizer.quantizer\nfrom ai_edge_litert.interpreter import Interpreter\n",
        extras=("convert-litert",),
    ),
    Tool(
        "coreml",
        "in-process",
        ("coremltools", "numpy", "onnx", "torch"),
        ("coremltools", "torch"),
        _TORCH_NET
        + "import coremltools\n"
        + "program = torch.export.export(net, example).run_decompositions({})\n"
        + "coremltools.convert(program, convert_to='mlprogram').save('net.mlpackage')\n",
        extras=("convert", "convert-apple"),
    ),
    Tool(
        "openvino",
        "in-process",
        ("nncf", "numpy", "onnx", "openvino"),
        ("nncf", "onnx", "openvino"),
        _ONNX_NET
        + "import sys\nsys.modules['openvino_telemetry'] = None\n"
        + "import nncf, openvino\n"
        + "openvino.save_model(openvino.convert_model('net.onnx'), 'net.xml')\n",
        extras=("convert", "convert-openvino"),
    ),
    Tool(
        "tensorflow",
        "in-process",
        ("coremltools", "keras", "numpy", "onnx", "tensorflow", "tensorflow-cpu", "tf2onnx"),
        ("keras", "tensorflow", "tf2onnx"),
        "import keras, tensorflow, tf2onnx\n"
        + "net = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])\n"
        + "net.export('net', verbose=False)\n",
        extras=("convert", "convert-tf"),
    ),
    Tool(
        "tables",
        "in-process",
        ("lightgbm", "numpy", "onnx", "onnxmltools", "scikit-learn", "skl2onnx", "xgboost"),
        ("onnxmltools", "skl2onnx", "sklearn"),
        "import numpy, onnxmltools, skl2onnx\nfrom sklearn.linear_model import LinearRegression\n"
        + "table = numpy.eye(3, dtype=numpy.float32)\n"
        + "skl2onnx.to_onnx(LinearRegression().fit(table, [1, 2, 3]), table)\n",
        extras=("convert", "convert-tables"),
    ),
    Tool(
        # xdsl, beneath it, needs typing-extensions < 4.13; pydantic 2.12 and later need more.
        "litert-torch",
        "overlay",
        ("litert-torch==0.10.0", "pydantic<2.12"),
        ("litert_torch",),
        _TORCH_NET + "import litert_torch\nlitert_torch.convert(net, example).export('net.tflite')\n",
        over=("torch", "litert"),
    ),
    Tool(
        # Core AI's compiler is a beta and 190 MB, so it is no extra of the environment all other tools share.
        "coreai",
        "overlay",
        ("coreai-torch==0.4.3",),
        ("coreai_torch",),
        _TORCH_NET
        + "from pathlib import Path\nfrom coreai_torch import TorchConverter, get_decomp_table\n"
        + "program = torch.export.export(net, example).run_decompositions(get_decomp_table())\n"
        + "TorchConverter().add_exported_program(program).to_coreai().save_asset(Path('net.aimodel'))\n",
        over=("torch",),
    ),
    Tool(
        # It asks for Python 3.12 and pins half the world; its direct TFLite writer needs neither.
        "onnx2tf",
        "own",
        (
            "ai-edge-litert==2.1.2",
            "flatbuffers==25.12.19",
            "h5py==3.14.0",
            "ml-dtypes==0.5.4",
            "numpy==2.2.6",
            "onnx==1.20.1",
            "onnxruntime==1.26.0",
            "protobuf==7.35.1",
            "psutil==5.9.5",
            "pydantic>=2.8,<3",
            "tqdm==4.67.1",
        ),
        ("onnx2tf",),
        _ONNX_NET
        + "import onnx2tf\n"
        + "onnx2tf.convert(input_onnx_file_path='net.onnx', output_folder_path='net',"
        + " tflite_backend='flatbuffer_direct', non_verbose=True)\n"
        + "from ai_edge_litert.interpreter import Interpreter\n"
        + "Interpreter('net/net_float32.tflite').allocate_tensors()\n",
        bare=(
            "onnx2tf==2.6.9",
            "onnxoptimizer==0.4.2",
            "onnxsim==0.6.5",
            "sne4onnx==2.0.1",
            "sng4onnx==2.0.1",
        ),
    ),
    Tool(
        "tensorflowjs",
        "own",
        # A later ydf wants another protobuf; tensorflow-hub imports pkg_resources, gone from setuptools 82.
        ("pydantic>=2.8,<3", "setuptools<82", "tensorflowjs==4.22.0", "ydf<0.13"),
        ("tensorflowjs",),
        "import tensorflow, tensorflowjs\n"
        + "from tensorflowjs.converters.tf_saved_model_conversion_v2 import convert_tf_saved_model\n"
        + "net = tensorflow.Module()\n"
        + "net.run = tensorflow.function(tensorflow.nn.relu,"
        + " input_signature=[tensorflow.TensorSpec((1, 4), tensorflow.float32)])\n"
        + "tensorflow.saved_model.save(net, 'saved', signatures=net.run)\n"
        + "convert_tf_saved_model('saved', 'net')\n",
    ),
)
TOOLS: Mapping[str, Tool] = {row.name: row for row in _ROWS}
"""Every tool, by name. Each row's smoke test was run on Linux x86-64 with Python 3.11."""


def find_tool(name: str, tools: Mapping[str, Tool] = TOOLS) -> Tool:
    """Give the row of a tool.

    Raises:
        ConversionError: There is no such row.
    """
    tool = tools.get(name)
    if tool is None:
        raise ConversionError(f"tool '{name}'", expected=f"one of {', '.join(tools)}", got=repr(name))
    return tool


def require_tool(tool: Tool, tools: Mapping[str, Tool] = TOOLS) -> None:
    """Check that this interpreter has what a tool needs of it; imports none of it.

    Args:
        tool: A row; of an overlay, the rows beneath it are checked, of an `own` one nothing.
        tools: Where the rows beneath are.

    Raises:
        ConversionError: Something is missing; says which extra brings it.
    """
    rows = _beneath(tool, tools)
    missing = [name for row in rows for name in row.modules if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(dict.fromkeys(extra for row in rows for extra in row.extras))
        raise ConversionError(
            f"tool '{tool.name}' is not installed",
            expected=f"the Python modules {', '.join(name for row in rows for name in row.modules)}",
            got=f"no {', '.join(dict.fromkeys(missing))}",
            do=f"pip install 'edge-runtime[{extras}]'" if extras else "Install them with pip",
        )


def tool_fingerprint(tool: Tool, tools: Mapping[str, Tool] = TOOLS) -> str:
    """Name what a tool's environment is, so far as results depend on it; cheap, imports nothing of it.

    Args:
        tool: A row.
        tools: Where the rows beneath an overlay are.

    Returns:
        SHA-256 in hexadecimal, over this Python's version and machine, the requirements of an isolated tool,
        and the installed versions of what it uses of this interpreter.
    """
    isolated = () if tool.isolation == "in-process" else (*tool.requirements, "--no-deps", *tool.bare)
    used = [name for row in _beneath(tool, tools) for name in row.requirements]
    known = {
        "python": platform.python_version_tuple()[:2],
        "machine": f"{platform.system()} {platform.machine()}",
        "isolated": isolated,
        "installed": versions(used),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Give the installed version of each distribution, sorted by name; `ABSENT` where there is none."""
    return {name: _version(name) for name in sorted(set(distributions))}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ABSENT


def _beneath(tool: Tool, tools: Mapping[str, Tool]) -> list[Tool]:
    """The in-process rows that a tool stands on."""
    return [tool] if tool.isolation == "in-process" else [find_tool(name, tools) for name in tool.over]
