"""Recipe: what to convert, for whom, and what must hold, as YAML or flags say it.

Only holds and validates; `recipe_file` reads, `plan` decides, steps do the work.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from edge_runtime.contract.bundle import Format, Name, Precision
from edge_runtime.contract.task import Declared, Head, TaskSpec


class SourceKind(StrEnum):
    """What a source is; `source.detect` tells it from the path where the recipe does not."""

    TORCH = "torch"
    """A class or function by import path, with a weights file."""
    TORCH_EXPORT = "torch-export"
    """A `.pt2` of `torch.export.save`."""
    ONNX = "onnx"
    KERAS = "keras"
    """A `.keras` or `.h5` file."""
    SAVED_MODEL = "saved-model"
    TFLITE = "tflite"
    SKLEARN = "sklearn"
    """A pickle or joblib file of scikit-learn, XGBoost or LightGBM; only with `trust`."""
    XGBOOST = "xgboost"
    """XGBoost's own `.json` or `.ubj`."""
    LIGHTGBM = "lightgbm"
    """LightGBM's own text file."""
    HUGGING_FACE = "hugging-face"
    """A folder with `config.json`, safetensors and `tokenizer.json`."""


class TensorExample(Declared):
    """A tensor the source takes."""

    name: str
    shape: tuple[int, ...] = Field(description="with the batch axis, which is 1")
    dtype: Literal["float32", "float16", "int64", "int32", "uint8"] = "float32"
    dynamic: tuple[int, ...] = Field(
        default=(), description="axes that may have any length, where a target can"
    )


class Source(Declared):
    """Where the model is and how it is loaded."""

    path: Path | None = Field(
        default=None, description="the model's file or folder; the weights of a torch module"
    )
    kind: SourceKind | None = Field(default=None, description="absent: told from the path")
    module: str | None = Field(
        default=None, description="torch: `package.module:Class` or `file.py:Class`, called with `arguments`"
    )
    arguments: Mapping[str, JsonValue] = Field(default_factory=dict)
    inputs: tuple[TensorExample, ...] = Field(
        default=(), description="torch: what the module takes, in order"
    )
    outputs: tuple[str, ...] = Field(
        default=(), description="names for the outputs of a torch module, in order"
    )
    trust: bool = Field(default=False, description="load pickles, which can run any code")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.path is None and self.module is None:
            raise ValueError("needs a path, or a module")
        return self


class Samples(Declared):
    """Real inputs: for calibration, parity, golden outputs and, where labelled, accuracy.

    Args:
        path: A folder of pictures, an `.npz` with one array for each input tensor (rows first), a `.txt` or
            `.jsonl` of texts, or a `.csv` of numbers.
        labels: For pictures: a `.csv` with `file,label`, or COCO JSON; for arrays, texts and tables: an
            `.npy`, or a `.csv` with one label a row; for embeddings: `.csv` with `first,second,score` row
            numbers.
    """

    path: Path
    labels: Path | None = None
    calibration: int = Field(default=64, ge=1, description="how many are used to find ranges")
    verification: int = Field(default=64, ge=1, description="how many are used to measure parity")


class Budgets(Declared):
    """What a variant must keep to be shipped; one that is absent is not judged."""

    size_bytes: int | None = Field(default=None, ge=1)
    latency_ms: float | None = Field(default=None, gt=0, description="median, one thread, on this machine")
    memory_bytes: int | None = Field(default=None, ge=1)
    accuracy_drop: float = Field(
        default=0.01, ge=0, description="of the task's own measure, against the source; needs labels"
    )
    cosine: float = Field(default=0.99, le=1, description="median over samples, of every output")
    agreement: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="share of samples with the same top class, or of boxes found again",
    )
    slower_than_fp32: float = Field(
        default=1.0,
        gt=0,
        description="a quantized variant may take this many times fp32's time in the same engine",
    )


NOT_MADE: Mapping[str, str] = {
    "executorch": "no engine of the runtime opens it, so nothing could measure it: take tflite",
    "ncnn": "no engine of the runtime opens it, so nothing could measure it: take tflite or onnx",
}
"""Formats that people ask for, and why there is no step for them."""


def _made(asked: object) -> object:
    if isinstance(asked, str) and asked in NOT_MADE:
        raise ValueError(f"{asked} is not made: {NOT_MADE[asked]}")
    return asked


class Want(Declared):
    """Restricts what is tried for the profiles; empty means whatever the profile takes."""

    formats: tuple[Annotated[Format, BeforeValidator(_made)], ...] = ()
    precisions: tuple[Precision, ...] = ()
    palette_bits: Literal[4, 6] = Field(
        default=6, description="of palettized weights: each is one of 16 or of 64 values"
    )


class Recipe(Declared):
    """One conversion."""

    schema_version: Literal[1] = 1
    name: Name
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$")] = "1.0.0"
    licence: str = "unknown"
    source: Source
    task: TaskSpec
    samples: Samples | None = None
    tokenizer: Path | None = Field(
        default=None, description="tokenizer.json; a Hugging Face folder has its own"
    )
    profiles: tuple[str, ...] = Field(min_length=1, description="device profiles, by name or path")
    want: Want = Want()
    budgets: Budgets = Budgets()
    on_failure: Literal["leave_out", "stop"] = Field(
        default="leave_out", description="what a variant that fails the gate does to the build"
    )
    fold: bool = Field(
        default=False, description="take uint8 NHWC pictures and normalise inside the graph (vision tasks)"
    )
    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        default=None, description="(height, width) of the exported input; absent: the source's own"
    )
    head: Head | None = Field(
        default=None, description="the head after `nms: inside`, where its tensor names are to be others"
    )
    nms: Literal["outside", "inside"] = Field(
        default="outside", description="inside: suppression becomes part of the graph, where the target can"
    )
    boxes: Literal["inside", "outside"] = Field(
        default="inside",
        description="outside: a YOLOv8-style head is cut off before it makes boxes; the device makes those of"
        " the few cells with a score, which is faster",
    )
    browser_seconds: float = Field(
        default=120,
        gt=0,
        description="how long a browser may be busy with checking one variant; then it is checked with fewer"
        " samples, and its speed is not measured",
    )
    step_minutes: float = Field(default=30, gt=0, description="time limit of one step")
    step_memory_bytes: int | None = Field(default=None, ge=1, description="memory limit of one step")

    @model_validator(mode="after")
    def _one_place_for_boxes(self) -> Self:
        if self.nms == "inside" and self.boxes == "outside":
            raise ValueError("nms: inside needs the boxes inside, got boxes: outside")
        return self
