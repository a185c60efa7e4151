"""From Keras files and SavedModels to TensorFlow.js, for pages that have it already.

Runs in the environment of the tool `tensorflowjs`, which has its own TensorFlow. Float32 and fixed shapes.
"""

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from converters.export.keras import load, refusal, specs_of
from converters.export.torch_net import image_of
from converters.step import MODEL_FILES, Facts, Options, Tell

_SIGNATURE = "serving_default"


def export(inputs: Mapping[str, Path], out: Path, options: Options, tell: Tell) -> Facts:
    """Make the TensorFlow.js graph model of a Keras file or a SavedModel.

    Args:
        inputs: `source`: a `.keras` or `.h5` file, or the folder of a SavedModel.
        out: Gets the folder `tfjs`: `model.json` and the weights beside it. `predict` takes and gives tensors
            by the names of the source.
        options: `source`: the recipe's Source, for `trust`. `task` or `input`: how a picture goes in. `size`:
            [height, width]. The batch is 1.
        tell: Progress.

    Returns:
        `tools`, `warnings`, `inputs`, `outputs`; for pictures `layout`, `folded` and `input`.

    Raises:
        ConversionError: The source cannot be loaded, or TensorFlow.js does not know an operator.
    """
    # Keras 3 is what saved the file; the tool's own import would switch to Keras 2.
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    tell(0.0, "loading the model")
    model = load(inputs["source"], options)
    specs = specs_of(model, options, fixed=True)
    import tensorflow as tf

    def call(*tensors: Any) -> dict[str, Any]:
        return dict(zip(model.outputs, model.call(*tensors), strict=True))

    vendor: Any = tf
    owner = vendor.Module()
    owner.weights, owner.function = model.keep, vendor.function(call, input_signature=specs)
    tell(0.4, "translating to TensorFlow.js")
    with tempfile.TemporaryDirectory(dir=out) as folder:
        saved, target = Path(folder) / "saved", Path(folder) / "tfjs"
        try:
            concrete = owner.function.get_concrete_function()
            vendor.saved_model.save(owner, str(saved), signatures={_SIGNATURE: concrete})
            _convert(saved, target)
        except Exception as error:
            raise refusal("TensorFlow.js", error) from error
        shutil.move(target, out / MODEL_FILES["tfjs"])
    facts: Facts = {
        "tools": {name: version(name) for name in ("keras", "tensorflow", "tensorflowjs")},
        "warnings": [],
        "inputs": {spec.name: spec.name for spec in specs},
        "outputs": {name: name for name in model.outputs},
    }
    image = image_of(options)
    if image is not None:
        facts |= {"layout": image.layout, "folded": False, "input": image.model_dump(mode="json")}
    return facts


def _convert(saved: Path, target: Path) -> None:
    module: Any = importlib.import_module("tensorflowjs.converters.tf_saved_model_conversion_v2")
    module.convert_tf_saved_model(str(saved), str(target), use_structured_outputs_names=True)
    # The converter writes mappings in any order. TensorFlow.js pairs the sorted `structuredOutputKeys`
    # with the signature's outputs in the order of the file: unsorted, outputs would swap their names.
    file = target / "model.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()), sort_keys=True), encoding="utf-8")
